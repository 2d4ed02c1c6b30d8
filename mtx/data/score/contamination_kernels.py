"""Compiled kernels that compare texts with held-out ones, with results equal to those of numpy.

This module imports numba, an optional dependency, so only `contaminated_pairs.py` imports it. The kernels release the
GIL.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled
from mtx.data.score.minhash_kernels import ONE, S32, fill_grams, mixed
from mtx.data.score.normal_form_kernels import fill_words_of_text

Array = NDArray[Any]

_compiled = partial(compiled, error_model="numpy")


@_compiled
def is_held_out(table: tuple[Array, Array, Array, Any], value: Any) -> bool:
    """Return whether a hash is in a `HashTable`, given its arrays and its shift; 0 never is."""
    ascending, buckets, seen, shift = table
    bucket = np.int64(value >> shift)
    bit = np.int64(value >> (shift - np.uint64(3))) & 7
    if value == np.uint64(0) or not (seen[bucket] >> bit) & 1:
        return False
    for place in range(buckets[bucket], buckets[bucket + 1]):  # noqa: SIM110 - numba compiles no generators
        if ascending[place] == value:
            return True
    return False


@_compiled
def hash_of_words(codes: Array, start: int, end: int, in_word: Array) -> Any:
    """Return the hash of a text without punctuation; of a text without a word, that of all its characters."""
    number, total = np.uint64(0), np.uint64(0)
    for place in range(start, end):
        is_word = np.uint64(in_word[codes[place]])  # a factor takes less time than a branch
        total += mixed((number << S32) + np.uint64(codes[place]) + ONE) * is_word
        number += is_word
    if number == 0:
        for place in range(start, end):
            total += mixed((np.uint64(place - start) << S32) + np.uint64(codes[place]) + ONE)
    return mixed(total)


@_compiled
def fill_matches(
    codes: Array,
    offsets: Array,
    characters: tuple[Array, Array],
    ngram: int,
    texts: tuple[Array, Array, Array, Any],
    ngrams: tuple[Array, Array, Array, Any],
    found: Array,
) -> None:
    """Write which of n texts are held out, and which share an n-gram with a held-out text.

    Args:
        codes: the characters of the normal forms of all texts, with punctuation.
        offsets: the first character of each text, and the end of the last one: [n + 1].
        characters: which characters belong to words, and which are a word alone: bool [code points] each.
        ngram: number of words of an n-gram.
        texts: the `HashTable` of the held-out texts without punctuation.
        ngrams: the `HashTable` of the n-grams of the held-out texts.
        found: receives both masks: bool [2, n].
    """
    longest = 0
    for text in range(offsets.size - 1):
        longest = max(longest, offsets[text + 1] - offsets[text])
    words, grams = np.empty(longest, dtype=np.uint64), np.empty(longest, dtype=np.uint64)
    for text in range(offsets.size - 1):
        start, end = offsets[text], offsets[text + 1]
        found[0, text] = is_held_out(texts, hash_of_words(codes, start, end, characters[0]))
        num_words = fill_words_of_text(codes, start, end, characters, words, 0)
        num_grams = fill_grams(words, 0, num_words, ngram, grams) if num_words else 0
        found[1, text] = False
        for number in range(num_grams):
            if is_held_out(ngrams, grams[number]):
                found[1, text] = True
                break
