"""The compiled kernel of `PairSet`, with results equal to those of numpy.

This module imports numba, an optional dependency, so only `pair_set.py` imports it. The kernel releases the GIL.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled

Array = NDArray[Any]


@compiled
def insert(slots: Array, hashes: Array, new: Array) -> None:
    """Insert hashes into a table, and write which of them were not in it.

    Args:
        slots: the hash in each slot, zero in a free one; the number of slots is a power of two, and some are free:
            uint64 [slots, 2].
        hashes: none is zero in both halves: uint64 [n, 2].
        new: receives True for a hash that was not in the table: bool [n].
    """
    shift, last = np.uint64(64), slots.shape[0] - 1
    while np.uint64(1) << (np.uint64(64) - shift) <= np.uint64(last):
        shift -= np.uint64(1)
    for number in range(hashes.shape[0]):
        first, second = hashes[number, 0], hashes[number, 1]
        slot = np.int64(first >> shift)
        while (slots[slot, 0] | slots[slot, 1]) != 0 and (slots[slot, 0] != first or slots[slot, 1] != second):
            slot = (slot + 1) & last
        new[number] = (slots[slot, 0] | slots[slot, 1]) == 0
        slots[slot, 0], slots[slot, 1] = first, second
