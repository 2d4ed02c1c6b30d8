"""`CandidatePairs`: pairs of rows that may be duplicates, in memory or, beyond a budget, in sorted runs of a file."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEAST_PAIRS = 1 << 16  # in memory, whatever the budget

Pairs = NDArray[np.uint64]


class CandidatePairs:
    """Distinct pairs of rows, the later row in the high half. Several threads may append at once.

    Args:
        path: the file for pairs beyond the budget; it is created only if needed.
        num_rows: number of rows.
        max_bytes: the budget for pairs in memory, and for the pairs of one piece.
    """

    def __init__(self, path: Path, num_rows: int, max_bytes: int) -> None:
        self._path = path
        self._num_rows = num_rows
        self._max_pairs = max(max_bytes // (2 * 8), LEAST_PAIRS)  # while pairs are sorted, they are there twice
        self._parts: list[Pairs] = []
        self._num_in_memory = 0
        self._ends = [0]  # of the sorted runs in the file
        self._lock = Lock()

    def append(self, pairs: Pairs) -> None:
        """Append pairs; equal ones count once."""
        with self._lock:
            self._parts.append(pairs)
            self._num_in_memory += len(pairs)
            if self._num_in_memory > self._max_pairs:
                self._join()
                if self._num_in_memory > self._max_pairs // 2:
                    self._spill()

    def pieces(self) -> Iterator[Pairs]:
        """Yield all pairs once, ascending, in pieces within the budget; a row belongs to one piece."""
        self._join()
        if len(self._ends) == 1:
            yield self._parts[0]
            return
        self._spill()
        stored = np.memmap(self._path, dtype=np.uint64, mode="r")
        runs = [stored[start:end] for start, end in pairwise(self._ends)]
        for places in self._ranges(runs, 0, self._num_rows):
            found = [np.asarray(run[low:high]) for run, (low, high) in zip(runs, places, strict=True)]
            yield distinct(np.concatenate(found))

    def _join(self) -> None:
        joined = distinct(np.concatenate([np.empty(0, dtype=np.uint64), *self._parts]))
        self._parts, self._num_in_memory = [joined], len(joined)

    def _spill(self) -> None:
        """Append the joined pairs to the file as a sorted run."""
        (pairs,) = self._parts
        with self._path.open("ab") as file:
            file.write(pairs.data)
        self._ends.append(self._ends[-1] + len(pairs))
        self._parts, self._num_in_memory = [], 0

    def _ranges(self, runs: list[Pairs], first: int, end: int) -> Iterator[list[tuple[int, int]]]:
        """Yield the places of ranges of later rows in all runs, with at most the budget of pairs, or one row, each."""
        keys = np.array([first << 32, max((end << 32) - 1, 0)], dtype=np.uint64)
        places = [
            (int(np.searchsorted(run, keys[0])), int(np.searchsorted(run, keys[1], side="right"))) for run in runs
        ]
        if sum(high - low for low, high in places) <= self._max_pairs or end - first <= 1:
            yield places
            return
        middle = (first + end) // 2
        yield from self._ranges(runs, first, middle)
        yield from self._ranges(runs, middle, end)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values in ascending order; sorts in place, which is faster than the hash of `np.unique`."""
    values.sort()
    is_first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return values[is_first]
