"""Which pairs were met before: a set of 128-bit hashes that takes arrays."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

SEPARATOR = b"\xff"  # no byte of UTF-8, so no two pairs join to the same bytes
LEAST_SLOTS = 1 << 12
SLOTS_AT_ONCE = 1 << 16  # moved together when the table grows, which bounds what that takes beside both tables


class SeenPairs:
    """Remembers pairs by XXH3 hashes of 128 bits, in 24 to 48 bytes a distinct pair, and half as much again to grow.

    Among a billion distinct pairs, the chance that any two share a hash is 1.5e-21. A hash table of open addressing
    over arrays; a Python set would take three times the memory.
    """

    def __init__(self) -> None:
        self._slots = np.zeros((LEAST_SLOTS, 2), dtype=np.uint64)  # a hash each; zeros: free
        self._num_pairs = 0

    def add(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> NDArray[np.bool_]:
        """Remember pairs, and tell which were new: bool [n], False where the pair came before, here or in a call."""
        hashes = pair_hashes(source, target)
        new = np.zeros(len(hashes), dtype=np.bool_)
        if len(hashes):
            order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: of equal pairs the first comes first
            ordered = hashes[order]
            first = np.ones(len(hashes), dtype=np.bool_)
            first[1:] = ~_equal(ordered[1:], ordered[:-1])
            self._make_room(int(np.count_nonzero(first)))
            new[order[first]] = self._insert(ordered[first])
        self._num_pairs += int(np.count_nonzero(new))
        return new

    def _make_room(self, num_more: int) -> None:
        slots = len(self._slots)
        while 3 * (self._num_pairs + num_more) > 2 * slots:  # fuller tables are slow to search
            slots *= 2
        if slots > len(self._slots):
            old = self._slots
            self._slots = np.zeros((slots, 2), dtype=np.uint64)
            for start in range(0, len(old), SLOTS_AT_ONCE):
                part = old[start : start + SLOTS_AT_ONCE]
                self._insert(part[_filled(part)])

    def _insert(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Insert hashes, all different, and tell which were not there."""
        new = np.zeros(len(hashes), dtype=np.bool_)
        # The high bits choose the slot, so that sorted hashes walk through memory in order.
        bits = np.uint64(64 - (len(self._slots).bit_length() - 1))
        slots = (hashes[:, 0] >> bits).astype(np.int64)
        pending = np.arange(len(hashes))
        while len(pending):
            wanted, at = hashes[pending], slots[pending]
            free = ~_filled(self._slots[at])
            self._slots[at[free]] = wanted[free]  # where several want one slot, the last has it
            there = _equal(self._slots[at], wanted)
            new[pending[free & there]] = True
            pending = pending[~there]
            slots[pending] = (slots[pending] + 1) % len(self._slots)
        return new


def pair_hashes(source: pa.LargeStringArray, target: pa.LargeStringArray) -> NDArray[np.uint64]:
    """Hash pairs: uint64 [n, 2], never zero in both halves."""
    binary = pa.large_binary()
    joined = pc.binary_join_element_wise(source.cast(binary), target.cast(binary), pa.scalar(SEPARATOR, binary))
    hashes = np.frombuffer(b"".join(map(xxh3_128_digest, joined.to_pylist())), dtype=np.uint64).reshape(-1, 2)
    return np.where(_filled(hashes)[:, np.newaxis], hashes, np.uint64(1))


def _filled(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = (hashes[:, 0] | hashes[:, 1]) != 0
    return filled


def _equal(some: NDArray[np.uint64], others: NDArray[np.uint64]) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = (some[:, 0] == others[:, 0]) & (some[:, 1] == others[:, 1])
    return equal
