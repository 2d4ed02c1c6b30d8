"""Features of many texts at once, such as letters, numbers and words, computed on UTF-8 bytes without a Python loop.

Classes of characters come from Python's Unicode database. A script is the first word of a character's Unicode name,
such as LATIN or HIRAGANA. Only characters beyond ASCII are decoded, so Latin text is fast.
"""

import unicodedata
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.score.character_scripts import END, NUM_CODES, UNIFORM_BLOCKS, UNSPACED_SCRIPTS, script_of

LETTER, SPACE, DIGIT, UNSPACED = 1, 2, 4, 8  # flags of a character; marks count as letters
CONTINUATION = 16  # flag of each byte of a character after the first one
MAX_SCRIPTS = 255
TEXT_BITS = 20  # bits of a key for the number of the text in its batch; a batch has at most 65,536 texts
BASE = 0x9E3779B97F4A7C15  # odd, so that its powers can be inverted modulo 2^64 (Knuth, TAOCP vol. 3, 6.4)

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class CharacterTable:
    """Properties of all code points.

    Attributes:
        flags: uint8 [code points], the flags LETTER, SPACE, DIGIT and UNSPACED.
        scripts: uint8 [code points], the number of a letter's script; 0 for other characters and for rare scripts.
        script_names: the name of each script by number; the first one is empty.
        digits: uint8 [code points], the value of a decimal digit of any script; 255 for other characters.
        lower: uint32 [code points], the character in lower case, if that is one character.
    """

    flags: NDArray[np.uint8]
    scripts: NDArray[np.uint8]
    script_names: tuple[str, ...]
    digits: NDArray[np.uint8]
    lower: NDArray[np.uint32]


@cache
def character_table() -> CharacterTable:
    """Return the properties of all code points; computed once, in about a tenth of a second."""
    flags, scripts = np.zeros((2, NUM_CODES), dtype=np.uint8)
    digits = np.full(NUM_CODES, 255, dtype=np.uint8)
    lower = np.arange(NUM_CODES, dtype=np.uint32)
    characters = [*map(chr, range(END))]
    categories = "".join(map(unicodedata.category, characters))[::2]  # their first letters
    is_letter = np.frombuffer(categories.replace("M", "L").encode(), dtype=np.uint8) == ord("L")
    flags[:END][~is_letter & np.fromiter(map(str.isspace, characters), dtype=np.bool_)] = SPACE
    for code in (code for code, category in enumerate(categories) if category == "N"):
        if unicodedata.category(characters[code]) == "Nd":
            flags[code], digits[code] = DIGIT, unicodedata.decimal(characters[code])
    numbers: dict[str, int] = {"": 0}
    is_in_block = np.zeros(END, dtype=np.bool_)
    for block in UNIFORM_BLOCKS:
        is_in_block[block.start + 1 : block.stop] = True  # the first letter stands for all
    for code in np.flatnonzero(is_letter & ~is_in_block).tolist():
        script = script_of(characters[code])
        if script not in numbers and len(numbers) < MAX_SCRIPTS:
            numbers[script] = len(numbers)
        scripts[code] = numbers.get(script, 0)
        flags[code] = LETTER | (UNSPACED if script in UNSPACED_SCRIPTS else 0)
        if len(small := characters[code].lower()) == 1:
            lower[code] = ord(small)
    for block in UNIFORM_BLOCKS:
        letters = block.start + np.flatnonzero(is_letter[block.start : block.stop])
        flags[letters], scripts[letters] = flags[block.start], scripts[block.start]
    return CharacterTable(flags, scripts, tuple(numbers), digits, lower)


