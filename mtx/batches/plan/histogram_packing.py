"""Pack sequences into rows of a fixed number of positions, by best fit on the histogram of their lengths.

The method is longest-pack-first histogram packing (Krell, Kosec, Perez and Fitzgibbon 2021, "Efficient Sequence Packing
without Cross-contamination: Accelerating Large Language Models without Impacting Performance", arXiv:2107.02027). Its
time depends on the number of different lengths, not on the number of sequences.
"""

from bisect import bisect_left, insort
from dataclasses import dataclass

import numpy as np

from mtx.batches.plan.planner import Int

Lens = tuple[int, ...]


@dataclass(frozen=True)
class RowPattern:
    """Rows that hold sequences of the same lengths.

    Attributes:
        num_rows: number of these rows, at least 1.
        lengths: length of each sequence in a row, descending.
    """

    num_rows: int
    lengths: Lens


def row_patterns(counts: Int, capacity: int) -> list[RowPattern]:
    """Return the rows that hold all sequences of a histogram, each sequence whole and in one row.

    The longest sequences come first. Each goes into the row with the least free room that suffices, else into a new
    row. Deterministic.

    Args:
        counts: int64 [longest + 1], number of sequences of each length from 0; there is none of length 0.
        capacity: positions of a row, at least the longest length.
    """
    rooms = _OpenRows()
    for length in range(len(counts) - 1, 0, -1):
        left = int(counts[length])
        while left:
            room, num_rows, lengths = rooms.pop_best(length) or (capacity, left, ())
            each = room // length
            num_full = min(num_rows, left // each)
            rooms.add(room - each * length, num_full, lengths + (length,) * each)
            left -= num_full * each
            if (rest := left if num_full < num_rows else 0) and lengths:
                rooms.add(room - rest * length, 1, lengths + (length,) * rest)
                rooms.add(room, num_rows - num_full - 1, lengths)
                left = 0
            elif rest:
                rooms.add(room - rest * length, 1, (length,) * rest)
                left = 0
            elif lengths:
                rooms.add(room, num_rows - num_full, lengths)
    return rooms.patterns()


class _OpenRows:
    """Rows by their free room: the number of rows with each list of lengths."""

    def __init__(self) -> None:
        self._rooms: list[int] = []  # different values, ascending
        self._rows: dict[int, list[tuple[int, Lens]]] = {}

    def add(self, room: int, num_rows: int, lengths: Lens) -> None:
        if not num_rows:
            return
        if room not in self._rows:
            insort(self._rooms, room)
            self._rows[room] = []
        self._rows[room].append((num_rows, lengths))

    def pop_best(self, length: int) -> tuple[int, int, Lens] | None:
        """Remove and return rows with the least free room of at least `length`; None if no row has so much."""
        at = bisect_left(self._rooms, length)
        if at == len(self._rooms):
            return None
        room = self._rooms[at]
        num_rows, lengths = self._rows[room].pop()
        if not self._rows[room]:
            del self._rows[room], self._rooms[at]
        return room, num_rows, lengths

    def patterns(self) -> list[RowPattern]:
        return [RowPattern(number, lengths) for room in self._rooms for number, lengths in self._rows[room]]


def pattern_rows(patterns: list[RowPattern]) -> tuple[Int, Int]:
    """Return the length of each sequence of all rows, row after row, int64 [n], and the offset of each row in it."""
    empty = np.empty(0, dtype=np.int64)
    lengths = [np.tile(np.array(each.lengths, dtype=np.int64), each.num_rows) for each in patterns]
    sizes = [np.full(each.num_rows, len(each.lengths), dtype=np.int64) for each in patterns]
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate([empty, *sizes]))])
    return np.concatenate([empty, *lengths]), offsets
