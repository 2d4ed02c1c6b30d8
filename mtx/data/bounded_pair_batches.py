"""Streams of pairs as Arrow record batches of bounded size, however the input is chunked.

The first columns of a batch are those of `PAIR_SCHEMA`; columns of the source and computed columns follow.
"""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from mtx.data.row_slices import row_slices
from mtx.errors import DataError
from mtx.infra.dal.chunked_columns import joined_batch
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA, ROWS_PER_BATCH

BYTES_PER_BATCH = 1 << 26  # approximate upper bound of the text that a stage holds in memory at once

OWN_COLUMNS = (
    ROW_COLUMN,
    SOURCE_COLUMN,
)  # columns that mtx adds to pairs: the row number, and the index of the pair's source in a mixture

Pairs: TypeAlias = pa.Table | Iterable[pa.RecordBatch]


def pair_batches(pairs: Pairs) -> Iterator[pa.RecordBatch]:
    """Stream pairs as record batches with the columns `src` and `tgt`, followed by all other columns unchanged.

    Large chunks are sliced without a copy, and small chunks are joined, to at most 65,536 rows and about 64 MiB. Memory
    is therefore bounded for any input size. A null text becomes an empty text. An input without pairs yields one empty
    batch, so that a stage stores the columns in any case.

    Raises:
        DataError: the column `src` or `tgt` is missing.
    """
    held: list[pa.RecordBatch] = []
    num_rows = num_bytes = 0
    yielded = False
    schema = pairs.schema if isinstance(pairs, pa.Table) else PAIR_SCHEMA  # the schema if there is no pair
    for batch in pairs.to_batches() if isinstance(pairs, pa.Table) else pairs:
        schema = batch.schema
        for piece in _batch_slices(batch):
            if held and (num_rows + piece.num_rows > ROWS_PER_BATCH or num_bytes + piece.nbytes > BYTES_PER_BATCH):
                yield _joined_batch(held)
                held, num_rows, num_bytes, yielded = [], 0, 0, True
            held.append(piece)
            num_rows += piece.num_rows
            num_bytes += piece.nbytes
    if held:
        yield _joined_batch(held)
    elif not yielded:
        yield pa.RecordBatch.from_pylist([], schema=_schema_of(schema))


def batch_without_own_columns(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a source's batch without the columns whose names mtx reserves for columns that it adds itself."""
    return batch.drop_columns([name for name in OWN_COLUMNS if name in batch.schema.names])


def _schema_of(schema: pa.Schema) -> pa.Schema:
    """Return the schema of the output batches: `src` and `tgt` as large strings, then the other columns."""
    return pa.schema([*PAIR_SCHEMA, *(field for field in schema if field.name not in PAIR_SCHEMA.names)])


def _batch_slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    missing = [name for name in PAIR_SCHEMA.names if name not in batch.schema.names]
    if missing:
        raise DataError(
            f"pairs must have the columns src and tgt, but these have {', '.join(batch.schema.names)}: "
            f"{' and '.join(missing)} is missing. Check the column names in the downloader's options"
        )
    batch = batch.select(_schema_of(batch.schema).names)
    fitting = max(1, batch.num_rows * BYTES_PER_BATCH // max(1, batch.nbytes))
    yield from row_slices(batch, min(ROWS_PER_BATCH, fitting))


def _joined_batch(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    batch = joined_batch(batches)
    schema = _schema_of(batch.schema)
    columns = [batch.column(field.name).cast(field.type) for field in schema]
    texts = [column.fill_null("") if column.null_count else column for column in columns[:2]]
    return pa.record_batch([*texts, *columns[2:]], schema)
