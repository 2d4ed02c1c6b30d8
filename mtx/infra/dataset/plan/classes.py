"""Rows by class: all rows of the same (source, target) length are one class.

A corpus of any size has few classes, some ten thousand, so that what is costly can work on them and their counts
instead of on rows. Rows of one class may take each other's place in any batch, which is where fresh batches come
from in each epoch at no cost in padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int, Lengths, Rows

Class = NDArray[np.uint16]

MAX_CLASSES = 2**16  # what uint16 can name; numpy sorts 16-bit integers in linear time
EXACT_BITS = 8  # lengths up to 256 are told apart; see length_classes
CHUNK = 2**20  # rows at a time, which bounds the temporary 64-bit arrays to 8 MiB each
BLOCK = 2**17  # rows shuffled at a time: 0.5 MiB, which stays in a core's cache


@dataclass(frozen=True)
class LengthClasses:
    """Rows, put together by class.

    Attributes:
        rows: int32 [n]; first the rows of class 0, then those of class 1, and so on, each class ascending.
        source: int64 [number of classes], the source positions that hold any row of the class; at least 1.
        target: int64 [number of classes], the same for the target.
        count: int64 [number of classes], rows of the class; at least 1.
    """

    rows: Rows
    source: Int
    target: Int
    count: Int

    def __len__(self) -> int:
        return len(self.count)

    def rows_in(self, order: Int, random: np.random.Generator | None) -> Rows:
        """Return the rows, int32 [n], class by class in `order`, those of a class permuted by `random`, if given."""
        end = np.cumsum(self.count)
        start = end - self.count
        before = np.cumsum(self.count[order]) - self.count[order]
        blocks = np.split(order, np.flatnonzero(np.diff(before // BLOCK)) + 1)
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
    """Put `rows`, int32 [n] and ascending, into classes.

    Lengths are rounded up to `multiple` (0 becomes `multiple`), then, where they need more than 8 bits, to 8
    significant bits (257 becomes 258, 1001 becomes 1004), but not above `limit`, which no row exceeds. Should there
    be more than 65,536 classes, fewer bits are kept. So `source` and `target` of a class are never below what a row
    of it needs, and are exact for lengths up to 256.
    """
    for bits in range(EXACT_BITS, 0, -1):
        source_table, source_sizes = _rounded(lengths.source, multiple, limit, bits)
        target_table, target_sizes = _rounded(lengths.target, multiple, limit, bits)
        count = np.zeros(len(source_sizes) * len(target_sizes), dtype=np.int64)
        for part in chunks(rows):
            code = source_table[lengths.source[part]] * len(target_sizes) + target_table[lengths.target[part]]
            count += np.bincount(code, minlength=len(count))
        present = np.flatnonzero(count)
        if len(present) <= MAX_CLASSES:
            break
    name = np.zeros(len(count), dtype=np.uint16)
    name[present] = np.arange(len(present))
    count = count[present]

    # A counting sort: each chunk is sorted by itself, then its rows go to the next free places of their classes.
    grouped = np.empty_like(rows)
    place = np.cumsum(count) - count
    for part in chunks(rows):
        key = name[source_table[lengths.source[part]] * len(target_sizes) + target_table[lengths.target[part]]]
        order = np.argsort(key, kind="stable")
        here = np.bincount(key, minlength=len(count))
        grouped[np.repeat(place - (np.cumsum(here) - here), here) + np.arange(len(order))] = part[order]
        place += here
    return LengthClasses(
        grouped, source_sizes[present // len(target_sizes)], target_sizes[present % len(target_sizes)], count
    )


def _rounded(lengths: NDArray[np.int32], multiple: int, limit: int, bits: int) -> tuple[Int, Int]:
    """Return a table from length to class (of one side), and the positions of each class."""
    longest = min(limit, int(lengths.max(initial=0)))
    positions = -(-np.maximum(np.arange(longest + 1), 1) // multiple) * multiple
    step = np.left_shift(1, np.maximum(np.frexp(positions)[1] - bits, 0).astype(np.int64))
    sizes, table = np.unique(np.minimum(-(-positions // step) * step, limit), return_inverse=True)
    return table, sizes


def chunks(rows: Rows) -> Iterator[Rows]:
    """Cut an array of rows into views of at most CHUNK rows."""
    return (rows[start : start + CHUNK] for start in range(0, len(rows), CHUNK))
