r"""Read pairs from JSON Lines: one object per line, such as `{"src": "…", "tgt": "…"}`.

The fast path parses a whole block of lines with pyarrow. If a block contains any irregular line, the slow path parses
it line by line with Python's `json`, which describes errors with their position. Both paths give the same result. Lines
with only white space are skipped. Both paths accept NaN and Infinity, like Python's `json`, and never convert text that
looks like a date.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import PARENT_COLUMN, Columns, RequestedColumns, find_columns
from mtx.infra.dataset.extra_columns import is_wanted, type_name
from mtx.infra.dataset.pair_stream import Refusals, is_text, record_batch
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.json_line import (
    EXCERPT_CHARS,
    ObjectWithRepeats,
    RefusedLineError,
    TooDeepLineError,
    excerpt,
    kind_name,
    parsed_object,
)
from mtx.infra.dataset.sources.local_files import SourceFile, line_blocks
from mtx.library_errors import library_reason

UNIT_NAME = "line with a JSON object"

SPACE = b" \t\r"
PART_BYTES = 64 << 10  # size of the parts into which an irregular block is split: a few hundred lines
MAX_TYPED = 10_000  # number of lines in a file's first block that decide the types of the extra columns
# Numbers that pyarrow accepts and Python's json refuses.
ODD_NUMBER = re.compile(rb"Inf[\s,\]}]")
MINUS_NAN = re.compile(rb"-NaN[\s,\]}]")


def find(file: SourceFile, wanted: RequestedColumns, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the text columns from the first object that has them.

    If `refusals` leaves out invalid lines, objects without the columns are passed over, and `read` counts them. Raises
    SourceError if the first object lacks the columns, or if all objects that are to be searched lack them.
    """
    missing: SourceError | None = None
    for number, block in line_blocks(file):
        for where, line in _numbered_lines(file, number, block):
            try:
                found = parsed_object(line)
            except RefusedLineError as refused:
                refusals.refuse(refused.reason, where, refused.what)
                continue
            try:
                columns = find_columns({name: _text_keys(value) for name, value in found.items()}, wanted, str(where))
            except SourceError as error:
                if refusals.on_error == "raise":
                    raise SourceError(
                        f"{error}. If this line is no pair but others are, set downloader.on_error=skip"
                    ) from error
                if len(_text_keys(found.get(PARENT_COLUMN))) > 2:
                    raise  # a choice among languages, which no other line makes
                missing = missing or error
                continue
            if wanted.extra == "none":
                return columns
            return columns.with_extra(_types(block, wanted, str(where)), wanted, str(where))
    if missing is not None:
        raise missing
    return None


def _types(block: bytes, wanted: RequestedColumns, where: str) -> pa.Schema:
    """Return the keys in the file's first lines and the types of their values. Raises SourceError if types differ."""
    values: dict[str, list[Any]] = {}
    for line in block.split(b"\n", MAX_TYPED)[:MAX_TYPED]:
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):  # `read` reports the invalid line
            continue
        for name, value in found.items() if isinstance(found, dict) else ():
            values.setdefault(name, []).append(value)
    fields = []
    for name, some in values.items():
        kind = pa.null()
        if is_wanted(wanted.extra, name):
            try:
                kind = pa.array(some).type  # `infer_type` would use only the first values
            except (pa.ArrowException, OverflowError, UnicodeError) as error:
                if not (isinstance(wanted.extra, Mapping) and wanted.extra[name]):
                    raise SourceError(
                        f"{where}: the column {name!r} has values of different types, {_two_types(some)}. List the "
                        "columns to keep, without this column, with 'downloader.columns=[NAME]'"
                    ) from error
        fields.append(pa.field(name, kind))
    return pa.schema(fields)


def _two_types(values: Sequence[Any]) -> str:
    """Return two values of different types, as `such as 1 and 'a'`; one value if all have one type."""
    shown = {type(value): excerpt(json.dumps(value).encode()) for value in reversed(values) if value is not None}
    return f"such as {' and '.join(list(shown.values())[-2:][::-1])}"


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of a file, at most `limit`, in one record batch for each block or part of a block."""
    for number, block in line_blocks(file):
        whole = parse_block(block, columns)
        parts = _part_batches(file, number, block, columns, refusals, limit) if whole is None else iter([whole])
        for batch in parts:
            batch = batch.slice(0, limit)
            yield batch
            if limit is not None:
                limit -= batch.num_rows
                if limit == 0:
                    return


def parse_block(block: bytes, columns: Columns) -> pa.RecordBatch | None:
    """Parse a block of lines at once; return None if `parse_lines` must parse the block line by line."""
    if not _is_regular(block):
        return None
    sides = pa.struct([(columns.source, pa.large_string()), (columns.target, pa.large_string())])
    schema = pa.schema([*(sides if columns.parent is None else [(columns.parent, sides)]), *columns.extra])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(pa.BufferReader(block), parse_options=options)
    except pa.ArrowException:  # invalid JSON, a value that is not text, a repeated key, a lone surrogate, …
        return None
    if table.num_rows != block.count(b"\n") + (not block.endswith(b"\n")):  # a line has several objects
        return None
    extra = [table.column(name).combine_chunks() for name in columns.extra.names]
    if columns.parent is not None:
        if table.column(columns.parent).null_count:
            return None
        table = table.select([columns.parent]).flatten()
    source, target = (table.column(i).combine_chunks() for i in _positions(table, columns))
    if source.null_count or target.null_count:
        return None
    return pa.RecordBatch.from_arrays([source, target, *extra], schema=columns.schema)


def _part_batches(
    file: SourceFile, number: int, block: bytes, columns: Columns, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Yield the pairs of an irregular block, which is split into parts.

    Only the irregular parts are parsed line by line.
    """
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + PART_BYTES) + 1 or block.find(b"\n", start) + 1 or len(block)
        part = block[start:end]
        batch = parse_block(part, columns)
        if batch is None:
            batch = record_batch(islice(parse_lines(file, number, part, columns, refusals), limit), columns.schema)
        yield batch
        limit = None if limit is None else max(limit - batch.num_rows, 0)
        number += part.count(b"\n")
        start = end


