"""`PairSet`, a set of 128-bit hashes of pairs, which finds duplicate pairs in Arrow arrays."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_128_digest

from mtx.data.compiled_kernels import numba_kernels
from mtx.data.filter.spilled_hashes import SpilledHashes

SEPARATOR = b"\xff"  # this byte does not occur in UTF-8, so different pairs never join to the same bytes
MIN_SLOTS = 1 << 12
LEAST_COMPILED_SLOTS = 1 << 21  # with fewer, numpy takes less time than loading numba and its kernel, about 1.4 s
PARTS_PER_RUN = 64  # a full table is sorted in this number of parts, to bound temporary memory
BYTES_PER_SLOT = 24  # of the largest table while it grows: its own slots, and half as many old ones
SLOTS_PER_MOVE = 1 << 16  # number of slots that are moved at once when the table grows, to bound temporary memory


class PairSet:
    """A set of pairs, stored as 128-bit XXH3 hashes: 24 to 48 bytes per distinct pair, and half as much again to grow.

    Among a billion distinct pairs, the probability that any two share a hash is 1.5e-21. The set is a hash table with
    open addressing in a numpy array. A Python set would take three times the memory. With a folder for temporary files,
    the table has a largest size. A full table is written to a file as a sorted run, and a search reads all runs.

    Args:
        spill_to: folder for temporary files; None: all pairs are in memory.
        max_bytes: with `spill_to`, the memory that the set may take.
        num_pairs: the expected number of distinct pairs, for which the table has room at once.
    """

    def __init__(self, spill_to: Path | None = None, max_bytes: int = 1 << 30, num_pairs: int = 0) -> None:
        self._num_pairs = 0  # in the table
        self._spilled = None if spill_to is None else SpilledHashes(spill_to)
        self._max_slots = max(MIN_SLOTS, 1 << (max(1, max_bytes // BYTES_PER_SLOT).bit_length() - 1))
        num_slots = _enough_slots(MIN_SLOTS, num_pairs)
        num_slots = num_slots if spill_to is None else min(num_slots, self._max_slots)
        self._slots = np.zeros((num_slots, 2), dtype=np.uint64)  # one hash per slot; a free slot is zero

    def add(self, *columns: pa.LargeStringArray) -> NDArray[np.bool_]:
        """Add pairs, given their columns, and return which are new: bool [n].

        A pair is not new if an equal pair was added before it.
        """
        return self.add_hashes(pair_hashes(*columns))

    def add_hashes(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Add pairs, given their `pair_hashes`, and return which are new, as `add`."""
        new = np.zeros(len(hashes), dtype=np.bool_)
        if len(hashes):
            order = _stable_order(hashes)  # so that the first of equal pairs stays first
            ordered = hashes[order]
            first = np.ones(len(hashes), dtype=np.bool_)
            first[1:] = ~_equal_mask(ordered[1:], ordered[:-1])
            wanted, places = ordered[first], order[first]
            self._grow(len(wanted))  # before the search in files, since it may move the table into one
            if self._spilled is not None:
                is_known = self._spilled.contain(wanted)
                wanted, places = wanted[~is_known], places[~is_known]
            new[places] = self._insert(wanted)
        self._num_pairs += int(np.count_nonzero(new))
        return new

    def _grow(self, num_more: int) -> None:
        slots = _enough_slots(len(self._slots), self._num_pairs + num_more)
        if self._spilled is not None and self._num_pairs and slots > self._max_slots:
            self._spilled.add_run(self._num_pairs, self._sorted_parts())
            self._slots[:], self._num_pairs = 0, 0
            self._grow(num_more)
        elif slots > len(self._slots):
            old = self._slots
            self._slots = np.zeros((slots, 2), dtype=np.uint64)
            for start in range(0, len(old), SLOTS_PER_MOVE):
                part = old[start : start + SLOTS_PER_MOVE]
                self._insert(part[_filled_mask(part)])

    def _sorted_parts(self) -> Iterator[NDArray[np.uint64]]:
        """Yield all hashes in the table in ascending order."""
        bits = np.uint64(64 - (PARTS_PER_RUN.bit_length() - 1))
        for part in range(PARTS_PER_RUN):
            found = [self._slots[:0]]
            for start in range(0, len(self._slots), SLOTS_PER_MOVE):
                slots = self._slots[start : start + SLOTS_PER_MOVE]
                found.append(slots[((slots[:, 0] >> bits) == part) & _filled_mask(slots)])
            hashes = np.concatenate(found)
            yield hashes[np.lexsort((hashes[:, 1], hashes[:, 0]))]

    def _insert(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Insert distinct hashes, and return which of them were not in the table: bool [n]."""
        new = np.zeros(len(hashes), dtype=np.bool_)
        if len(self._slots) >= LEAST_COMPILED_SLOTS and (kernels := _kernels()) is not None:
            kernels.insert(self._slots, hashes, new)
            return new
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


def _enough_slots(slots: int, num_pairs: int) -> int:
    """Return a number of slots, doubled until pairs fill at most 2/3 of them; a fuller table is slow to search."""
    while 3 * num_pairs > 2 * slots:
        slots *= 2
    return slots


def _stable_order(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the order in which hashes ascend; equal ones stay in their order: int64 [n]."""
    order: NDArray[np.int64] = np.argsort(hashes[:, 0], kind="stable")
    ordered = hashes[order]
    alike = ordered[1:, 0] == ordered[:-1, 0]
    if (ordered[1:, 1] != ordered[:-1, 1])[alike].any():  # hashes with one first half, which are rare
        order = np.lexsort((hashes[:, 1], hashes[:, 0]))
    return order


@cache
def _kernels() -> ModuleType | None:
    """Return the module of the compiled kernel, or None if numba is not available."""
    return numba_kernels("mtx.data.filter.pair_set_kernels", "numpy finds duplicates, which takes three times as long")


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
