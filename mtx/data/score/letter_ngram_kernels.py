"""Compiled n-gram functions of the language scorer, with results equal to those of `letter_ngrams.py`.

This module imports numba, an optional dependency, so only `ngram_choice.py` imports it. All kernels release the GIL.
"""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled
from mtx.data.score import letter_ngrams
from mtx.data.score.letter_ngrams import Codes, Counts, Floats, Ints, Mask, Words, letter_codes, shortened
from mtx.data.score.text_features import bytes_of

Array = NDArray[Any]

BASE, HASH_SHIFT, ONE = (np.uint64(number) for number in (letter_ngrams.BASE, letter_ngrams.HASH_SHIFT, 1))
MAX_ORDER, SEPARATOR = letter_ngrams.MAX_ORDER, np.uint32(letter_ngrams.SEPARATOR)
NUM_LOGS, COARSE_BITS, COARSE_LOG = letter_ngrams.NUM_LOGS, letter_ngrams.COARSE_BITS, letter_ngrams.COARSE_LOG


def words_of(texts: pa.LargeStringArray) -> Words:
    """Return the words of texts."""
    data, offsets = bytes_of(shortened(texts))
    codes = np.empty(len(data) + len(offsets), dtype=np.uint32)
    places = np.empty(len(offsets), dtype=np.int64)
    num_codes = _fill_words(np.frombuffer(data, dtype=np.uint8), np.array(offsets), letter_codes(), codes, places)
    return Words(codes[:num_codes], places)


def add_counts(words: Words, counts: Counts) -> None:
    """Add the number of n-grams with each hash to `counts`."""
    _add_counts(words.codes, words.offsets, counts)


def log_ratios(source: Words, target: Words, counts: Counts, logs: Floats, in_sample: Mask) -> tuple[Floats, Floats]:
    """Return for each source and each target the sum of log(source count) − log(target count)."""
    found = np.empty((2, len(in_sample)))
    # The counts of a pair are taken off in place, and then added again: other threads need the table unchanged.
    own = counts.copy() if in_sample.any() else counts
    _fill_log_ratios(
        source.codes, source.offsets, target.codes, target.offsets, own, logs, np.array(in_sample), found[0], found[1]
    )
    return found[0], found[1]


@compiled
def _fill_words(data: Array, offsets: Ints, letters: Codes, codes: Codes, places: Ints) -> int:
    n = 0
    for text in range(offsets.size - 1):
        places[text] = n
        codes[n] = SEPARATOR
        n += 1
        is_word = False
        place = offsets[text]
        while place < offsets[text + 1]:
            byte = np.uint32(data[place])
            if byte < 0x80:
                code, size = byte, 1
            elif byte < 0xE0:
                code, size = byte & np.uint32(0x1F), 2
            elif byte < 0xF0:
                code, size = byte & np.uint32(0x0F), 3
            else:
                code, size = byte & np.uint32(0x07), 4
            # Text is valid UTF-8; the bounds keep damaged files from reading other memory.
            for rest in range(1, min(size, offsets[text + 1] - place)):
                code = (code << np.uint32(6)) | (np.uint32(data[place + rest]) & np.uint32(0x3F))
            place += size
            letter = letters[code] if code < letters.size else SEPARATOR
            if letter != SEPARATOR:
                codes[n] = letter
                n += 1
                is_word = True
            elif is_word:
                codes[n] = SEPARATOR
                n += 1
                is_word = False
        if codes[n - 1] == SEPARATOR and n - 1 > places[text]:
            n -= 1  # the first separator of the next text ends this text
    places[offsets.size - 1] = n
    codes[n] = SEPARATOR
    return n + 1


@compiled
def _slot(value: Any) -> Any:
    return np.int64(value >> HASH_SHIFT)


@compiled
def _add_counts(codes: Codes, offsets: Ints, counts: Array) -> None:
    for text in range(offsets.size - 1):
        first, last = offsets[text], offsets[text + 1]
        if last - first < 2:
            continue
        for end in range(first + 1, last + 1):
            value = np.uint64(0)
            for place in range(end, max(end - MAX_ORDER, first - 1), -1):
                value = (value + np.uint64(codes[place]) + ONE) * BASE
                counts[_slot(value)] += 1


@compiled
def _add_own(codes: Codes, first: int, last: int, side: int, number: int, counts: Array) -> None:
    if last - first < 2:
        return
    for end in range(first + 1, last + 1):
        value = np.uint64(0)
        for place in range(end, max(end - MAX_ORDER, first - 1), -1):
            value = (value + np.uint64(codes[place]) + ONE) * BASE
            counts[_slot(value), side] += number


@compiled
def _log(count: int, logs: Floats) -> float:
    if count < NUM_LOGS:
        return float(logs[count])
    return float(logs[min(count >> COARSE_BITS, NUM_LOGS - 1)] + COARSE_LOG)


@compiled
def _sum(codes: Codes, first: int, last: int, counts: Array, logs: Floats) -> float:
    total = 0.0
    if last - first < 2:
        return total
    for end in range(first + 1, last + 1):
        value = np.uint64(0)
        for place in range(end, max(end - MAX_ORDER, first - 1), -1):
            value = (value + np.uint64(codes[place]) + ONE) * BASE
            slot = _slot(value)
            total += _log(counts[slot, 0], logs) - _log(counts[slot, 1], logs)
    return total


@compiled
def _fill_log_ratios(
    source: Codes,
    source_offsets: Ints,
    target: Codes,
    target_offsets: Ints,
    counts: Array,
    logs: Floats,
    in_sample: Mask,
    of_source: Floats,
    of_target: Floats,
) -> None:
    for pair in range(in_sample.size):
        first, last = source_offsets[pair], source_offsets[pair + 1]
        target_first, target_last = target_offsets[pair], target_offsets[pair + 1]
        if in_sample[pair]:
            _add_own(source, first, last, 0, -1, counts)
            _add_own(target, target_first, target_last, 1, -1, counts)
        of_source[pair] = _sum(source, first, last, counts, logs)
        of_target[pair] = _sum(target, target_first, target_last, counts, logs)
        if in_sample[pair]:
            _add_own(source, first, last, 0, 1, counts)
            _add_own(target, target_first, target_last, 1, 1, counts)