def parse_lines(
    file: SourceFile, number: int, block: bytes, columns: Columns, refusals: Refusals
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a block, parsed line by line. Raises MalformedPairError for an invalid line.

    Args:
        file: the file that contains the block.
        number: line number of the block's first line.
        block: the lines.
        columns: the columns of the texts and the extra columns.
        refusals: handling of invalid lines.
    """
    for where, line in _numbered_lines(file, number, block):
        try:
            row = *_text_pair(parsed_object(line), columns), *_extra_values(line, columns)
        except RefusedLineError as refused:
            batch = parse_block(line.strip(SPACE), columns) if isinstance(refused, TooDeepLineError) else None
            if batch is None:
                refusals.refuse(refused.reason, where, refused.what)
            else:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        else:
            yield row


def _extra_values(line: bytes, columns: Columns) -> list[Any]:
    """Return a line's values in the extra columns, converted like in `parse_block`. Raises RefusedLineError."""
    if not columns.extra:
        return []
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RefusedLineError(
            "wrong_type", f"the values of the extra columns cannot be read: {library_reason(error)}"
        ) from error
    values = []
    for field in columns.extra:
        value = found.get(field.name)
        try:
            options = pj.ParseOptions(explicit_schema=pa.schema([field]))
            parsed = pj.read_json(pa.BufferReader(json.dumps({field.name: value}).encode()), parse_options=options)
        except pa.ArrowException as error:
            raise RefusedLineError(
                "wrong_type",
                f"the column {field.name!r} has the type {type_name(field.type)}, but here it has {kind_name(value)} "
                f"({str(value)[:EXCERPT_CHARS]!r}). Set another type with 'downloader.columns={{NAME: TYPE}}', or "
                "leave the column out",
            ) from error
        values.append(parsed.column(0)[0].as_py())
    return values


def _is_regular(block: bytes) -> bool:
    """Return whether each line is valid UTF-8 and runs from `{` to `}`, so that no object spans several lines."""
    end = b"\r\n" if block.endswith(b"\r\n") else b"\n"
    if not block.startswith(b"{") or not block.removesuffix(end).endswith(b"}"):
        return False
    num_ends = block.count(b"\n") - block.endswith(b"\n")
    if block.count(b"}\n{") + block.count(b"}\r\n{") != num_ends:
        return False
    if MINUS_NAN.search(block) or ODD_NUMBER.search(block):
        return False
    whole = pa.py_buffer(np.array([0, len(block)], dtype=np.int64))
    try:  # validates the whole block; takes a tenth of the time of `block.decode()`
        pa.LargeStringArray.from_buffers(1, whole, pa.py_buffer(block)).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _text_keys(value: Any) -> list[str]:
    return (
        [key for key, text in value.items() if text is None or isinstance(text, str)] if isinstance(value, dict) else []
    )


def _positions(table: pa.Table, columns: Columns) -> list[int]:
    prefix = "" if columns.parent is None else f"{columns.parent}."
    return [table.schema.get_field_index(f"{prefix}{name}") for name in (columns.source, columns.target)]


@dataclass(frozen=True)
class _LinePlace:
    """The place of a line in messages. In a part of a file, the lines before are counted only for a message."""

    file: SourceFile
    number: int

    def __str__(self) -> str:
        return f"{self.file.name}, line {self.file.lines_before + self.number}"


def _numbered_lines(file: SourceFile, number: int, block: bytes) -> Iterator[tuple[_LinePlace, bytes]]:
    """Yield the lines that are not empty, each with its file and line number for error messages."""
    for offset, line in enumerate(block.split(b"\n")):
        if line.strip(SPACE):
            yield _LinePlace(file, number + offset), line


def _text_pair(found: dict[str, Any], columns: Columns) -> tuple[str, str]:
    """Return the two texts in an object. Raises RefusedLineError if a text is missing or not valid."""
    if columns.parent is not None:
        inner = _text_value(found, columns.parent)
        if not isinstance(inner, dict):
            what = f"{columns.parent!r} must be an object with two languages, but is {kind_name(inner)}"
            raise RefusedLineError("not_text", what)
        found = inner
    texts = []
    for name in (columns.source, columns.target):
        value = _text_value(found, name)
        if not isinstance(value, str):
            raise RefusedLineError("not_text", f"{name!r} must be a text, but is {kind_name(value)}")
        if not is_text(value):
            raise RefusedLineError(
                "lone_surrogate", f"{name!r} contains half of a surrogate pair, which is not a character"
            )
        texts.append(value)
    return texts[0], texts[1]


def _text_value(found: dict[str, Any], name: str) -> Any:
    if isinstance(found, ObjectWithRepeats) and name in found.repeated:
        raise RefusedLineError("repeated_key", f"the key {name!r} occurs more than once")
    if name not in found:
        raise RefusedLineError("missing_text", f"there is no key {name!r}; present: {', '.join(found) or 'none'}")
    if found[name] is None:
        raise RefusedLineError("missing_text", f"{name!r} is null")
    return found[name]
