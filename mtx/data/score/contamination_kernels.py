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
def fill_held_out(table: tuple[Array, Array, Array, Any], hashes: Array, found: Array) -> None:
    """Write which of n hashes are in a `HashTable`, given its arrays and its shift; 0 never is.

    The first loop reads a bit for each hash, and has no branch, so that the processor waits for many of them at once.
    """
    ascending, buckets, seen, shift = table
    for number in range(hashes.size):
        value = hashes[number]
        bits = np.int64(seen[np.int64(value >> shift)])
        bit = np.int64(value >> (shift - np.uint64(3))) & 7
        found[number] = ((bits >> bit) & 1) & (value != np.uint64(0))
    for number in range(hashes.size):
        if found[number]:
            value, found[number] = hashes[number], False
            bucket = np.int64(value >> shift)
            for place in range(buckets[bucket], buckets[bucket + 1]):
                if ascending[place] == value:
                    found[number] = True
                    break


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
    num_texts = offsets.size - 1
    longest = 0
    for text in range(num_texts):
        longest = max(longest, offsets[text + 1] - offsets[text])
    words, hashes = np.empty(longest, dtype=np.uint64), np.empty(num_texts, dtype=np.uint64)
    grams, ends = np.empty(codes.size + num_texts, dtype=np.uint64), np.empty(num_texts, dtype=np.int64)
    num_grams = 0
    for text in range(num_texts):
        start, end = offsets[text], offsets[text + 1]
        hashes[text] = hash_of_words(codes, start, end, characters[0])
        num_words = fill_words_of_text(codes, start, end, characters, words, 0)
        if num_words:
            num_grams += fill_grams(words, 0, num_words, ngram, grams[num_grams:])
        ends[text] = num_grams
    fill_held_out(texts, hashes, found[0])
    is_shared = np.empty(num_grams, dtype=np.bool_)
    fill_held_out(ngrams, grams[:num_grams], is_shared)
    gram = 0
    for text in range(num_texts):
        found[1, text] = False
        while gram < ends[text]:
            found[1, text] |= is_shared[gram]
            gram += 1
