"""Compiled kernels of MinHash, with results equal to those of numpy in `minhash.py`.

This module imports numba, an optional dependency, so only `minhash_kernels` in `minhash.py` imports it. All functions
release the GIL.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled
from mtx.data.score import text_features

Array = NDArray[Any]

BASE, MIX1, MIX2, ONE = (
    np.uint64(number) for number in (text_features.BASE, 0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53, 1)
)
S32, S33 = np.uint64(32), np.uint64(33)
LARGEST = np.uint32(0xFFFFFFFF)
GRAMS_PER_STEP = 4

_compiled = partial(compiled, error_model="numpy")


@_compiled
def mixed(value: Any) -> Any:
    """Return the 64-bit hash of an integer, as `text_features.mixed` does."""
    value = (value ^ (value >> S33)) * MIX1
    value = (value ^ (value >> S33)) * MIX2
    return value ^ (value >> S33)


@_compiled
def ngram_hash(codes: Array, start: int, size: int) -> Any:
    """Return the hash of an n-gram of `size` characters before it is mixed."""
    value = np.uint64(0)
    for place in range(size):
        value = value * BASE + np.uint64(codes[start + place]) + ONE
    return value


@_compiled
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


@_compiled
def fill_text_hash(grams: Array, num_grams: int, highs: Array) -> Any:
    """Mix the hashes of the n-grams of a text, write their high halves, and return the hash of the text."""
    total = np.uint64(0)
    for place in range(num_grams):
        gram = grams[place]
        highs[place] = np.uint32(gram >> S32)
        total += gram * np.uint64(2 * place + 1)
    return mixed(total)


@_compiled
def fill_least(highs: Array, num_grams: int, factors: Array, addends: Array, least: Array) -> None:
    """Write the least value of each hash function over the n-grams of a text: uint32 [hashes].

    Four n-grams at a time, so that the processor reads and writes the least values once for four products.
    """
    least[:] = LARGEST
    for start in range(0, num_grams, GRAMS_PER_STEP):
        last = num_grams - 1
        one, two = highs[start], highs[min(start + 1, last)]
        three, four = highs[min(start + 2, last)], highs[min(start + 3, last)]
        for number in range(factors.size):
            factor, addend = factors[number], addends[number]
            first = min(np.uint32(one * factor + addend), np.uint32(two * factor + addend))
            second = min(np.uint32(three * factor + addend), np.uint32(four * factor + addend))
            least[number] = min(least[number], min(first, second))


@_compiled
def fill_bands(
    codes: Array, offsets: Array, ngram: int, rows: int, functions: Array, bands: Array, of_text: Array
) -> None:
    """Write the hash of each band, uint32 [bands, n], and of each text, uint64 [n]; see `MinHash.band_hashes`.

    Args:
        codes: the characters of all texts.
        offsets: the first character of each text, and the end of the last one.
        ngram: number of characters of an n-gram.
        rows: number of hashes of a band.
        functions: the factors and the addends, uint32 [2, hashes]: the first hash of each band, then the second ones.
            Further hashes have no effect.
        bands: receives the hashes of the bands.
        of_text: receives the hashes of the texts.
    """
    factors, addends = functions[0], functions[1]
    num_bands = bands.shape[0]
    longest = 1
    for text in range(offsets.size - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    grams, highs = np.empty(longest, dtype=np.uint64), np.empty(longest, dtype=np.uint32)
    least = np.empty(factors.size, dtype=np.uint32)
    values = np.empty(num_bands, dtype=np.uint64)
    for text in range(offsets.size - 1):
        num_grams = fill_grams(codes, offsets[text], offsets[text + 1], ngram, grams)
        of_text[text] = fill_text_hash(grams, num_grams, highs)
        fill_least(highs, num_grams, factors, addends, least)
        values[:] = 0
        for row in range(rows):
            for band in range(num_bands):
                value = values[band]
                values[band] = mixed((value << S32) ^ np.uint64(least[row * num_bands + band]) ^ (value >> S32))
        for band in range(num_bands):
            bands[band, text] = np.uint32(values[band] >> S32)


@_compiled
def table_mask(num_grams: int) -> int:
    """Return the mask of the slots of a hash table: a power of two of at least twice the number of n-grams, less 1."""
    slots = 4
    while slots < 2 * num_grams:
        slots *= 2
    return slots - 1


@_compiled
def slot_of(gram: Any, keys: Array, owners: Array, owner: int, mask: int) -> int:
    """Return the slot of an n-gram, or the free slot for it. Slots of other owners are free."""
    slot = np.int64(gram & np.uint64(mask))
    while owners[slot] == owner and keys[slot] != gram:
        slot = (slot + 1) & mask
    return int(slot)


@_compiled
def jaccard_of(
    grams: Array,
    num_grams: int,
    num_first: int,
    least: float,
    first: tuple[Array, Array, int, int],
    marks: Array,
    second: tuple[Array, Array, int, int],
) -> float:
    """Return the Jaccard index of a text with the n-grams `grams` and of the text in the hash table `first`.

    A table is its keys, its owners, the current owner and the mask of its slots. `marks` says of each slot of `first`
    for which pair its n-gram was counted last. `second` counts the other distinct n-grams.
    """
    num_shared, num_second = 0, 0
    for place in range(num_grams):
        # Even if all further n-grams were shared, the index would stay below `least`.
        if num_shared + num_grams - place < least * (num_first + num_second - num_shared):
            return 0.0
        gram = grams[place]
        slot = slot_of(gram, first[0], first[1], first[2], first[3])
        if first[1][slot] == first[2]:
            if marks[slot] != second[2]:
                marks[slot] = second[2]
                num_shared += 1
                num_second += 1
            continue
        slot = slot_of(gram, second[0], second[1], second[2], second[3])
        if second[1][slot] != second[2]:
            second[1][slot], second[0][slot] = second[2], gram
            num_second += 1
    index = num_shared / (num_first + num_second - num_shared)
    return index if index >= least else 0.0


@_compiled
def fill_jaccard(
    codes: Array, offsets: Array, ngram: int, least: float, one: Array, other: Array, found: Array
) -> None:
    """Write the Jaccard index of each pair of texts, float64 [pairs], 0 if below `least`; see `MinHash.jaccard`.

    The n-grams of the first text are a hash table, which all pairs with this text use.
    """
    longest = 1
    for pair in range(one.size):
        longest = max(longest, offsets[one[pair] + 1] - offsets[one[pair]])
        longest = max(longest, offsets[other[pair] + 1] - offsets[other[pair]])
    grams = np.empty(longest, dtype=np.uint64)
    slots = table_mask(longest) + 1
    keys, owners = np.empty(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int64)
    marks = np.zeros(slots, dtype=np.int64)
    second_keys, second_owners = np.empty(slots, dtype=np.uint64), np.zeros(slots, dtype=np.int64)
    current, num_first, owner, mask = -1, 0, 0, 0
    for pair in range(one.size):
        if one[pair] != current:
            current = one[pair]
            owner, num_first = pair + 1, 0
            num_grams = fill_grams(codes, offsets[current], offsets[current + 1], ngram, grams)
            mask = table_mask(num_grams)
            for place in range(num_grams):
                slot = slot_of(grams[place], keys, owners, owner, mask)
                if owners[slot] != owner:
                    owners[slot], keys[slot] = owner, grams[place]
                    num_first += 1
        num_grams = fill_grams(codes, offsets[other[pair]], offsets[other[pair] + 1], ngram, grams)
        second = (second_keys, second_owners, pair + 1, table_mask(num_grams))
        first = (keys, owners, owner, mask)
        found[pair] = jaccard_of(grams, num_grams, num_first, least, first, marks, second)
