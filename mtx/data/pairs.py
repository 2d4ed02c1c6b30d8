"""Pairs as a stream: record batches of `PAIR_SCHEMA` and of even size, whatever the chunks they come in."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from mtx.errors import DataError
from mtx.infra.dataset.pairs import PAIR_SCHEMA, ROWS_PER_BATCH

BYTES_PER_BATCH = 1 << 26  # about what a stage holds of the text at once, where rows are long

SOURCE = "source"  # the column that pairs of a mixture have besides, and nothing else
MIXED_SCHEMA = PAIR_SCHEMA.append(pa.field(SOURCE, pa.uint16()))  # a number: the source's place in the mixture

Pairs: TypeAlias = pa.Table | Iterable[pa.RecordBatch]


def pair_batches(pairs: Pairs) -> Iterator[pa.RecordBatch]:
    """Stream pairs as record batches of `PAIR_SCHEMA`, or of `MIXED_SCHEMA` where they have a `source` each.

    Memory is bounded at any size of the input: large chunks are cut without a copy, small ones are joined, to at
    most 65,536 rows and about 64 MiB. A null text becomes an empty one. There is always at least one batch, so that
    a stage which stores what it streams stores the columns too. Raises DataError where `src` or `tgt` is missing.
    """
    held: list[pa.RecordBatch] = []
    num_rows = num_bytes = 0
    yielded = False
    schema = pairs.schema if isinstance(pairs, pa.Table) else PAIR_SCHEMA  # of pairs that there are none of
    for batch in pairs.to_batches() if isinstance(pairs, pa.Table) else pairs:
        schema = batch.schema
        for piece in _pieces(batch):
            if held and (num_rows + piece.num_rows > ROWS_PER_BATCH or num_bytes + piece.nbytes > BYTES_PER_BATCH):
                yield _joined(held)
                held, num_rows, num_bytes, yielded = [], 0, 0, True
            held.append(piece)
            num_rows += piece.num_rows
            num_bytes += piece.nbytes
    if held:
        yield _joined(held)
    elif not yielded:
        yield pa.RecordBatch.from_pylist([], schema=_schema_of(schema))


def without_source(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch without a column of that name, which only a mixture gives its pairs."""
    return batch.drop_columns([SOURCE]) if SOURCE in batch.schema.names else batch


def _schema_of(schema: pa.Schema) -> pa.Schema:
    """Return the columns to keep: a text column that a file calls `source` is none of them."""
    is_mixed = SOURCE in schema.names and schema.field(SOURCE).type == MIXED_SCHEMA.field(SOURCE).type
    return MIXED_SCHEMA if is_mixed else PAIR_SCHEMA


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    missing = [name for name in PAIR_SCHEMA.names if name not in batch.schema.names]
    if missing:
        raise DataError(
            f"pairs have the columns src and tgt, but these have {', '.join(batch.schema.names)}: "
            f"{' and '.join(missing)} is missing. Check the columns that downloader names"
        )
    batch = batch.select(_schema_of(batch.schema).names)
    fitting = max(1, batch.num_rows * BYTES_PER_BATCH // max(1, batch.nbytes))
    step = min(ROWS_PER_BATCH, fitting)
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    batch = batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    schema = _schema_of(batch.schema)
    columns = [batch.column(field.name).cast(field.type) for field in schema]
    texts = [column.fill_null("") if column.null_count else column for column in columns[:2]]
    return pa.record_batch([*texts, *columns[2:]], schema)
