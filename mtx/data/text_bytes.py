"""Texts in Arrow arrays as UTF-8 bytes, to which numpy applies simple rules faster than rules for characters run."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.row_slices import row_slices

ROWS_AT_ONCE = 1 << 13  # whose bytes, and the masks of them, fit into the caches of a processor
Bounds = NDArray[np.int64]  # positions in an array of bytes
Bytes = NDArray[np.uint8]

EN_QUAD_TO_HAIR_SPACE = "".join(map(chr, range(0x2000, 0x200B)))
# White space outside ASCII has two or three bytes in UTF-8. Its first byte is one of a few.
WIDE_SPACES = [char.encode() for char in f"\x85\xa0\u1680{EN_QUAD_TO_HAIR_SPACE}\u2028\u2029\u202f\u205f\u3000"]
FIRST_BYTES = sorted({char[0] for char in WIDE_SPACES})


def text_buffers(texts: pa.LargeStringArray) -> tuple[Bytes, Bounds]:
    """Return the bytes of all texts, and the n + 1 bounds of the texts in them, int64; both without a copy."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return held[ends[0] : ends[-1]], ends - ends[0]


def num_words(texts: pa.LargeStringArray) -> int:
    """Return the total number of words, separated by white space, in all texts: the sum of `len(text.split())`."""
    return sum(map(_num_words, row_slices(texts, ROWS_AT_ONCE)))


def has_control_character(texts: pa.LargeStringArray) -> bool:
    """Return whether a text has a C0 or C1 control character or DEL, other than tab, line feed and carriage return."""
    return any(map(_has_control_character, row_slices(texts, ROWS_AT_ONCE)))


def _num_words(texts: pa.LargeStringArray) -> int:
    data, ends = text_buffers(texts)
    is_space = (data - 0x09 < 0x05) | (data - 0x1C < 0x05)  # uint8 wraps around below 0
    for place, char in _wide_spaces(data):
        for after in range(len(char)):
            is_space[place + after] = True
    follows_space = is_space[:-1] & ~is_space[1:]
    starts = ends[:-1][np.diff(ends) > 0]
    follows_text = ~is_space[starts]
    follows_text[1:] &= ~is_space[starts[1:] - 1]  # a word after white space is counted already
    return int(np.count_nonzero(follows_space)) + int(np.count_nonzero(follows_text))


def _has_control_character(texts: pa.LargeStringArray) -> bool:
    data, _ = text_buffers(texts)
    of_ascii = (data < 0x20) & (data != 0x09) & (data != 0x0A) & (data != 0x0D) | (data == 0x7F)
    if of_ascii.any():
        return True
    first = np.flatnonzero(data == 0xC2)  # the first byte of U+0080 to U+00BF
    return bool((data[first + 1] < 0xA0).any())


def _wide_spaces(data: Bytes) -> list[tuple[Bounds, bytes]]:
    """Return the places of each white space outside ASCII that occurs, with its bytes."""
    is_first = np.zeros(len(data), dtype=np.bool_)
    for byte in FIRST_BYTES:
        is_first |= data == byte
    places = np.flatnonzero(is_first)
    if not len(places):
        return []
    end = len(data) - 1
    codes = np.stack([data[np.minimum(places + after, end)] for after in range(3)], axis=1)
    found = ((places[(codes[:, : len(char)] == list(char)).all(axis=1)], char) for char in WIDE_SPACES)
    return [(places_of_char, char) for places_of_char, char in found if len(places_of_char)]
