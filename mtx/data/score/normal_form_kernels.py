"""Compiled kernels of the normal form of texts and of its words, with results equal to those of numpy.

This module imports numba, an optional dependency, so only `normal_form.py` imports it. The kernels release the GIL.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled
from mtx.data.score.minhash_kernels import ONE, S32, mixed

Array = NDArray[Any]

SPACE = 32

_compiled = partial(compiled, error_model="numpy")


@_compiled
def code_at(data: Array, place: int) -> tuple[Any, int]:
    """Return the code point whose first byte of UTF-8 is at a place, and the place behind it. Assumes valid UTF-8."""
    first = np.int64(data[place])
    if first < 0x80:
        return first, place + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (np.int64(data[place + 1]) & 0x3F), place + 2
    low = (np.int64(data[place + 1]) & 0x3F) << 6 | (np.int64(data[place + 2]) & 0x3F)
    if first < 0xF0:
        return (first & 0x0F) << 12 | low, place + 3
    return (first & 0x07) << 18 | low << 6 | (np.int64(data[place + 3]) & 0x3F), place + 4


@_compiled
def fill_folded(
    data: Array,
    offsets: Array,
    table: tuple[Array, Array, Array],
    with_punctuation: bool,
    codes: Array,
    ends: Array,
    is_plain: Array,
) -> int:
    """Write the characters of n texts in lower case, and return their number; see `normal_form.normal_texts`.

    Args:
        data: the bytes of all texts, UTF-8.
        offsets: the first byte of each text, and the end of the last one: [n + 1].
        table: the three arrays of `FoldingTable`.
        with_punctuation: False leaves out all but words, except in a text without a word.
        codes: receives the characters.
        ends: receives the end of each text in `codes`: [n].
        is_plain: receives whether NFKC keeps all characters of each text, so that its result holds: [n].
    """
    folded, plain, word = table
    num_codes = 0
    previous: Any
    for text in range(offsets.size - 1):
        first, place, previous = num_codes, offsets[text], -1
        all_plain = True
        while place < offsets[text + 1]:
            code, place = code_at(data, place)
            all_plain &= plain[code]
            small = np.int64(folded[code])
            codes[num_codes] = small
            if with_punctuation:
                num_codes += not (small == SPACE and previous == SPACE)
            else:
                num_codes += word[small]
            previous = small
        is_plain[text] = all_plain
        if not with_punctuation and num_codes == first:
            place, previous = offsets[text], -1
            while place < offsets[text + 1]:
                code, place = code_at(data, place)
                small = np.int64(folded[code])
                codes[num_codes] = small
                num_codes += not (small == SPACE and previous == SPACE)
                previous = small
        ends[text] = num_codes
    return num_codes


@_compiled
def fill_word_hashes(codes: Array, offsets: Array, tables: tuple[Array, Array], words: Array, ends: Array) -> int:
    """Write the hash of each word of n texts, and return their number; see `contamination.word_hashes`.

    Args:
        codes: the characters of all texts.
        offsets: the first character of each text, and the end of the last one: [n + 1].
        tables: which characters belong to words, and which are a word alone: bool [code points] each.
        words: receives the hashes.
        ends: receives the end of each text in `words`: [n].
    """
    in_word, alone = tables
    num_words = 0
    for text in range(offsets.size - 1):
        was_word, was_alone, length, total = False, False, 0, np.uint64(0)
        for place in range(offsets[text], offsets[text + 1]):
            code = codes[place]
            is_word, is_alone = in_word[code], alone[code]
            if was_word and not (is_word and not is_alone and not was_alone):
                words[num_words] = mixed(total)
                num_words += 1
                length, total = 0, np.uint64(0)
            if is_word:
                total += mixed((np.uint64(length) << S32) + np.uint64(code) + ONE)
                length += 1
            was_word, was_alone = is_word, is_alone
        if was_word:
            words[num_words] = mixed(total)
            num_words += 1
        ends[text] = num_words
    return num_words
