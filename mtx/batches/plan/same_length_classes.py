"""Length classes: all rows with the same pair of source and target lengths form one class.

A corpus of any size has some ten thousand classes, so planners work on classes and their counts instead of rows. Rows
of one class can replace each other in any batch: each epoch gets new batches this way, with the same padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Int, Lengths, Rows

ClassIds = NDArray[np.uint16]

MAX_CLASSES = 2**16  # class ids are uint16, since numpy sorts 16-bit integers in linear time
EXACT_BITS = 8  # significant bits of a length; lengths up to 256 are exact; see length_classes
CHUNK_ROWS = 2**20  # rows processed at a time, which limits temporary int64 arrays to 8 MiB each
SHUFFLE_BLOCK_ROWS = 2**17  # rows shuffled at a time: 0.5 MiB fits into a core's cache


@dataclass(frozen=True)
class LengthClasses:
    """Rows grouped by length class.

    Attributes:
        rows: int32 [n], the rows of class 0, then those of class 1, and so on; ascending within each class.
        source: int64 [number of classes], number of source positions that hold any row of the class; at least 1.
        target: int64 [number of classes], number of target positions that hold any row of the class; at least 1.
        count: int64 [number of classes], number of rows of the class; at least 1.
    """

    rows: Rows
    source: Int
    target: Int
    count: Int

    def __len__(self) -> int:
        return len(self.count)

    def rows_in(self, order: Int, random: np.random.Generator | None) -> Rows:
        """Return all rows, int32 [n], class by class in `order`; `random` shuffles the rows within each class."""
        end = np.cumsum(self.count)
        start = end - self.count
        before = np.cumsum(self.count[order]) - self.count[order]
        blocks = np.split(order, np.flatnonzero(np.diff(before // SHUFFLE_BLOCK_ROWS)) + 1)
        placed = np.empty_like(self.rows)
        filled = 0
        for block in blocks:
            pieces = [self.rows[a:b] for a, b in zip(start[block].tolist(), end[block].tolist(), strict=True)]
            rows = np.concatenate([self.rows[:0], *pieces])
            if random is not None:
                drawn = random.permutation(len(rows))
                name = np.repeat(np.arange(len(block), dtype=np.uint16), self.count[block])
                rows = rows[drawn[np.argsort(name[drawn], kind="stable")]]
            placed[filled : filled + len(rows)] = rows
            filled += len(rows)
        return placed


def length_classes(lengths: Lengths, rows: Rows, *, multiple: int, limit: int) -> LengthClasses:
    """Group `rows`, int32 [n] and ascending, by length class.

    Lengths are rounded up to `multiple`; 0 becomes `multiple`. A length that needs more than 8 bits is also rounded up
    to 8 significant bits (257 becomes 258, 1001 becomes 1004). No length becomes greater than `limit`, which no row
    exceeds. If there are more than 65,536 classes, fewer bits are kept. So `source` and `target` of a class are never
    below the length of a row of the class. They are exact for lengths up to 256.
    """
    for bits in range(EXACT_BITS, 0, -1):
        source_table, source_sizes = _class_tables(lengths.source, multiple, limit, bits)
        target_table, target_sizes = _class_tables(lengths.target, multiple, limit, bits)
        count = np.zeros(len(source_sizes) * len(target_sizes), dtype=np.int64)
        for part in row_chunks(rows):
            code = source_table[lengths.source[part]] * len(target_sizes) + target_table[lengths.target[part]]
            count += np.bincount(code, minlength=len(count))
        present = np.flatnonzero(count)
        if len(present) <= MAX_CLASSES:
            break
    name = np.zeros(len(count), dtype=np.uint16)
    name[present] = np.arange(len(present))
    count = count[present]

    # Counting sort: each chunk is sorted by class, then its rows go to the next free places of their classes.
    grouped = np.empty_like(rows)
    place = np.cumsum(count) - count
    for part in row_chunks(rows):
        key = name[source_table[lengths.source[part]] * len(target_sizes) + target_table[lengths.target[part]]]
        order = np.argsort(key, kind="stable")
        here = np.bincount(key, minlength=len(count))
        grouped[np.repeat(place - (np.cumsum(here) - here), here) + np.arange(len(order))] = part[order]
        place += here
    return LengthClasses(
        grouped, source_sizes[present // len(target_sizes)], target_sizes[present % len(target_sizes)], count
    )


def _class_tables(lengths: NDArray[np.int32], multiple: int, limit: int, bits: int) -> tuple[Int, Int]:
    """Return, for one side, a table from length to class number, and the number of positions of each class."""
    longest = min(limit, int(lengths.max(initial=0)))
    positions = -(-np.maximum(np.arange(longest + 1), 1) // multiple) * multiple
    step = np.left_shift(1, np.maximum(np.frexp(positions)[1] - bits, 0).astype(np.int64))
    sizes, table = np.unique(np.minimum(-(-positions // step) * step, limit), return_inverse=True)
    return table, sizes


def row_chunks(rows: Rows) -> Iterator[Rows]:
    """Split an array of rows into views of at most CHUNK_ROWS rows."""
    return (rows[start : start + CHUNK_ROWS] for start in range(0, len(rows), CHUNK_ROWS))
