"""Store payload as JSON Lines, the file format of the original design.

Any text tool can read JSON Lines. The disadvantage is that each read parses the whole file.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.json

from mtx.errors import DamagedError, StoreError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.arrow_rows import ROWS_AT_ONCE, Rows
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.folder_file_layer import FolderFileLayer
from mtx.infra.dal.manifest_digest import VERIFY_HINT, check_digest, fields_with_digest, json_bytes, read_json
from mtx.infra.dal.protocols import PayloadInfo
from mtx.library_errors import library_reason

TYPES_SUFFIX = ".types.json"  # of the file with the column types and a digest
OLD_TYPES_SUFFIX = ".schema"  # of the file with the column types in older stores, which have no digest
BLOCK_BYTES = 1 << 26  # size of a block for the JSON parser, in bytes; a longer line cannot be read


class FileAccessLayer(FolderFileLayer):
    """File layer (`FileLayer`) that stores each payload in `location/NAME.jsonl`: UTF-8, one JSON object per line.

    The file `NAME.types.json` contains the column types. A read loads all rows of the payload into memory.
    """

    SUFFIX: ClassVar[str] = ".jsonl"

    def _write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> PayloadInfo:
        num_rows = 0
        written = _parser_schema(schema)
        with atomic_file(path) as file:
            for batch in batches:
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    rows = batch.slice(start, ROWS_AT_ONCE)
                    rows = rows if written == schema else rows.cast(written)
                    file.write(b"".join(map(_json_line, rows.to_pylist())))
                num_rows += batch.num_rows
            with atomic_file(path.with_suffix(TYPES_SUFFIX)) as types:  # written before the rows appear
                encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
                types.write(json_bytes(fields_with_digest({"columns": schema.names, "arrow_schema": encoded})))
        return PayloadInfo(num_rows=num_rows, num_bytes=file.num_bytes, sha256=file.hexdigest())

    def _parts(self, path: Path) -> list[Path]:
        return [path, path.with_suffix(TYPES_SUFFIX), path.with_suffix(OLD_TYPES_SUFFIX)]

    def _name_of(self, file_name: str) -> str | None:
        for suffix in (TYPES_SUFFIX, OLD_TYPES_SUFFIX):
            if file_name.endswith(suffix):
                file_name = file_name.removesuffix(suffix) + self.SUFFIX
        return super()._name_of(file_name)

    def _open(self, path: Path) -> Rows:
        return open_jsonl(str(path))


def open_jsonl(path: str) -> Rows:
    """Read the JSON Lines file `path` with its stored column types, and return the rows.

    Raises DamagedError if the rows or the column types cannot be read.
    """
    reopen = (open_jsonl, (path,))
    try:
        schema = _stored_schema(Path(path))
        if not Path(path).stat().st_size:
            return Rows(schema.empty_table(), reopen=reopen)
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.json.ParseOptions(
                explicit_schema=_parser_schema(schema), unexpected_field_behavior="error"
            ),
        )
        table = table.cast(schema)
        table.validate(full=True)  # pyarrow's JSON parser accepts bytes that are not UTF-8
        return Rows(table, reopen=reopen)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise_if_exhausted(error)
        raise DamagedError(f"{path} cannot be read: {library_reason(error)}. {VERIFY_HINT}") from error


def _stored_schema(path: Path) -> pa.Schema:
    """Read the column types of the JSON Lines file `path`. Raises DamagedError, OSError, ValueError, TypeError."""
    try:
        types = read_json(path.with_suffix(TYPES_SUFFIX), f"the column types of {path}")
    except FileNotFoundError:
        return pa.ipc.read_schema(pa.py_buffer(path.with_suffix(OLD_TYPES_SUFFIX).read_bytes()))
    if not isinstance(types, dict) or "arrow_schema" not in types:
        raise ValueError("the file with its column types has no key 'arrow_schema'")
    check_digest(types, f"the list of column types of {path}")
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(str(types["arrow_schema"]), validate=True)))


def _json_line(row: dict[str, object]) -> bytes:
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    if len(line) > BLOCK_BYTES:
        raise StoreError(
            f"a row needs {len(line)} bytes as JSON, but JSON Lines are read in blocks of at most {BLOCK_BYTES} bytes. "
            "Use storage=sqlite_arrow, or drop long pairs with filter.max_chars"
        )
    return line


def _parser_schema(schema: pa.Schema) -> pa.Schema:
    """Return the types in which the columns of `schema` are written to JSON and parsed from JSON.

    Raises StoreError, with the name of the column, if JSON Lines cannot store the type of a column.
    """
    fields = []
    for field in schema:
        try:
            fields.append(field.with_type(_json_type(field.type)))
        except TypeError as error:
            raise StoreError(
                f"the column {field.name!r} has the type {field.type}, which JSON Lines cannot store. Use "
                "storage=sqlite_arrow, or leave the column out with downloader.columns"
            ) from error
    return pa.schema(fields)


def _json_type(kind: pa.DataType) -> pa.DataType:
    """Return the Arrow type in which values of the type `kind` are written to JSON and parsed from JSON.

    A large list becomes a list, because pyarrow's JSON parser does not support large lists. Dates, times and decimals
    become text. Raises TypeError if JSON Lines cannot store the type.
    """
    types = pa.types
    if types.is_list(kind) or types.is_large_list(kind):
        return pa.list_(_json_type(kind.value_type))
    if types.is_struct(kind):
        return pa.struct([field.with_type(_json_type(field.type)) for field in kind])
    if types.is_timestamp(kind) or types.is_date32(kind) or types.is_decimal(kind):
        return pa.large_string()
    tests = (types.is_boolean, types.is_integer, types.is_floating, types.is_string, types.is_large_string)
    if types.is_null(kind) or any(test(kind) for test in tests):
        return kind
    raise TypeError(str(kind))
