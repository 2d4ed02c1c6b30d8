"""Rows in several record batches: their regrouping, a copy of some rows, and sequences that are read when asked for."""

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.cpu_count import granted_cores
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH

LEAST_THREADED = 32  # number of record batches that a thread reads at once
FEW = 16  # at most one of so many rows of a record batch are a few

Chunks = tuple[Sequence[pa.RecordBatch], NDArray[np.int64]]  # see `Rows.chunks`


class BatchSequence(Sequence[pa.RecordBatch]):
    """Record batches, each of which is read when it is asked for."""

    @overload
    def __getitem__(self, number: int) -> pa.RecordBatch: ...

    @overload
    def __getitem__(self, number: slice) -> list[pa.RecordBatch]: ...

    def __getitem__(self, number: int | slice) -> pa.RecordBatch | list[pa.RecordBatch]:
        if isinstance(number, slice):
            return [self[each] for each in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(f"record batch {number} of {len(self)}")
        return self._read(number)

    def some(self, number: int, rows: NDArray[np.int64], names: Sequence[str]) -> pa.RecordBatch:
        """Copy a few rows of a record batch, ascending, with the columns `names`."""
        return self[number].select(list(names)).take(pa.array(rows))

    @abstractmethod
    def _read(self, number: int) -> pa.RecordBatch:
        """Return a record batch, from 0."""


class ConcatenatedBatches(BatchSequence):
    """Several sequences of record batches, one after another. A record batch is read when it is asked for.

    Args:
        parts: the sequences.
    """

    def __init__(self, parts: Sequence[Sequence[pa.RecordBatch]]) -> None:
        self._parts = [part for part in parts if len(part)]
        self._ends = list(accumulate(len(part) for part in self._parts))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def some(self, number: int, rows: NDArray[np.int64], names: Sequence[str]) -> pa.RecordBatch:
        """Copy a few rows of a record batch; see `BatchSequence.some`."""
        part, place = self._place(number)
        return part.some(place, rows, names) if isinstance(part, BatchSequence) else super().some(number, rows, names)

    def _read(self, number: int) -> pa.RecordBatch:
        part, place = self._place(number)
        return part[place]

    def _place(self, number: int) -> tuple[Sequence[pa.RecordBatch], int]:
        """Return the part that has a record batch, and the number of the record batch in it."""
        index = bisect_right(self._ends, number)
        return self._parts[index], number - self._ends[index] + len(self._parts[index])


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
    is_ascending = bool((places[1:] >= places[:-1]).all())
    order = np.arange(len(places)) if is_ascending else np.argsort(places, kind="stable")
    ordered = places if is_ascending else places[order]
    batches, starts = chunks
    bounds = np.searchsorted(ordered, starts)

    def piece(number: int) -> pa.RecordBatch:
        chosen = ordered[bounds[number] : bounds[number + 1]] - starts[number]
        if isinstance(batches, BatchSequence) and len(chosen) * FEW <= starts[number + 1] - starts[number]:
            return batches.some(number, chosen, names)
        batch = batches[number].select(list(names))
        is_range = chosen[-1] - chosen[0] == len(chosen) - 1 and bool((chosen[1:] > chosen[:-1]).all())
        return batch.slice(int(chosen[0]), len(chosen)) if is_range else batch.take(pa.array(chosen))

    own = pa.schema([schema.field(name) for name in names])
    pieces = batches_of_threads(piece, np.flatnonzero(np.diff(bounds)).tolist())
    joined = pa.Table.from_batches(pieces, schema=own).combine_chunks()
    if not is_ascending:
        back = np.empty(len(order), dtype=np.int64)
        back[order] = np.arange(len(order))
        joined = joined.take(pa.array(back)).combine_chunks()
    return joined


def batches_of_threads(read: Callable[[int], pa.RecordBatch], numbers: Sequence[int]) -> list[pa.RecordBatch]:
    """Return the record batch of each number, read by several threads if there are many: decompression takes time."""
    if len(numbers) < LEAST_THREADED or granted_cores() < 2:
        return [read(number) for number in numbers]
    with ThreadPoolExecutor(granted_cores()) as threads:  # not kept, because threads do not survive a fork
        parts = [numbers[start : start + LEAST_THREADED] for start in range(0, len(numbers), LEAST_THREADED)]
        return [batch for some in threads.map(lambda part: [read(number) for number in part], parts) for batch in some]


def regrouped_batches(
    batches: Iterable[pa.RecordBatch], rows_per_batch: int = ROWS_PER_BATCH
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of `batches`, in order, in record batches of `rows_per_batch` rows; only the last is shorter."""
    waiting: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        waiting.append(batch)
        num_rows += batch.num_rows
        if num_rows >= rows_per_batch:
            joined = joined_batch(waiting)
            rest = num_rows % rows_per_batch
            for start in range(0, num_rows - rest, rows_per_batch):
                yield joined.slice(start, rows_per_batch)
            waiting, num_rows = [joined.slice(num_rows - rest)], rest
    if num_rows:
        yield joined_batch(waiting)


def joined_batch(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    """Return the rows of at least one record batch in one; a single one is not copied."""
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