def mixed(values: Keys) -> Keys:
    """Return 64-bit hashes of integers, by the finaliser of MurmurHash3."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))


@cache
def _powers(size: int) -> tuple[Keys, Keys]:
    """Return the powers 0 to size − 1 of `BASE` and of its inverse, modulo 2^64: uint64 [size] each."""
    ones = np.ones(size, dtype=np.uint64)
    ones[1:] = BASE
    inverses = np.ones(size, dtype=np.uint64)
    inverses[1:] = pow(BASE, -1, 1 << 64)
    return np.cumprod(ones), np.cumprod(inverses)


@dataclass(frozen=True)
class Words:
    """The words of n texts: runs of letters, and pairs of neighbouring letters in scripts without spaces.

    Attributes:
        keys: uint64 [words], ascending; the upper 20 bits are the number of the text, the others a hash of the word.
        num_texts: n.
    """

    keys: Keys
    num_texts: int

    @cached_property
    def distinct(self) -> Keys:
        """The distinct keys, ascending."""
        first = np.ones(len(self.keys), dtype=np.bool_)
        first[1:] = self.keys[1:] != self.keys[:-1]
        return self.keys[first]

    @cached_property
    def num_words(self) -> Ints:
        """The number of words of each text: int64 [n]."""
        return _counts_by_text(self.keys, self.num_texts)

    @cached_property
    def num_distinct(self) -> Ints:
        """The number of distinct words of each text: int64 [n]."""
        return _counts_by_text(self.distinct, self.num_texts)

    def num_shared(self, other: "Words") -> Ints:
        """Return how many distinct words of each text also occur in the text of the same number: int64 [n]."""
        both = np.sort(np.concatenate([self.distinct, other.distinct]))
        return _counts_by_text(both[1:][both[1:] == both[:-1]], self.num_texts)


def _counts_by_text(keys: Keys, num_texts: int) -> Ints:
    return np.bincount((keys >> np.uint64(64 - TEXT_BITS)).astype(np.int64), minlength=num_texts)


class TextFeatures:
    """Features of n texts, computed for all texts at once.

    Args:
        texts: the texts, without nulls, at most 2^20.

    Attributes:
        num_texts: n.
        num_chars: the number of characters of each text, int64 [n].
        offsets: the first byte of each text, and the end of the last one: int64 [n + 1].
        flags: uint8 [bytes], the flags of the character of each byte.
        foreign: the characters beyond ASCII.
    """

    def __init__(self, texts: pa.LargeStringArray) -> None:
        self.num_texts = len(texts)
        self.num_chars: Ints = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
        self._data, self.offsets = bytes_of(texts)
        self.flags = np.frombuffer(bytearray(self._data.translate(_ascii_flags())), dtype=np.uint8)
        self.foreign = ForeignCharacters(self._data, self.offsets, self.flags)

    def count(self, mask: NDArray[np.bool_]) -> Ints:
        """Return the number of True bytes of each text: int64 [n]."""
        sums = np.zeros(len(mask) + 1, dtype=np.int32)
        np.cumsum(mask, dtype=np.int32, out=sums[1:])
        found: Ints = np.diff(sums[self.offsets]).astype(np.int64)
        return found

    @cached_property
    def num_letters(self) -> Ints:
        """The number of letters and marks of each text: int64 [n]."""
        return self.count((self.flags & (LETTER | CONTINUATION)) == LETTER)

    @cached_property
    def num_visible(self) -> Ints:
        """The number of characters that are no white space, of each text: int64 [n]."""
        return self.num_chars - self.count((self.flags & (SPACE | CONTINUATION)) == SPACE)

    def num_letters_of(self, is_wanted: NDArray[np.bool_]) -> Ints:
        """Return the number of letters of each text in certain scripts: int64 [n].

        Args:
            is_wanted: bool [scripts], by script number.
        """
        latin = self.num_letters - self.foreign.counts_by_text(self.foreign.flags & LETTER != 0)
        table = character_table()
        foreign = is_wanted[table.scripts[self.foreign.codes]] & (self.foreign.flags & LETTER != 0)
        num_latin = latin if is_wanted[table.script_names.index("LATIN")] else np.zeros_like(latin)
        return num_latin + self.foreign.counts_by_text(foreign)

    def script_counts(self) -> Ints:
        """Return the number of letters of all texts by script number: int64 [256]."""
        table, of = character_table(), self.foreign
        counts = np.bincount(table.scripts[of.codes[of.flags & LETTER != 0]], minlength=256)
        counts[table.script_names.index("LATIN")] += int(self.num_letters.sum()) - int(counts.sum())
        return counts

    @cached_property
    def words(self) -> Words:
        """The words of the texts, in lower case."""
        keys = [self._run_keys()]
        if (self.foreign.flags & UNSPACED).any():
            keys.append(self._bigram_keys())
        return Words(np.sort(np.concatenate(keys)), self.num_texts)

    @cached_property
    def digits(self) -> tuple[Ints, Ints]:
        """The positions (bytes) and the values of all decimal digits of all scripts: int64 [digits] each."""
        positions = np.flatnonzero((self.flags & (DIGIT | CONTINUATION)) == DIGIT)
        values = np.frombuffer(self._data, dtype=np.uint8)[positions].astype(np.int64) - ord("0")
        if (foreign := self.foreign.flags & DIGIT != 0).any():
            places = np.searchsorted(positions, self.foreign.positions[foreign])
            values[places] = character_table().digits[self.foreign.codes[foreign]]
        return positions, values

    def text_of(self, positions: Ints) -> Ints:
        """Return the number of the text in which each position lies; `positions` is ascending: int64 [positions]."""
        return _text_of(self.offsets, positions)

    def _run_keys(self) -> Keys:
        """Return a key for each run of letters within a text. Letters of scripts without spaces are left out.

        The hash of a run is a polynomial in `BASE`: a difference of prefix sums over all bytes.
        """
        mask = (self.flags & (LETTER | UNSPACED)) == LETTER
        change = np.empty(len(mask) + 1, dtype=np.bool_)
        change[0], change[-1] = mask[:1].any(), mask[-1:].any()
        np.not_equal(mask[1:], mask[:-1], out=change[1:-1])
        inner = self.offsets[1:-1]
        inner = inner[(inner > 0) & (inner < len(mask))]
        inner = inner[mask[inner] & mask[inner - 1]]  # a run that would cross from one text to the next
        bounds = np.flatnonzero(change)
        if len(inner):
            bounds = np.sort(np.concatenate([bounds, np.repeat(np.unique(inner), 2)]))
        starts, ends = bounds[::2], bounds[1::2]
        values = np.frombuffer(self._data.lower(), dtype=np.uint8).astype(np.uint64)
        values[(self.flags & CONTINUATION) != 0] = 0
        values[self.foreign.positions] = character_table().lower[self.foreign.codes]
        size = 1 << max(len(values), 1 << 16).bit_length()
        powers, inverses = _powers(size)
        values *= powers[: len(values)]
        sums = np.zeros(len(values) + 1, dtype=np.uint64)
        np.cumsum(values, out=sums[1:])
        return _keys(self.text_of(starts), mixed((sums[ends] - sums[starts]) * inverses[starts]))

    def _bigram_keys(self) -> Keys:
        """Return a key for each letter of a script without spaces: a hash of the letter and the letter after it."""
        of = self.foreign
        is_unspaced = of.flags & UNSPACED != 0
        following = np.zeros(len(of.codes), dtype=np.uint64)
        following[:-1] = np.where(of.is_followed[:-1] & is_unspaced[1:], of.codes[1:], 0)
        values = (of.codes.astype(np.uint64) << np.uint64(32)) + following
        return _keys(of.texts[is_unspaced], mixed(values[is_unspaced]))


class ForeignCharacters:
    """The characters beyond ASCII of several texts, in order; completes the flags of all bytes in place.

    Attributes:
        positions: the first byte of each character, int64 [characters].
        codes: the code points, int64 [characters].
        flags: the flags of the characters, uint8 [characters].
        texts: the number of the text of each character, int64 [characters].
        is_followed: whether the next character of the text is beyond ASCII, too: bool [characters].
    """

    def __init__(self, data: bytes, offsets: Ints, flags: NDArray[np.uint8]) -> None:
        octets = np.frombuffer(data, dtype=np.uint8)
        self.positions: Ints = np.flatnonzero(octets >= 0xC0)
        self._num_texts = len(offsets) - 1
        lead = octets[self.positions].astype(np.int64)
        sizes = 2 + (lead >= 0xE0).astype(np.int64) + (lead >= 0xF0)
        codes = lead & (0x7F >> sizes)
        for number in (1, 2, 3):
            longer = sizes > number
            here = self.positions[longer] + number
            codes[longer] = (codes[longer] << 6) | (octets[here] & 0x3F)
        self.codes: Ints = codes
        self.flags = character_table().flags[codes]
        flags[self.positions] = self.flags
        for number in (1, 2, 3):
            longer = sizes > number
            flags[self.positions[longer] + number] = self.flags[longer] | CONTINUATION
        self.texts = _text_of(offsets, self.positions)
        self.is_followed = np.zeros(len(codes), dtype=np.bool_)
        self.is_followed[:-1] = (self.positions[:-1] + sizes[:-1] == self.positions[1:]) & (
            self.texts[:-1] == self.texts[1:]
        )

    def counts_by_text(self, mask: NDArray[np.bool_]) -> Ints:
        """Return the number of True characters of each text: int64 [n]."""
        return np.bincount(self.texts[mask], minlength=self._num_texts)


@cache
def _ascii_flags() -> bytes:
    """Return the flags of the 128 ASCII characters, and 0 for all other bytes."""
    return character_table().flags[:128].tobytes() + bytes(128)


def _text_of(offsets: Ints, positions: Ints) -> Ints:
    counts = np.diff(np.searchsorted(positions, offsets))
    return np.repeat(np.arange(len(counts)), counts)


def _keys(texts: Ints, hashes: Keys) -> Keys:
    return (texts.astype(np.uint64) << np.uint64(64 - TEXT_BITS)) | (hashes >> np.uint64(TEXT_BITS))


def bytes_of(texts: pa.LargeStringArray) -> tuple[bytes, Ints]:
    """Return the joined UTF-8 bytes of all texts of an array, and the offsets of the texts in them: int64 [n + 1]."""
    _, buffer, data = texts.buffers()
    if buffer is None or not len(texts):
        return b"", np.zeros(len(texts) + 1, dtype=np.int64)
    offsets = np.frombuffer(buffer, dtype=np.int64, count=len(texts) + 1, offset=8 * texts.offset)
    joined = b"" if data is None else bytes(memoryview(data)[int(offsets[0]) : int(offsets[-1])])
    return joined, offsets - offsets[0]
