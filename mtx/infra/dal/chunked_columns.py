"""Values of rows that lie in several record batches: a copy of some rows, and record batches of several sequences."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Chunks = tuple[Sequence[pa.RecordBatch], NDArray[np.int64]]  # see `Rows.chunks`


class ConcatenatedBatches(Sequence[pa.RecordBatch]):
    """Several sequences of record batches, one after another. A record batch is read when it is asked for.

    Args:
        parts: the sequences.
    """

    def __init__(self, parts: Sequence[Sequence[pa.RecordBatch]]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, number: int) -> pa.RecordBatch: ...

    @overload
    def __getitem__(self, number: slice) -> list[pa.RecordBatch]: ...

    def __getitem__(self, number: int | slice) -> pa.RecordBatch | list[pa.RecordBatch]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"record batch {number} of {len(self)}")
        part = bisect_right(self._ends, number)
        return self._parts[part][number - self._ends[part] + len(self._parts[part])]


def concatenated(parts: Sequence[Chunks]) -> Chunks:
    """Return the chunks of several rows, one after another."""
    sizes = np.concatenate([np.zeros(1, dtype=np.int64), *(np.diff(starts) for _, starts in parts)])
    return ConcatenatedBatches([batches for batches, _ in parts]), np.cumsum(sizes, dtype=np.int64)


def copied_columns(chunks: Chunks, schema: pa.Schema, places: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
    """Copy the rows at some places, in the order of `places`, into a table of one chunk. Each chunk is read once.

    Args:
        chunks: the record batches and where they begin.
        schema: the types of the columns.
        places: positions in the concatenation of the record batches.
        names: names of the columns to copy.
    """
    order = np.argsort(places, kind="stable")
    ordered = places[order]
    batches, starts = chunks
    bounds = np.searchsorted(ordered, starts)
    pieces = [
        batches[number]
        .select(list(names))
        .take(pa.array(ordered[bounds[number] : bounds[number + 1]] - starts[number]))
        for number in np.flatnonzero(np.diff(bounds)).tolist()
    ]
    own = pa.schema([schema.field(name) for name in names])
    joined = pa.Table.from_batches(pieces, schema=own).combine_chunks()
    if not np.array_equal(order, np.arange(len(order))):
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        joined = joined.take(pa.array(back)).combine_chunks()
    return joined
