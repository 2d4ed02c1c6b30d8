"""MinHash signatures of texts, and the Jaccard index of their sets of character n-grams, by numpy or compiled.

Texts whose sets of n-grams are similar probably share a band of their signatures (Broder 1997, "On the resemblance and
containment of documents"; the bands are those of Leskovec, Rajaraman and Ullman, "Mining of Massive Datasets", 3.4).
With b bands of r hashes, two texts with the Jaccard index J share a band with the probability 1 - (1 - J^r)^b.
"""

import logging
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import numba_kernels
from mtx.data.score.text_features import BASE, mixed

Keys = NDArray[np.uint64]
Codes = NDArray[np.uint32]
Offsets = NDArray[np.int64]

log = logging.getLogger(__name__)

HALF = np.uint64(32)
LOW_HALF = np.uint64(0xFFFFFFFF)
LEAST_JACCARD = 0.5  # smaller values are not computed to the end, which saves time
HASHES_PER_STEP = 32  # of the compiled kernel, which is slow if the number of hashes is no multiple of it
HASH_SEED = 20260101  # of the hash functions; another value gives other candidates


@dataclass(frozen=True)
class MinHash:
    """A MinHash of n-grams of characters, in bands.

    Attributes:
        ngram: number of characters of an n-gram. A shorter text is one n-gram.
        bands: number of bands.
        rows_per_band: number of hashes of a band.
    """

    ngram: int
    bands: int
    rows_per_band: int

    def hash_functions(self) -> NDArray[np.uint32]:
        """Return the factors, which are odd, and the addends of all hashes: uint32 [2, bands × rows_per_band]."""
        rng = np.random.default_rng(HASH_SEED)
        found = rng.integers(0, 1 << 32, (2, self.bands * self.rows_per_band), dtype=np.uint32)
        found[0] |= 1
        return found

    def band_hashes(self, codes: Codes, offsets: Offsets, *, compiled: bool = True) -> tuple[NDArray[np.uint32], Keys]:
        """Return the hash of each band of n texts, uint32 [bands, n], and a hash of each whole text, uint64 [n].

        Args:
            codes: the characters of all texts.
            offsets: the first character of each text, and the end of the last one: [n + 1].
            compiled: whether to use numba, if it is installed.
        """
        functions = self.hash_functions()
        kernels = minhash_kernels() if compiled else None
        num_texts = len(offsets) - 1
        if kernels is not None:
            found = np.empty((self.bands, num_texts), dtype=np.uint32)
            of_text = np.empty(num_texts, dtype=np.uint64)
            by_row = np.zeros((2, -(-functions.shape[1] // HASHES_PER_STEP) * HASHES_PER_STEP), dtype=np.uint32)
            by_row[:, : functions.shape[1]] = (
                functions.reshape(2, self.bands, self.rows_per_band).transpose(0, 2, 1).reshape(2, -1)
            )
            kernels.fill_bands(codes, offsets, self.ngram, self.rows_per_band, by_row, found, of_text)
            return found, of_text
        grams, starts = ngram_hashes(codes, offsets, self.ngram)
        values = (grams >> HALF).astype(np.uint32)
        found = np.zeros((self.bands, num_texts), dtype=np.uint64)
        for number, (factor, addend) in enumerate(functions.T):
            least = np.minimum.reduceat(values * factor + addend, starts[:-1])
            band = number // self.rows_per_band
            found[band] = mixed((found[band] << HALF) ^ least ^ (found[band] >> HALF))
        of_text = mixed(np.add.reduceat(grams * _odd_numbers(starts), starts[:-1]))
        return (found >> HALF).astype(np.uint32), of_text

    def jaccard(
        self, codes: Codes, offsets: Offsets, one: Offsets, other: Offsets, *, compiled: bool = True
    ) -> NDArray[np.float64]:
        """Return the Jaccard index of the n-grams of pairs of texts, 0 if below `LEAST_JACCARD`: float64 [pairs].

        N-grams are compared by 64-bit hashes. In a pair of texts with 1,000 characters, two different n-grams have the
        same hash with a probability of 3e-14.

        Args:
            codes: the characters of all texts.
            offsets: the first character of each text, and the end of the last one.
            one: the number of the first text of each pair. Fast if ascending.
            other: the number of the second text of each pair.
            compiled: whether to use numba, if it is installed.
        """
        found = np.empty(len(one), dtype=np.float64)
        if (kernels := minhash_kernels() if compiled else None) is not None:
            kernels.fill_jaccard(codes, offsets, self.ngram, LEAST_JACCARD, one, other, found)
            return found
        sets: dict[int, Keys] = {}

        def set_of(text: int) -> Keys:
            if text not in sets:
                part = codes[offsets[text] : offsets[text + 1]]
                sets[text] = np.unique(ngram_hashes(part, np.array([0, len(part)]), self.ngram)[0])
            return sets[text]

        for place, (first, second) in enumerate(zip(one.tolist(), other.tolist(), strict=True)):
            shared = len(np.intersect1d(set_of(first), set_of(second), assume_unique=True))
            found[place] = shared / (len(set_of(first)) + len(set_of(second)) - shared)
        found[found < LEAST_JACCARD] = 0.0
        return found


def ngram_hashes(codes: NDArray[np.unsignedinteger[Any]], offsets: Offsets, ngram: int) -> tuple[Keys, Offsets]:
    """Return the 64-bit hashes of all n-grams of n texts in order, and where each text begins: int64 [n + 1].

    A text with fewer characters than `ngram` is one n-gram; an empty one, too, with the hash 0. Instead of characters,
    the units may be words, given by their hashes.
    """
    lengths = np.diff(offsets)
    counts = np.maximum(lengths - ngram + 1, 1)
    starts = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=starts[1:])
    first = np.arange(starts[-1]) + np.repeat(offsets[:-1] - starts[:-1], counts)
    end = np.repeat(offsets[1:], counts)
    padded = np.append(codes, codes.dtype.type(0)).astype(np.uint64)
    found = np.zeros(int(starts[-1]), dtype=np.uint64)
    for place in range(ngram):
        inside = first + place < end
        value = np.where(inside, padded[np.minimum(first + place, len(codes))] + np.uint64(1), np.uint64(0))
        found = np.where(inside, found * np.uint64(BASE) + value, found)
    return mixed(found), starts


@cache
def minhash_kernels() -> ModuleType | None:
    """Return the module of the compiled kernels, or None if numba is not available."""
    note = "numpy finds near-duplicates, which takes 50 times as long"
    return numba_kernels("mtx.data.score.minhash_kernels", note, tell_missing=True)


def _odd_numbers(starts: Offsets) -> NDArray[Any]:
    """Return for each n-gram the odd number 2 i + 1, where i is its number in its text: uint64 [n-grams]."""
    counts = np.diff(starts)
    return (2 * (np.arange(starts[-1]) - np.repeat(starts[:-1], counts)) + 1).astype(np.uint64)
