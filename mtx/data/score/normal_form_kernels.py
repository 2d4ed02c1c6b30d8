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
Tables = tuple[Array, Array, Array, Array, Array]

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
def fill_folded_text(
    data: Array, place: int, end: int, tables: Tables, codes: Array, num_codes: int
) -> tuple[int, bool]:
    """Write the characters of a text, and return the end in `codes` and whether they are the normal form."""
    folded, plain, _, expansion, expansions = tables
    is_normal = True
    previous = np.int64(-1)
    while place < end:
        first = np.int64(data[place])
        if first < 0x80:  # which NFKC never changes
            small = np.int64(folded[first])
            place += 1
        else:
            code, place = code_at(data, place)
            small = np.int64(folded[code])
            if not plain[code]:
                row = np.int64(expansion[code])
                if row == 0:
                    is_normal = False
                else:
                    # All but the last character of the expansion; the last one is written below.
                    last = np.int64(expansions[row, 0])
                    for number in range(1, last):
                        previous = np.int64(expansions[row, number])
                        codes[num_codes] = previous
                        num_codes += 1
                    small = np.int64(expansions[row, last])
        codes[num_codes] = small
        num_codes += not (small == SPACE and previous == SPACE)
        previous = small
    return num_codes, is_normal


@_compiled
def fill_folded(
    data: Array,
    offsets: Array,
    tables: Tables,
    with_punctuation: bool,
    codes: Array,
    ends: Array,
    is_normal: Array,
) -> int:
    """Write the characters of n texts in lower case, and return their number; see `normal_form.normal_texts`.

    Args:
        data: the bytes of all texts, UTF-8.
        offsets: the first byte of each text, and the end of the last one: [n + 1].
        tables: the arrays of `FoldingTable`.
        with_punctuation: False leaves out all but words, except in a text without a word.
        codes: receives the characters.
        ends: receives the end of each text in `codes`: [n].
        is_normal: receives whether the characters of each text are its normal form, because NFKC joins nothing: [n].
    """
    word = tables[2]
    num_codes = 0
    for text in range(offsets.size - 1):
        first = num_codes
        end, is_normal[text] = fill_folded_text(data, offsets[text], offsets[text + 1], tables, codes, first)
        if with_punctuation:
            num_codes = end
        elif end > first:
            head = codes[first]
            for place in range(first, end):
                code = codes[place]
                codes[num_codes] = code
                num_codes += word[code]
            if num_codes == first:  # without a word, the loop has overwritten the first character alone
                codes[first], num_codes = head, end
        ends[text] = num_codes
    return num_codes


@_compiled
def fill_text_hashes(codes: Array, offsets: Array, texts: Array) -> None:
    """Write the hash of each of n texts; see `NormalTexts.hashes`.

    Args:
        codes: the characters of all texts.
        offsets: the first character of each text, and the end of the last one: [n + 1].
        texts: receives the hashes: [n].
    """
    for text in range(offsets.size - 1):
        first, total = offsets[text], np.uint64(0)
        for place in range(first, offsets[text + 1]):
            total += mixed((np.uint64(place - first) << S32) + np.uint64(codes[place]) + ONE)
        texts[text] = mixed(total)


@_compiled
def fill_words_of_text(
    codes: Array, start: int, end: int, tables: tuple[Array, Array], words: Array, num_words: int
) -> int:
    """Write the hash of each word of a text, and return the end in `words`."""
    in_word, alone = tables
    was_word, was_alone, length, total = False, False, 0, np.uint64(0)
    for place in range(start, end):
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
    return num_words


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
    num_words = 0
    for text in range(offsets.size - 1):
        num_words = fill_words_of_text(codes, offsets[text], offsets[text + 1], tables, words, num_words)
        ends[text] = num_words
    return num_words
