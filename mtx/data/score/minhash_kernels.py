"""Compiled kernels of MinHash, with results equal to those of numpy in `minhash.py`.

This module imports numba, an optional dependency, so only `minhash_kernels` in `minhash.py` imports it. All functions
release the GIL.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from mtx.data.score import text_features

Array = NDArray[Any]
Function = TypeVar("Function", bound=Callable[..., Any])

BASE, MIX1, MIX2, ONE = (
    np.uint64(number) for number in (text_features.BASE, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 1)
)
S32, S33 = np.uint64(32), np.uint64(33)
LARGEST = np.uint32(0xFFFFFFFF)


def _compile(function: Function) -> Function:
    return cast(Function, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


@_compile
def mixed(value: Any) -> Any:
    """Return the 64-bit hash of an integer, as `text_features.mixed` does."""
    value = (value ^ (value >> S33)) * MIX1
    value = (value ^ (value >> S33)) * MIX2
    return value ^ (value >> S33)


@_compile
def ngram_hash(codes: Array, start: int, size: int) -> Any:
    """Return the hash of an n-gram of `size` characters before it is mixed."""
    value = np.uint64(0)
    for place in range(size):
        value = value * BASE + np.uint64(codes[start + place]) + ONE
    return value


@_compile
def fill_grams(codes: Array, start: int, end: int, ngram: int, grams: Array) -> int:
    """Write the hashes of the n-grams of a text, as `minhash.ngram_hashes` does, and return their number."""
    size = end - start
    if size <= ngram:
        grams[0] = mixed(ngram_hash(codes, start, size))
        return 1
    power = ONE
    for _ in range(ngram):
        power = power * BASE
    value = ngram_hash(codes, start, ngram)
    grams[0] = mixed(value)
    for place in range(1, size - ngram + 1):
        first = np.uint64(codes[start + place - 1]) + ONE
        value = value * BASE + np.uint64(codes[start + place + ngram - 1]) + ONE - first * power
        grams[place] = mixed(value)
    return size - ngram + 1


@_compile
def fill_bands(
    codes: Array, offsets: Array, ngram: int, factors: Array, addends: Array, bands: Array, of_text: Array
) -> None:
    """Write the hash of each band, uint32 [bands, n], and of each text, uint64 [n]; see `MinHash.band_hashes`."""
    num_texts, num_hashes = offsets.size - 1, factors.size
    num_bands = bands.shape[0]
    rows = num_hashes // num_bands
    longest = 1
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text])
    grams = np.empty(longest, dtype=np.uint64)
    least = np.empty(num_hashes, dtype=np.uint32)
    for text in range(num_texts):
        num_grams = fill_grams(codes, offsets[text], offsets[text + 1], ngram, grams)
        least[:] = LARGEST
        total = np.uint64(0)
        for place in range(num_grams):
            gram = grams[place]
            total += mixed(gram + (np.uint64(place) << S32))
            high = np.uint32(gram >> S32)
            for number in range(num_hashes):
                value = np.uint32(high * factors[number] + addends[number])
                least[number] = min(least[number], value)
        of_text[text] = mixed(total)
        for band in range(num_bands):
            value = np.uint64(0)
            for row in range(rows):
                value = mixed((value << S32) ^ np.uint64(least[band * rows + row]) ^ (value >> S32))
            bands[band, text] = np.uint32(value >> S32)


@_compile
def fill_jaccard(
    codes: Array, offsets: Array, ngram: int, least: float, one: Array, other: Array, found: Array
) -> None:
    """Write the Jaccard index of each pair of texts, float64 [pairs], 0 if below `least`; see `MinHash.jaccard`.

    The n-grams of the first text are a hash table, which all pairs with this text use. `marks` says of each slot for
    which pair its n-gram was counted last. The second text needs a table of its own, to count its distinct n-grams.
    """
    longest = 1
    for pair in range(one.size):
        longest = max(longest, offsets[one[pair] + 1] - offsets[one[pair]])
        longest = max(longest, offsets[other[pair] + 1] - offsets[other[pair]])
    grams = np.empty(longest, dtype=np.uint64)
    slots = 4
    while slots < 2 * longest:
        slots *= 2
    keys, owners = np.empty(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int64)
    marks = np.zeros(slots, dtype=np.int64)
    second_keys, second_owners = np.empty(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int64)
    current, num_first, owner, mask = -1, 0, 0, 0
    for pair in range(one.size):
        if one[pair] != current:
            current = one[pair]
            owner = pair + 1
            num_grams = fill_grams(codes, offsets[current], offsets[current + 1], ngram, grams)
            mask = 4
            while mask < 2 * num_grams:
                mask *= 2
            mask -= 1
            num_first = 0
            for place in range(num_grams):
                slot = np.int64(grams[place] & np.uint64(mask))
                while owners[slot] == owner and keys[slot] != grams[place]:
                    slot = (slot + 1) & mask
                if owners[slot] != owner:
                    owners[slot], keys[slot] = owner, grams[place]
                    num_first += 1
        second = other[pair]
        num_grams = fill_grams(codes, offsets[second], offsets[second + 1], ngram, grams)
        second_mask = 4
        while second_mask < 2 * num_grams:
            second_mask *= 2
        second_mask -= 1
        num_shared, num_second = 0, 0
        for place in range(num_grams):
            # Even if all further n-grams were shared, the index would stay below `least`.
            if num_shared + num_grams - place < least * (num_first + num_second - num_shared):
                break
            gram = grams[place]
            slot = np.int64(gram & np.uint64(mask))
            while owners[slot] == owner and keys[slot] != gram:
                slot = (slot + 1) & mask
            if owners[slot] == owner:
                if marks[slot] != pair + 1:
                    marks[slot] = pair + 1
                    num_shared += 1
                    num_second += 1
                continue
            slot = np.int64(gram & np.uint64(second_mask))
            while second_owners[slot] == pair + 1 and second_keys[slot] != gram:
                slot = (slot + 1) & second_mask
            if second_owners[slot] != pair + 1:
                second_owners[slot], second_keys[slot] = pair + 1, gram
                num_second += 1
        index = num_shared / (num_first + num_second - num_shared)
        found[pair] = index if index >= least else 0.0
