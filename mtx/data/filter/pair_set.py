"""`PairSet`, a set of 128-bit hashes of pairs, which finds duplicate pairs in Arrow arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

SEPARATOR = b"\xff"  # this byte does not occur in UTF-8, so different pairs never join to the same bytes
MIN_SLOTS = 1 << 12
SLOTS_PER_MOVE = 1 << 16  # number of slots that are moved at once when the table grows, to bound temporary memory


class PairSet:
    """A set of pairs, stored as 128-bit XXH3 hashes: 24 to 48 bytes per distinct pair, and half as much again to grow.

    Among a billion distinct pairs, the probability that any two share a hash is 1.5e-21. The set is a hash table with
    open addressing in a numpy array. A Python set would take three times the memory.
    """

    def __init__(self) -> None:
        self._slots = np.zeros((MIN_SLOTS, 2), dtype=np.uint64)  # one hash per slot; a free slot is zero
        self._num_pairs = 0

    def add(self, *columns: pa.LargeStringArray) -> NDArray[np.bool_]:
        """Add pairs, given their columns, and return which are new: bool [n].

        A pair is not new if an equal pair was added before it.
        """
        hashes = pair_hashes(*columns)
        new = np.zeros(len(hashes), dtype=np.bool_)
        if len(hashes):
            order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable, so the first of equal pairs stays first
            ordered = hashes[order]
            first = np.ones(len(hashes), dtype=np.bool_)
            first[1:] = ~_equal_mask(ordered[1:], ordered[:-1])
            self._grow(int(np.count_nonzero(first)))
            new[order[first]] = self._insert(ordered[first])
        self._num_pairs += int(np.count_nonzero(new))
        return new

    def _grow(self, num_more: int) -> None:
        slots = len(self._slots)
        while 3 * (self._num_pairs + num_more) > 2 * slots:  # a table that is more than 2/3 full is slow to search
            slots *= 2
        if slots > len(self._slots):
            old = self._slots
            self._slots = np.zeros((slots, 2), dtype=np.uint64)
            for start in range(0, len(old), SLOTS_PER_MOVE):
                part = old[start : start + SLOTS_PER_MOVE]
                self._insert(part[_filled_mask(part)])

    def _insert(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Insert distinct hashes, and return which of them were not in the table: bool [n]."""
        new = np.zeros(len(hashes), dtype=np.bool_)
        # The high bits of a hash determine its slot, so that sorted hashes access memory in order.
        bits = np.uint64(64 - (len(self._slots).bit_length() - 1))
        slots = (hashes[:, 0] >> bits).astype(np.int64)
        pending = np.arange(len(hashes))
        while len(pending):
            wanted, at = hashes[pending], slots[pending]
            free = ~_filled_mask(self._slots[at])
            self._slots[at[free]] = wanted[free]  # if several hashes want the same slot, the last one gets it
            there = _equal_mask(self._slots[at], wanted)
            new[pending[free & there]] = True
            pending = pending[~there]
            slots[pending] = (slots[pending] + 1) % len(self._slots)
        return new


def pair_hashes(*columns: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Return the 128-bit hash of each pair as two halves: uint64 [n, 2], never zero in both halves."""
    binary = pa.large_binary()
    joined = pc.binary_join_element_wise(*(column.cast(binary) for column in columns), pa.scalar(SEPARATOR, binary))
    hashes = np.frombuffer(b"".join(map(xxh3_128_digest, joined.to_pylist())), dtype=np.uint64).reshape(-1, 2)
    return np.where(_filled_mask(hashes)[:, np.newaxis], hashes, np.uint64(1))


def _filled_mask(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = (hashes[:, 0] | hashes[:, 1]) != 0
    return filled


def _equal_mask(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (some[:, 0] == others[:, 0]) & (some[:, 1] == others[:, 1])
    return equal
