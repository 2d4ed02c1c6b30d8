r"""JSON Lines: one object a line, such as `{"src": "…", "tgt": "…"}`.

Two ways to read, with the same result: pyarrow parses a whole block of lines at once; a block in which anything is
odd goes line by line through Python's json, which says what is wrong and where. Lines of white space are passed over.
As Python's json does, both take NaN and Infinity for values, and neither turns what looks like a date into one.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.json as pj

from mtx.infra.dataset.columns import Columns, Wanted, find_columns
from mtx.infra.dataset.pairs import Reason, Refusals, is_text, record_batch
from mtx.infra.dataset.sources.files import SourceFile, blocks, not_utf8
from mtx.infra.dataset.sources.reader import ReadOptions

NOTHING = "line with a JSON object"

SPACE = b" \t\r"
PART_BYTES = 64 << 10  # parsed together in a block with something odd: a few hundred lines
EXCERPT = 60  # characters of a bad line that a message shows
# What pyarrow takes for a number, and Python's json does not.
ODD_NUMBER = re.compile(rb"Inf[\s,\]}]")
MINUS_NAN = re.compile(rb"-NaN[\s,\]}]")


class _RefusedError(Exception):
    """A line is no pair: the reason, and what to say."""

    def __init__(self, reason: Reason, what: str) -> None:
        super().__init__(what)
        self.reason = reason
        self.what = what


class _TooDeepError(_RefusedError):
    """A line is nested too deeply for Python's json."""


class _Repeating(dict[str, Any]):
    """An object that has some keys more than once."""

    repeated: frozenset[str] = frozenset()


def find(file: SourceFile, wanted: Wanted, options: ReadOptions, refusals: Refusals) -> Columns | None:
    """Find the columns by the first line that is an object. Raises SourceError."""
    for number, block in blocks(file):
        for where, line in _numbered(file, number, block):
            try:
                found = _object(line)
            except _RefusedError as refused:
                refusals.refuse(refused.reason, where, refused.what)
                continue
            return find_columns({name: _text_keys(value) for name, value in found.items()}, wanted, where)
    return None


