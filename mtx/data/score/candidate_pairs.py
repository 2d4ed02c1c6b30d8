"""`CandidatePairs`: pairs of rows that may be duplicates, in memory or, beyond a budget, in sorted runs of a file."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEAST_PAIRS = 1 << 16  # in memory, whatever the budget
NUM_PARTS = 256  # of the file, each of which is read by itself

Pairs = NDArray[np.uint64]


class CandidatePairs:
    """Distinct pairs of rows, the later row in the high half. Several threads may append at once.

    Args:
        path: the file for pairs beyond the budget; it is created only if needed.
        num_rows: number of rows.
        max_bytes: the budget for pairs in memory, and for those of a piece, if its rows have equally many.
    """

    def __init__(self, path: Path, num_rows: int, max_bytes: int) -> None:
        self._path = path
        self._max_pairs = max(max_bytes // (2 * 8), LEAST_PAIRS)  # while pairs are sorted, they are there twice
        self._parts: list[Pairs] = []
        self._num_in_memory = 0
        self._edges = np.linspace(0, num_rows, NUM_PARTS + 1).astype(np.int64)  # of the parts: ranges of later rows
        self._runs: list[NDArray[np.int64]] = []  # for each sorted run in the file, where each part begins, and the end
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
        """Yield all pairs once, ascending, in pieces of about the budget; a later row belongs to one piece."""
        self._join()
        if not self._runs:
            yield self._parts[0]
            return
        self._spill()
        for part, (first, end) in enumerate(pairwise(self._edges.tolist())):
            size = int(sum(run[part + 1] - run[part] for run in self._runs))
            num_pieces = min(-(-size // self._max_pairs), end - first)
            rows = np.linspace(first, end, num_pieces + 1).astype(np.int64).tolist() if size else []
            for low, high in pairwise(rows):
                yield distinct(
                    np.concatenate([self._stored(*run[part : part + 2].tolist(), low, high) for run in self._runs])
                )

    def _stored(self, start: int, end: int, first_row: int, end_row: int) -> Pairs:
        """Return the pairs of a part of a run whose later row is in a range."""
        found = np.fromfile(self._path, dtype=np.uint64, count=end - start, offset=8 * start)
        low, high = np.searchsorted(found, _keys([first_row, end_row]))
        return found[low:high].copy()  # frees the others

    def _join(self) -> None:
        joined = distinct(np.concatenate([np.empty(0, dtype=np.uint64), *self._parts]))
        self._parts, self._num_in_memory = [joined], len(joined)

    def _spill(self) -> None:
        """Append the joined pairs to the file as a sorted run."""
        (pairs,) = self._parts
        with self._path.open("ab") as file:
            file.write(pairs.data)
        start = self._runs[-1][-1] if self._runs else 0
        self._runs.append(start + np.searchsorted(pairs, _keys(self._edges)))
        self._parts, self._num_in_memory = [], 0


def _keys(rows: ArrayLike) -> Pairs:
    """Return the lowest pair of each later row: uint64 [rows]."""
    return np.asarray(rows).astype(np.uint64) << np.uint64(32)


def distinct(values: NDArray[Any]) -> NDArray[Any]:
    """Return the distinct values in ascending order; sorts in place, which is faster than the hash of `np.unique`."""
    values.sort()
    is_first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_first[1:])
    return values[is_first]
