"""Pairs as a source hands them on: record batches, and what becomes of a row that is no pair of texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, get_args

import pyarrow as pa

from mtx.errors import ConfigError, MalformedPairError, SourceError, choices
from mtx.infra.dataset.columns import is_text_type

PAIR_SCHEMA = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
ROWS_PER_BATCH = 65_536  # rows a source hands on together

OnError = Literal["raise", "skip"]

Reason = Literal[
    "malformed_json",  # the line is no JSON
    "not_an_object",  # JSON, but no object
    "repeated_key",  # the object says twice what the text is
    "wrong_column_count",  # more or fewer columns than the first line
    "missing_text",  # null, or no such key
    "not_text",  # a number, a list, …
    "invalid_utf8",  # bytes that are no UTF-8, or not of the charset that the file names
    "lone_surrogate",  # half of a UTF-16 pair, which no text can hold
    "malformed_entry",  # of a gettext catalogue
]

LeftOut = Literal[
    "missing_translation",  # TMX: the unit lacks one of the two languages
    "further_variant",  # TMX: one more text of a language in the same unit
    "untranslated",  # XLIFF and gettext: no translation yet, or an empty one
    "fuzzy",  # the same: translated, but marked as still to be looked at
    "obsolete",  # gettext: kept from an older version
]


@dataclass
class Refusals:
    """Rows that are no pair of texts: an error, or counted and left out.

    Attributes:
        on_error: `raise` stops at the first; `skip` counts it in `counts` and goes on.
        counts: number of rows left out, by reason.
    """

    on_error: OnError
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise ConfigError(
                f"downloader.on_error is one of {choices(str(self.on_error), get_args(OnError))}, "
                f"but is {self.on_error!r}"
            )

    def refuse(self, reason: Reason, where: str, what: str) -> None:
        """Leave out the row at `where`. Raises MalformedPairError under `raise`."""
        if self.on_error == "raise":
            raise MalformedPairError(
                f"{where}: {what}. Correct it, or leave such rows out, counted, with downloader.on_error=skip"
            )
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def leave_out(self, reason: LeftOut) -> None:
        """Count what translators' files hold beside pairs by their nature, which is no error."""
        self.counts[reason] = self.counts.get(reason, 0) + 1


def is_text(value: str) -> bool:
    """Tell whether `value` can be written as UTF-8, that is, holds no lone surrogate."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def record_batch(rows: Iterable[tuple[str, str]]) -> pa.RecordBatch:
    """Make one record batch of `PAIR_SCHEMA`."""
    pairs = list(rows)
    sides = ([pair[side] for pair in pairs] for side in (0, 1))
    return pa.record_batch([pa.array(texts, pa.large_string()) for texts in sides], PAIR_SCHEMA)


def batches_of_rows(rows: Iterator[tuple[str, str]], limit: int | None) -> Iterator[pa.RecordBatch]:
    """Form record batches of at most `ROWS_PER_BATCH` rows, `limit` rows in all; no row beyond is asked for."""
    rows = islice(rows, limit)
    while chunk := list(islice(rows, ROWS_PER_BATCH)):
        yield record_batch(chunk)


def regrouped(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Cut record batches of any size into ones of `ROWS_PER_BATCH` rows, the last one shorter."""
    waiting: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        waiting.append(batch)
        num_rows += batch.num_rows
        if num_rows >= ROWS_PER_BATCH:
            joined = _joined(waiting)
            rest = num_rows % ROWS_PER_BATCH
            for start in range(0, num_rows - rest, ROWS_PER_BATCH):
                yield joined.slice(start, ROWS_PER_BATCH)
            waiting, num_rows = [joined.slice(num_rows - rest)], rest
    if num_rows:
        yield _joined(waiting)


def pairs_of_arrays(
    source: pa.Array, target: pa.Array, *, where: str, first_row: int, refusals: Refusals, limit: int | None
) -> pa.RecordBatch:
    """Make one record batch of two columns of any text type, at most `limit` rows.

    Nulls and bytes that are no UTF-8 are refused; `first_row` is the number of the first row for messages. Raises
    SourceError where a column holds no text.
    """
    columns = [_as_text(array, name, where) for array, name in ((source, "source"), (target, "target"))]
    batch = pa.record_batch(columns, PAIR_SCHEMA)
    if not any(column.null_count for column in columns) and _is_valid(batch):
        return batch.slice(0, limit)
    rows = zip(*(column.cast(pa.large_binary()).to_pylist() for column in columns), strict=True)
    return record_batch(islice(_rows(rows, where, first_row, refusals), limit))


def _rows(
    rows: Iterable[tuple[bytes | None, ...]], where: str, first_row: int, refusals: Refusals
) -> Iterator[tuple[str, str]]:
    for number, sides in enumerate(rows, first_row):
        texts = []
        for side, value in zip(("source", "target"), sides, strict=True):
            if value is None:
                refusals.refuse("missing_text", f"{where}, row {number}", f"the {side} text is null")
                break
            try:
                texts.append(value.decode())
            except UnicodeDecodeError as error:
                what = f"the {side} text is no UTF-8 from its byte {error.start + 1} on"
                refusals.refuse("invalid_utf8", f"{where}, row {number}", what)
                break
        else:
            yield texts[0], texts[1]


def _as_text(array: pa.Array, side: str, where: str) -> pa.Array:
    if not is_text_type(array.type):
        raise SourceError(
            f"{where}: the {side} column holds {array.type}, but a column of text is needed. "
            f"Name the column with downloader.{side}_column=NAME"
        )
    return array.cast(pa.large_string())


def _is_valid(batch: pa.RecordBatch) -> bool:
    try:
        batch.validate(full=True)  # files are not checked for valid UTF-8 when they are read
    except pa.ArrowInvalid:
        return False
    return True


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches, PAIR_SCHEMA).combine_chunks().to_batches()[0]
