"""Payload as JSON Lines, the original's choice: readable with any tool, at the price of parsing it at each read."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pyarrow.json

from mtx.errors import DamagedError, StoreError
from mtx.infra.dal.base import PayloadInfo, atomic_file
from mtx.infra.dal.folder import FolderFileLayer
from mtx.infra.dal.rows import ROWS_AT_ONCE, Rows
from mtx.infra.dal.sealed import VERIFY, check_seal, json_bytes, read_json, sealed

TYPES_SUFFIX = ".types.json"  # beside the rows: the column types, sealed
OLD_TYPES_SUFFIX = ".schema"  # the same in older stores, without a digest
BLOCK_BYTES = 1 << 26  # parsed together; also the longest line that can be read


class FileAccessLayer(FolderFileLayer):
    """Payload by name (`FileLayer`) in `location/NAME.jsonl`, one JSON object a line, UTF-8.

    The column types stand beside it in `NAME.types.json`. Rows are held in memory once read.
    """

    SUFFIX: ClassVar[str] = ".jsonl"

    def _write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> PayloadInfo:
        num_rows = 0
        with atomic_file(path) as file:
            for batch in batches:
                for start in range(0, batch.num_rows, ROWS_AT_ONCE):
                    file.write(b"".join(map(_line, batch.slice(start, ROWS_AT_ONCE).to_pylist())))
                num_rows += batch.num_rows
            with atomic_file(path.with_suffix(TYPES_SUFFIX)) as types:  # there before the rows appear
                encoded = base64.b64encode(schema.serialize().to_pybytes()).decode()
                types.write(json_bytes(sealed({"columns": schema.names, "arrow_schema": encoded})))
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
    """Read a JSON Lines file and its schema. Raises DamagedError."""
    reopen = (open_jsonl, (path,))
    try:
        schema = _schema(Path(path))
        if not Path(path).stat().st_size:
            return Rows(schema.empty_table(), reopen=reopen)
        table = pa.json.read_json(
            path,
            read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pa.json.ParseOptions(explicit_schema=_parsed(schema), unexpected_field_behavior="error"),
        )
        table = table.cast(schema)
        table.validate(full=True)  # the parser takes any bytes for UTF-8
        return Rows(table, reopen=reopen)
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        raise DamagedError(f"{path} cannot be read: {error}. {VERIFY}") from error


def _schema(path: Path) -> pa.Schema:
    """Read the column types beside a file of rows. Raises DamagedError, OSError, ValueError, TypeError."""
    try:
        types = read_json(path.with_suffix(TYPES_SUFFIX), f"the column types of {path}")
    except FileNotFoundError:
        return pa.ipc.read_schema(pa.py_buffer(path.with_suffix(OLD_TYPES_SUFFIX).read_bytes()))
    if not isinstance(types, dict) or "arrow_schema" not in types:
        raise ValueError("its column types are not there")
    check_seal(types, f"{path}: its list of column types")
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(str(types["arrow_schema"]), validate=True)))


def _line(row: dict[str, object]) -> bytes:
    line = json.dumps(row, ensure_ascii=False).encode() + b"\n"
    if len(line) > BLOCK_BYTES:
        raise StoreError(
            f"a row of {len(line)} bytes as JSON is longer than the {BLOCK_BYTES} that JSON Lines are read with. "
            "Store it with storage=sqlite_arrow, or drop long pairs with filter.max_chars"
        )
    return line


def _parsed(schema: pa.Schema) -> pa.Schema:
    """Return the types that pyarrow's JSON parser fills for `schema`: it knows no large lists."""
    fields = (
        field.with_type(pa.list_(field.type.value_type)) if pa.types.is_large_list(field.type) else field
        for field in schema
    )
    return pa.schema(fields)
