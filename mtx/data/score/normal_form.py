"""The normal form of texts in which duplicates are found: NFKC, lower case, and one space between words.

Two texts with one normal form differ only in case, in white space, and in compatibility characters such as ﬁ or
full-width letters. In the form without punctuation, they may also differ in punctuation and symbols. Lower case is
taken character by character.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache
from itertools import chain
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.compiled_kernels import numba_kernels
from mtx.data.score.character_scripts import END, NUM_CODES, UNIFORM_BLOCKS
from mtx.data.score.text_features import mixed

SPACE = 32
SEPARATOR = "\x01"  # between the sides of a pair; rare in texts, and no white space
LAST_ASCII = 127  # NFKC changes no ASCII character
JOINING_JAMO = range(0x1161, 0x1200)  # Hangul vowels and finals, which join the syllable before them
BLOCK_ENDS = (0, *(block.stop for block in UNIFORM_BLOCKS))
BLOCK_STARTS = (*(block.start for block in UNIFORM_BLOCKS), END)
POSITION_BITS = 32  # the low half of a hashed number is the character, and the high half its position in the text
MAX_EXPANSION = 4  # characters that NFKC makes of one: at most as many as the bytes of UTF-8
LEAST_COMPILED = 1000  # for fewer texts, numpy takes less time than the import of numba

Codes = NDArray[np.uint32]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class NormalTexts:
    """The normal forms of n texts, joined.

    Attributes:
        codes: the code points, uint32 [characters].
        offsets: the first character of each text, and the end of the last one: int64 [n + 1].
    """

    codes: Codes
    offsets: NDArray[np.int64]

    def hashes(self, *, compiled: bool = True) -> Hashes:
        """Return the 64-bit hash of each text: uint64 [n]; 0 for an empty text.

        Among a million different texts, two have one hash with a probability of 3e-8.

        Args:
            compiled: whether to use numba for many texts, if it is installed; the result is the same.
        """
        if (kernels := normal_form_kernels() if compiled and len(self.offsets) > LEAST_COMPILED else None) is not None:
            found = np.empty(len(self.offsets) - 1, dtype=np.uint64)
            kernels.fill_text_hashes(self.codes, self.offsets, found)
            return found
        lengths = np.diff(self.offsets)
        places = np.arange(len(self.codes), dtype=np.int64) - np.repeat(self.offsets[:-1], lengths)
        values = mixed((places.astype(np.uint64) << np.uint64(POSITION_BITS)) + self.codes + np.uint64(1))
        sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(values, out=sums[1:])
        return mixed(sums[self.offsets[1:]] - sums[self.offsets[:-1]])

    def without_punctuation(self) -> "NormalTexts":
        """Return the texts without all characters but letters, marks and numbers; see `normal_texts`."""
        is_word = folding_table().is_word[self.codes]
        sums = np.zeros(len(is_word) + 1, dtype=np.int64)
        np.cumsum(is_word, out=sums[1:])
        is_without = sums[self.offsets[1:]] == sums[self.offsets[:-1]]
        if is_without.any():
            is_word |= _is_single(self.codes) & np.repeat(is_without, np.diff(self.offsets))
        return _selected(self.codes, self.offsets, is_word)


@dataclass(frozen=True)
class FoldingTable:
    """How each code point enters a normal form.

    Attributes:
        folded: uint32 [code points], the character in lower case; a space for white space.
        is_plain: bool [code points], False if NFKC may change a text with this character.
        is_word: bool [code points], True for letters, marks and numbers.
        expansion: uint16 [code points], the row of `expansions` for a character that is not plain, else 0. NFKC
            replaces such a character by plain ones, whatever its neighbours are.
        expansions: uint32 [rows, 1 + MAX_EXPANSION], the number of characters, and these characters in lower case.
    """

    folded: Codes
    is_plain: NDArray[np.bool_]
    is_word: NDArray[np.bool_]
    expansion: NDArray[np.uint16]
    expansions: Codes


@cache
def folding_table() -> FoldingTable:
    """Return the table of all code points; computed once, in less than a tenth of a second."""
    folded = np.arange(NUM_CODES, dtype=np.uint32)
    is_plain = np.ones(NUM_CODES, dtype=np.bool_)
    is_word = np.zeros(NUM_CODES, dtype=np.bool_)
    for block in UNIFORM_BLOCKS:  # whose characters are letters, without case, that NFKC keeps
        is_word[block.start : block.stop] = True
    for code in chain(*(range(end, start) for end, start in zip(BLOCK_ENDS, BLOCK_STARTS, strict=True))):
        character = chr(code)
        category = unicodedata.category(character)
        if category in ("Cn", "Co", "Cs"):
            continue
        is_word[code] = category[0] in "LMN"
        if len(small := character.lower()) == 1:
            folded[code] = ord(small)
        if character.isspace():
            folded[code] = SPACE
        # A mark may join the character before it, or change places with another mark.
        if category[0] == "M" or unicodedata.normalize("NFKC", character) != character:
            is_plain[code] = False
    is_plain[JOINING_JAMO.start : JOINING_JAMO.stop] = False
    return FoldingTable(folded, is_plain, is_word, *_expansions(folded, is_plain))


def _expansions(folded: Codes, is_plain: NDArray[np.bool_]) -> tuple[NDArray[np.uint16], Codes]:
    """Return `expansion` and `expansions` of the table, given its other columns."""
    expansion = np.zeros(NUM_CODES, dtype=np.uint16)
    rows = [[0] * (1 + MAX_EXPANSION)]
    for code in np.flatnonzero(~is_plain).tolist():
        found = [ord(character) for character in unicodedata.normalize("NFKC", chr(code))]
        # The buffer of a text has room for as many characters as the text has bytes.
        # The kernel drops a second space only where a character is not expanded into several.
        fits = len(found) <= len(chr(code).encode()) and (len(found) == 1 or SPACE not in found)
        if fits and is_plain[found].all():
            expansion[code] = len(rows)
            rows.append([len(found), *folded[found].tolist(), *[0] * (MAX_EXPANSION - len(found))])
    return expansion, np.array(rows, dtype=np.uint32)


def normal_texts(texts: pa.LargeStringArray, *, with_punctuation: bool = True, compiled: bool = True) -> NormalTexts:
    """Return the normal forms of texts.

    Args:
        texts: n texts, without nulls.
        with_punctuation: False leaves out all characters but letters, marks and numbers, and white space with them. A
            text without any of these keeps its characters, so that two texts of punctuation are not equal.
        compiled: whether to use numba for many texts, if it is installed.
    """
    return _normal_trimmed(pc.utf8_trim_whitespace(texts), with_punctuation, compiled)


def normal_pairs(pairs: pa.RecordBatch) -> NormalTexts:
    """Return the normal form of each pair: both sides with `SEPARATOR` between them."""
    source, target = (pc.utf8_trim_whitespace(pairs.column(side)) for side in ("src", "tgt"))
    joined = pc.binary_join_element_wise(source, target, pa.scalar(SEPARATOR, pa.large_string()))
    return _normal_trimmed(joined, with_punctuation=True, compiled=True)


def _normal_trimmed(texts: pa.LargeStringArray, with_punctuation: bool, compiled: bool) -> NormalTexts:
    """Return the normal forms of texts without white space at their ends; see `normal_texts`."""
    kernels = normal_form_kernels() if compiled and len(texts) >= LEAST_COMPILED else None
    if kernels is not None:
        found, is_plain = _folded_texts(kernels, texts, with_punctuation)
        if is_plain.all():
            return found
        rows = np.flatnonzero(~is_plain)
        changed = pa.array(_nfkc_texts(texts, rows), pa.large_string())
        return _with_texts(found, rows, _folded_texts(kernels, changed, with_punctuation)[0])
    table = folding_table()
    codes, offsets = _code_points(texts)
    foreign = np.flatnonzero(codes > LAST_ASCII)
    foreign = foreign[~table.is_plain[codes[foreign]]]
    if len(foreign):
        rows = np.unique(np.searchsorted(offsets, foreign, side="right") - 1)
        codes, offsets = _code_points(_with_nfkc(texts, rows))
    folded = table.folded[codes]
    if with_punctuation:
        return _selected(folded, offsets, _is_single(folded))
    return NormalTexts(folded, offsets).without_punctuation()


@cache
def normal_form_kernels() -> ModuleType | None:
    """Return the module of the compiled kernels, or None if numba is not available."""
    return numba_kernels("mtx.data.score.normal_form_kernels", "numpy folds texts, which takes three times as long")


def _folded_texts(
    kernels: ModuleType, texts: pa.LargeStringArray, with_punctuation: bool
) -> tuple[NormalTexts, NDArray[np.bool_]]:
    """Return the folded texts, and for which of them this is the normal form, because NFKC joins nothing: bool [n]."""
    offsets, ends = np.zeros(len(texts) + 1, dtype=np.int64), np.zeros(len(texts) + 1, dtype=np.int64)
    is_plain = np.ones(len(texts), dtype=np.bool_)
    _, buffer, data = texts.buffers()
    if data is None or not len(texts):
        return NormalTexts(np.empty(0, dtype=np.uint32), ends), is_plain
    offsets = np.frombuffer(buffer, dtype=np.int64, count=len(texts) + 1, offset=8 * texts.offset)
    octets = np.frombuffer(data, dtype=np.uint8)
    # A text has at most as many characters as bytes, and memory counts only when it is written. One more is needed,
    # because the kernel writes a character before it decides whether to keep it.
    codes = np.empty(int(offsets[-1] - offsets[0]) + 1, dtype=np.uint32)
    table = folding_table()
    tables = (table.folded, table.is_plain, table.is_word, table.expansion, table.expansions)
    end = kernels.fill_folded(octets, offsets, tables, with_punctuation, codes, ends[1:], is_plain)
    return NormalTexts(codes[:end], ends), is_plain


def _code_points(texts: pa.LargeStringArray) -> tuple[Codes, NDArray[np.int64]]:
    offsets = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False), out=offsets[1:])
    _, buffer, data = texts.buffers()
    if data is None or not len(texts):
        return np.empty(0, dtype=np.uint32), offsets
    first, end = np.frombuffer(buffer, dtype=np.int64, count=len(texts) + 1, offset=8 * texts.offset)[[0, -1]]
    joined = bytes(memoryview(data)[int(first) : int(end)]).decode("utf-8")
    return np.frombuffer(joined.encode("utf-32-le"), dtype="<u4"), offsets


def _with_nfkc(texts: pa.LargeStringArray, rows: NDArray[np.int64]) -> pa.LargeStringArray:
    """Return the texts with those of some rows in NFKC."""
    mask = np.zeros(len(texts), dtype=np.bool_)
    mask[rows] = True
    return pc.replace_with_mask(texts, pa.array(mask), pa.array(_nfkc_texts(texts, rows), pa.large_string()))


def _nfkc_texts(texts: pa.LargeStringArray, rows: NDArray[np.int64]) -> list[str]:
    return [unicodedata.normalize("NFKC", text).strip() for text in texts.take(pa.array(rows)).to_pylist()]


def _with_texts(texts: NormalTexts, rows: NDArray[np.int64], changed: NormalTexts) -> NormalTexts:
    """Return the texts with those of the given rows, ascending, replaced in order."""
    lengths = np.diff(texts.offsets)
    lengths[rows] = np.diff(changed.offsets)
    pieces, start = [], 0
    for number, row in enumerate(rows.tolist()):
        pieces.append(texts.codes[start : texts.offsets[row]])
        pieces.append(changed.codes[changed.offsets[number] : changed.offsets[number + 1]])
        start = int(texts.offsets[row + 1])
    pieces.append(texts.codes[start:])
    return NormalTexts(np.concatenate(pieces), np.concatenate([[0], np.cumsum(lengths)]))


def _is_single(codes: Codes) -> NDArray[np.bool_]:
    """Return a mask without the spaces that follow a space. Texts begin and end without white space."""
    is_space = codes == SPACE
    mask = np.ones(len(codes), dtype=np.bool_)
    np.logical_not(is_space[1:] & is_space[:-1], out=mask[1:])
    return mask


def _selected(codes: Codes, offsets: NDArray[np.int64], mask: NDArray[np.bool_]) -> NormalTexts:
    if mask.all():
        return NormalTexts(codes, offsets)
    sums = np.zeros(len(mask) + 1, dtype=np.int64)
    np.cumsum(mask, out=sums[1:])
    return NormalTexts(codes[mask], sums[offsets])
