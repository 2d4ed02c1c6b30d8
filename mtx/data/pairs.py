"""Pairs as a stream: record batches of `PAIR_SCHEMA` and of even size, whatever the chunks they come in."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import pyarrow as pa

from mtx.errors import DataError
from mtx.infra.dataset.pairs import PAIR_SCHEMA, ROWS_PER_BATCH

BYTES_PER_BATCH = 1 << 26  # about what a stage holds of the text at once, where rows are long

Pairs: TypeAlias = pa.Table | Iterable[pa.RecordBatch]


def pair_batches(pairs: Pairs) -> Iterator[pa.RecordBatch]:
    """Stream pairs as record batches of `PAIR_SCHEMA`.

    Memory is bounded at any size of the input: large chunks are cut without a copy, small ones are joined, to at
    most 65,536 rows and about 64 MiB. A null text becomes an empty one. There is always at least one batch, so that
    a stage which stores what it streams stores the columns too. Raises DataError where `src` or `tgt` is missing.
    """
    held: list[pa.RecordBatch] = []
    num_rows = num_bytes = 0
    yielded = False
    for batch in pairs.to_batches() if isinstance(pairs, pa.Table) else pairs:
        for piece in _pieces(batch):
            if held and (num_rows + piece.num_rows > ROWS_PER_BATCH or num_bytes + piece.nbytes > BYTES_PER_BATCH):
                yield _joined(held)
                held, num_rows, num_bytes, yielded = [], 0, 0, True
            held.append(piece)
            num_rows += piece.num_rows
            num_bytes += piece.nbytes
    if held or not yielded:
        yield _joined(held)


def _pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    if not batch.num_rows:
        return
    missing = [name for name in PAIR_SCHEMA.names if name not in batch.schema.names]
    if missing:
        raise DataError(
            f"pairs have the columns src and tgt, but these have {', '.join(batch.schema.names)}: "
            f"{' and '.join(missing)} is missing. Check the columns that downloader names"
        )
    batch = batch.select(PAIR_SCHEMA.names)
    fitting = max(1, batch.num_rows * BYTES_PER_BATCH // max(1, batch.nbytes))
    step = min(ROWS_PER_BATCH, fitting)
    for start in range(0, batch.num_rows, step):
        yield batch.slice(start, step)


def _joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    if not batches:
        return pa.RecordBatch.from_pylist([], schema=PAIR_SCHEMA)
    batch = batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    columns = [batch.column(name).cast(field.type) for name, field in zip(PAIR_SCHEMA.names, PAIR_SCHEMA, strict=True)]
    return pa.record_batch([column.fill_null("") if column.null_count else column for column in columns], PAIR_SCHEMA)
