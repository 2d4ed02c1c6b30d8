"""Rows by class: all rows of the same (source, target) length are one class.

A corpus of any size has few classes, some ten thousand, so that what is costly can work on them and their counts
instead of on rows. Rows of one class may take each other's place in any batch, which is where fresh batches come
from in each epoch at no cost in padding.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int, Lengths, Rows

Class = NDArray[np.uint16]

MAX_CLASSES = 2**16  # what uint16 can name; numpy sorts 16-bit integers in linear time
EXACT_BITS = 8  # lengths up to 256 are told apart; see length_classes
CHUNK = 2**22  # rows at a time, which bounds the temporary 64-bit arrays to 32 MiB each


@dataclass(frozen=True)
class LengthClasses:
    """The classes of a set of rows.

    Attributes:
        of_row: uint16 [n], the class of each row.
        source: int64 [number of classes], the source positions that hold any row of the class; at least 1.
        target: int64 [number of classes], the same for the target.
        count: int64 [number of classes], rows of the class; at least 1.
    """

    of_row: Class
    source: Int
    target: Int
    count: Int

    def __len__(self) -> int:
        return len(self.count)


def length_classes(lengths: Lengths, *, multiple: int, limit: int) -> LengthClasses:
    """Find the classes of all rows.

    Lengths are rounded up to `multiple` (0 becomes `multiple`), then, where they need more than 8 bits, to 8
    significant bits (257 becomes 258, 1001 becomes 1008), but not above `limit`. Should there be more than 65,536
    classes, fewer bits are kept. So `source` and `target` of a class are never below what a row of it needs, and are
    exact for lengths up to 256.
    """
    source, target = lengths.source, lengths.target
    for bits in range(EXACT_BITS, 0, -1):
        source_class, source_size = _rounded(source, multiple, limit, bits)
        target_class, target_size = _rounded(target, multiple, limit, bits)
        count = np.zeros(len(source_size) * len(target_size), dtype=np.int64)
        for part in chunks(len(source)):
            code = source_class[source[part]] * len(target_size) + target_class[target[part]]
            count += np.bincount(code, minlength=len(count))
        present = np.flatnonzero(count)
        if len(present) <= MAX_CLASSES:
            break
    name = np.zeros(len(count), dtype=np.uint16)
    name[present] = np.arange(len(present))
    of_row = np.empty(len(source), dtype=np.uint16)
    for part in chunks(len(source)):
        of_row[part] = name[source_class[source[part]] * len(target_size) + target_class[target[part]]]
    return LengthClasses(
        of_row,
        source_size[present // len(target_size)],
        target_size[present % len(target_size)],
        count[present],
    )


def _rounded(lengths: NDArray[np.int32], multiple: int, limit: int, bits: int) -> tuple[Int, Int]:
    """Return a table from length to class (one side's), and the positions of each class."""
    longest = int(lengths.max()) if len(lengths) else 0
    positions = -(-np.maximum(np.arange(longest + 1), 1) // multiple) * multiple
    step = np.left_shift(1, np.maximum(np.frexp(positions)[1] - bits, 0).astype(np.int64))
    sizes, table = np.unique(np.minimum(-(-positions // step) * step, limit), return_inverse=True)
    return table, sizes


def group_by(key: NDArray[Any], rows: Rows, num_keys: int) -> Rows:
    """Sort `rows` by `key` (uint16 [n], below `num_keys`), stable, in linear time and little memory.

    A counting sort by chunks: each chunk is sorted by itself, then its rows go to the next free places of their keys.
    """
    if len(rows) <= CHUNK:
        return rows[np.argsort(key, kind="stable")]
    place = np.zeros(num_keys, dtype=np.int64)
    for part in chunks(len(rows)):
        place += np.bincount(key[part], minlength=num_keys)
    place = np.cumsum(place) - place
    grouped = np.empty_like(rows)
    for part in chunks(len(rows)):
        order = np.argsort(key[part], kind="stable")
        count = np.bincount(key[part], minlength=num_keys)
        shift = np.repeat(place - (np.cumsum(count) - count), count)
        grouped[shift + np.arange(len(order))] = rows[part][order]
        place += count
    return grouped


def chunks(num: int) -> Iterator[slice]:
    """Cover the rows 0 to `num` by slices of at most CHUNK."""
    return (slice(start, start + CHUNK) for start in range(0, num, CHUNK))
