"""Streams of pairs as record batches, and the handling of rows that are not valid pairs of texts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, get_args

import pyarrow as pa

from mtx.errors import ConfigError, MalformedPairError, SourceError, choices
from mtx.infra.dataset.column_detection import Columns, is_text_type, pair_columns
from mtx.infra.dataset.extra_columns import conformed

PAIR_SCHEMA = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
ROWS_PER_BATCH = 65_536  # number of rows in a record batch of a source

OnError = Literal["raise", "skip"]

Reason = Literal[
    "malformed_json",  # the line is not valid JSON
    "not_an_object",  # the line is JSON, but not an object
    "repeated_key",  # the object has the key of a text more than once
    "wrong_column_count",  # the line has more or fewer columns than the first line
    "missing_text",  # the text is null, or its key is missing
    "not_text",  # the value is not text but a number, a list, …
    "invalid_utf8",  # bytes that are not valid UTF-8, or not valid in the charset that the file names
    "lone_surrogate",  # one half of a UTF-16 surrogate pair, which is not a character
    "illegal_xml",  # TMX and XLIFF: a text has a character or an entity that XML does not allow
    "malformed_entry",  # an entry of a gettext catalogue with a wrong syntax
    "wrong_type",  # a value in an extra column that is not of the column's type
]

LeftOut = Literal[
    "missing_translation",  # TMX: the unit lacks one of the two languages
    "other_language",  # XLIFF: the unit is in a part of the file that has other languages
    "further_variant",  # TMX: the unit has another text in the same language
    "untranslated",  # XLIFF and gettext: the translation is missing or empty
    "fuzzy",  # XLIFF and gettext: the translation is marked as needing review
    "obsolete",  # gettext: the entry belongs to an older version of the program
]


@dataclass
class Refusals:
    """The handling of rows that are not valid pairs of texts: raise an error, or count the row and leave it out.

    Attributes:
        on_error: `raise`: raise an error at the first invalid row. `skip`: count the row in `counts` and continue.
        counts: number of rows left out, by reason.
    """

    on_error: OnError
    counts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise ConfigError(
                f"downloader.on_error must be one of {choices(str(self.on_error), get_args(OnError))}, "
                f"but is {self.on_error!r}"
            )

    def refuse(self, reason: Reason, where: object, what: str) -> None:
        """Count the invalid row at `where` and leave it out. Raises MalformedPairError if `on_error` is `raise`.

        Args:
            reason: the key in `counts`.
            where: file and line of the row, as text or as an object that becomes the text.
            what: description of the problem, for the error message.
        """
        if self.on_error == "raise":
            raise MalformedPairError(
                f"{where}: {what}. Correct the row, or set downloader.on_error=skip to count and leave out such rows"
            )
        self.counts[reason] = self.counts.get(reason, 0) + 1

    def leave_out(self, reason: LeftOut) -> None:
        """Count a row that the file format marks as not usable, such as an untranslated entry.

        This is never an error.
        """
        self.counts[reason] = self.counts.get(reason, 0) + 1


def is_text(value: str) -> bool:
    """Return whether `value` can be encoded as UTF-8, which means that it contains no lone surrogates."""
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def record_batch(rows: Iterable[tuple[Any, ...]], schema: pa.Schema = PAIR_SCHEMA) -> pa.RecordBatch:
    """Return one record batch with the given rows.

    Args:
        rows: tuples with one value for each column of `schema`.
        schema: the columns; `PAIR_SCHEMA`, or `PAIR_SCHEMA` with extra columns.
    """
    values = list(rows)
    columns = ([row[place] for row in values] for place in range(len(schema)))
    return pa.record_batch([pa.array(column, kind) for column, kind in zip(columns, schema.types, strict=True)], schema)


def batches_of_rows(
    rows: Iterator[tuple[Any, ...]], limit: int | None, schema: pa.Schema = PAIR_SCHEMA
) -> Iterator[pa.RecordBatch]:
    """Yield record batches of at most `ROWS_PER_BATCH` rows, and at most `limit` rows in total.

    The function reads no more than `limit` rows from the iterator `rows`.
    """
    rows = islice(rows, limit)
    while chunk := list(islice(rows, ROWS_PER_BATCH)):
        yield record_batch(chunk, schema)


def pairs_of_batch(
    batch: pa.RecordBatch, columns: Columns, *, where: str, first_row: int, refusals: Refusals, limit: int | None
) -> pa.RecordBatch:
    """Convert a source's record batch into a record batch of pairs, with at most `limit` rows.

    Rows with a null text or invalid UTF-8 go to `refusals`.

    Args:
        batch: the source's rows.
        columns: the columns of the two texts and the extra columns to keep.
        where: name of the file or dataset, which starts each error message.
        first_row: number of the first row, for error messages.
        refusals: handling of invalid rows.
        limit: maximum number of rows; None: no maximum.

    Raises SourceError if a text column does not contain text, or if an extra column has a value of another type.
    """
    sides = zip(pair_columns(batch, columns), ("source", "target"), strict=True)
    texts = [_text_array(array, name, where) for array, name in sides]
    pairs = pa.record_batch(texts, PAIR_SCHEMA)
    extra = batch.select([name for name in columns.extra.names if name in batch.schema.names])
    extra = conformed(extra, columns.extra, f"{where}, rows {first_row} to {first_row + batch.num_rows - 1}")
    if any(column.null_count for column in texts) or not _is_valid(pairs):
        rows = zip(*(column.cast(pa.large_binary()).to_pylist() for column in texts), strict=True)
        kept = list(islice(_valid_rows(rows, where, first_row, refusals), limit))
        pairs = record_batch((source, target) for _, source, target in kept)
        extra = extra.take(pa.array([number - first_row for number, *_ in kept], pa.int64()))
    return pa.RecordBatch.from_arrays([*pairs.columns, *extra.columns], schema=columns.schema).slice(0, limit)


def _valid_rows(
    rows: Iterable[tuple[bytes | None, ...]], where: str, first_row: int, refusals: Refusals
) -> Iterator[tuple[int, str, str]]:
    """Yield the row number and the two texts of each valid row."""
    for number, sides in enumerate(rows, first_row):
        texts = []
        for side, value in zip(("source", "target"), sides, strict=True):
            if value is None:
                refusals.refuse("missing_text", f"{where}, row {number}", f"the {side} text is null")
                break
            try:
                texts.append(value.decode())
            except UnicodeDecodeError as error:
                what = f"the {side} text is not valid UTF-8 from its byte {error.start + 1} on"
                refusals.refuse("invalid_utf8", f"{where}, row {number}", what)
                break
        else:
            yield number, texts[0], texts[1]


def _text_array(array: pa.Array, side: str, where: str) -> pa.Array:
    if not is_text_type(array.type):
        raise SourceError(
            f"{where}: the {side} column must contain text, but has the type {array.type}. "
            f"Choose another column with downloader.{side}_column=NAME"
        )
    return array.cast(pa.large_string())


def _is_valid(batch: pa.RecordBatch) -> bool:
    try:
        batch.validate(full=True)  # detects invalid UTF-8, which reading does not check
    except pa.ArrowInvalid:
        return False
    return True


def first_pairs(batches: Iterable[pa.RecordBatch], limit: int | None) -> Iterator[pa.RecordBatch]:
    """Yield batches with the first `limit` pairs, and ask for no batch after them; None: all pairs."""
    for batch in batches:
        yield batch.slice(0, limit)
        if limit is not None:
            limit -= min(limit, batch.num_rows)
            if not limit:
                return
