"""Cuts texts into pieces, at positions where no word of a tokenizer with a `CutRule` crosses the cut.

`cut_rule` in `text_cuts.py` decides which tokenizers have such a rule.
"""

import string
from typing import Literal

import numpy as np
import pyarrow as pa

from mtx.data.text_bytes import Bounds, Bytes

SPACE = 0x20
# White space outside ASCII, and characters that are sometimes treated as white space, such as SentencePiece's mark of a
# space. Their UTF-8 is compared as a number of two or three bytes. Text is not split at a space after one of these
# characters or after an ASCII control character.
WIDE_SPACES = [*"\u2581\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff", *map(chr, range(0x2000, 0x200C))]
WIDE_SPACES_UTF8 = np.array([int.from_bytes(char.encode()) for char in WIDE_SPACES], dtype=np.uint32)
TWO_BYTES, THREE_BYTES = WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 < 1 << 16], WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 >= 1 << 16]

# "keep": a piece keeps its leading space; "classes": the same, and texts are also cut at `class_changes`; "drop": the
# tokenizer prepends a space itself
CutRule = Literal["keep", "classes", "drop"]
ASCII_CLASSES = np.zeros(256, dtype=np.uint8)  # 0: none
ASCII_CLASSES[np.frombuffer(string.ascii_letters.encode(), dtype=np.uint8)] = 1
ASCII_CLASSES[np.frombuffer(string.digits.encode(), dtype=np.uint8)] = 2
ASCII_CLASSES[np.frombuffer(string.punctuation.replace("'", "").encode(), dtype=np.uint8)] = 3


def cut_places(data: Bytes) -> Bounds:
    """Return where UTF-8 text may be split: before each space that follows a visible character, int64 positions.

    At such a position, every tokenizer that `cut_rule` accepts begins a token. Its words contain a space only at their
    start or among other white space. Unicode normalisation does not cross such a position, and leaves no white space
    before it. If `data` contains several texts, the first byte of a text may be such a position.
    """
    places: Bounds = np.flatnonzero(data[1:] == SPACE) + 1
    before = data[places - 1]
    plain = (before > SPACE) & (before != 0x7F)
    wide = np.flatnonzero(before >= 0x80)
    last = places[wide] - 1
    two = data[last].astype(np.uint32) | data[last - 1].astype(np.uint32) << 8
    three = two | data[np.maximum(last - 2, 0)].astype(np.uint32) << 16
    plain[wide] = ~(np.isin(two, TWO_BYTES) | np.isin(three, THREE_BYTES))
    kept: Bounds = places[plain]
    return kept


def class_changes(data: Bytes) -> Bounds:
    """Return the positions between ASCII characters of two of these classes: letters, digits, punctuation.

    GPT-2's pattern ends a word at each of them. The apostrophe belongs to no class, because the pattern joins it with
    some letters.
    """
    of_byte = ASCII_CLASSES[data]
    before, after = of_byte[:-1], of_byte[1:]
    changes: Bounds = np.flatnonzero((before != after) & (before > 0) & (after > 0)) + 1
    return changes


def piece_bounds(data: Bytes, ends: Bounds, rule: CutRule) -> tuple[Bounds, Bounds]:
    """Return the cuts in all texts, and the sorted bounds of all pieces; with `drop`, a space is a piece.

    Args:
        data: the bytes of all texts.
        ends: the bounds of the texts in them.
        rule: where texts may be cut.
    """
    cuts = cut_places(data)
    is_bound = np.zeros(len(data) + 1, dtype=np.bool_)
    is_bound[ends] = True
    if rule == "drop":
        cuts = cuts[~is_bound[cuts] & ~is_bound[cuts + 1]]  # do not remove a space at the start or the end of a text
        is_bound[cuts + 1] = True
    elif rule == "classes":
        is_bound[class_changes(data)] = True
    is_bound[cuts] = True
    return cuts, np.flatnonzero(is_bound)


def pieces_between(data: Bytes, bounds: Bounds) -> pa.LargeStringArray:
    """Return the pieces of text between neighbouring bounds, without a copy of the bytes."""
    return pa.LargeStringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data))