def read(
    file: SourceFile, columns: Columns, options: ReadOptions, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Stream the pairs of a file, a record batch for each block or part of it, `limit` pairs at most."""
    for number, block in blocks(file):
        whole = parse_block(block, columns)
        parts = _by_part(file, number, block, columns, refusals, limit) if whole is None else iter([whole])
        for batch in parts:
            batch = batch.slice(0, limit)
            yield batch
            if limit is not None:
                limit -= batch.num_rows
                if limit == 0:
                    return


def parse_block(block: bytes, columns: Columns) -> pa.RecordBatch | None:
    """Parse a block of lines at once; None where `parse_lines` has to look at it."""
    if not _is_regular(block):
        return None
    sides = pa.struct([(columns.source, pa.large_string()), (columns.target, pa.large_string())])
    schema = pa.schema(list(sides) if columns.parent is None else [(columns.parent, sides)])
    options = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = pj.read_json(pa.BufferReader(block), parse_options=options)
    except pa.ArrowException:  # no JSON, no text, a repeated key, a lone surrogate, …
        return None
    if table.num_rows != block.count(b"\n") + (not block.endswith(b"\n")):  # several objects on a line
        return None
    if columns.parent is not None:
        if table.column(columns.parent).null_count:
            return None
        table = table.select([columns.parent]).flatten()
    source, target = (table.column(i).combine_chunks() for i in _positions(table, columns))
    if source.null_count or target.null_count:
        return None
    return pa.record_batch([source, target], ["src", "tgt"])


def _by_part(
    file: SourceFile, number: int, block: bytes, columns: Columns, refusals: Refusals, limit: int | None
) -> Iterator[pa.RecordBatch]:
    """Parse a block in which something is odd by parts, of which only those that are odd go line by line."""
    start = 0
    while start < len(block):
        end = block.rfind(b"\n", start, start + PART_BYTES) + 1 or block.find(b"\n", start) + 1 or len(block)
        part = block[start:end]
        batch = parse_block(part, columns)
        if batch is None:
            batch = record_batch(islice(parse_lines(file, number, part, columns, refusals), limit))
        yield batch
        limit = None if limit is None else max(limit - batch.num_rows, 0)
        number += part.count(b"\n")
        start = end


def parse_lines(
    file: SourceFile, number: int, block: bytes, columns: Columns, refusals: Refusals
) -> Iterator[tuple[str, str]]:
    """Parse a block line by line; `number` is that of its first line. Raises MalformedPairError."""
    for where, line in _numbered(file, number, block):
        try:
            pair = _pair(_object(line), columns)
        except _RefusedError as refused:
            batch = parse_block(line.strip(SPACE), columns) if isinstance(refused, _TooDeepError) else None
            if batch is None:
                refusals.refuse(refused.reason, where, refused.what)
            else:
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)
        else:
            yield pair


def _is_regular(block: bytes) -> bool:
    """Tell whether every line is whole UTF-8 from `{` to `}`, so that no object can spread over lines."""
    end = b"\r\n" if block.endswith(b"\r\n") else b"\n"
    if not block.startswith(b"{") or not block.removesuffix(end).endswith(b"}"):
        return False
    num_ends = block.count(b"\n") - block.endswith(b"\n")
    if block.count(b"}\n{") + block.count(b"}\r\n{") != num_ends:
        return False
    if MINUS_NAN.search(block) or ODD_NUMBER.search(block):
        return False
    whole = pa.py_buffer(np.array([0, len(block)], dtype=np.int64))
    try:  # all of it, not only the texts; this costs a tenth of `block.decode()`
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


def _numbered(file: SourceFile, number: int, block: bytes) -> Iterator[tuple[str, bytes]]:
    """Iterate over the lines that hold anything, each with its place for messages."""
    for offset, line in enumerate(block.split(b"\n")):
        if line.strip(SPACE):
            yield f"{file.path}, line {number + offset}", line


def _object(line: bytes) -> dict[str, Any]:
    """Parse one line. Raises _RefusedError."""
    try:
        value = DECODER.decode(line.decode())
    except UnicodeDecodeError as error:
        raise _RefusedError("invalid_utf8", not_utf8(line)) from error
    except json.JSONDecodeError as error:
        what = f"this is no JSON ({error.msg} at character {error.colno}): {_excerpt(line)}"
        raise _RefusedError("malformed_json", what) from error
    except RecursionError as error:
        what = f"this JSON is nested too deeply to be read: {_excerpt(line)}"
        raise _TooDeepError("malformed_json", what) from error
    if not isinstance(value, dict):
        raise _RefusedError("not_an_object", f'this is no object like {{"src": …, "tgt": …}}: {_excerpt(line)}')
    return value


def _pair(found: dict[str, Any], columns: Columns) -> tuple[str, str]:
    """Take the two texts out of an object. Raises _RefusedError."""
    if columns.parent is not None:
        inner = _value(found, columns.parent)
        if not isinstance(inner, dict):
            what = f"{columns.parent!r} holds no object with two languages, but {_kind(inner)}"
            raise _RefusedError("not_text", what)
        found = inner
    texts = []
    for name in (columns.source, columns.target):
        value = _value(found, name)
        if not isinstance(value, str):
            raise _RefusedError("not_text", f"{name!r} holds no text, but {_kind(value)}")
        if not is_text(value):
            raise _RefusedError("lone_surrogate", f"{name!r} holds half of a surrogate pair, which is no character")
        texts.append(value)
    return texts[0], texts[1]


def _value(found: dict[str, Any], name: str) -> Any:
    if isinstance(found, _Repeating) and name in found.repeated:
        raise _RefusedError("repeated_key", f"the key {name!r} stands there more than once")
    if name not in found:
        raise _RefusedError("missing_text", f"there is no key {name!r}; present: {', '.join(found) or 'none'}")
    if found[name] is None:
        raise _RefusedError("missing_text", f"{name!r} is null")
    return found[name]


def _hook(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeating = _Repeating(found)
    repeating.repeated = frozenset(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
    return repeating


def _number(_: str) -> float:
    return 0.0  # numbers are never texts: not converting them spares time, and limits on their digits


DECODER = json.JSONDecoder(object_pairs_hook=_hook, parse_int=_number, parse_float=_number)


def _kind(value: Any) -> str:
    return {bool: "true or false", float: "a number", str: "a text", list: "a list"}.get(type(value), "an object")


def _excerpt(line: bytes) -> str:
    text = line.decode().strip()
    return repr(text[:EXCERPT] + ("…" if len(text) > EXCERPT else ""))
