"""Hashed character n-grams of texts: the features by which a language is recognised, computed by numpy.

Letters and marks count in lower case. All other characters between two words count as one separator, so numbers,
punctuation, emoji and markup give no n-gram. A text without letters has no n-gram. `ngram_kernels.py` contains
compiled functions with equal results, and `ngram_functions` in `ngram_choice.py` returns those that can be used.
"""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.score.text_features import LETTER, bytes_of, character_table

MAX_CHARS = 1000  # of a text, counted from its start: enough to know its language, and a bound on memory
MAX_ORDER = 4  # n-grams of 1 to 4 characters; longer ones are too rare in a sample
SLOT_BITS = 20  # 1,048,576 slots for the hashes of n-grams; more slots do not fit into a processor's cache
NUM_SLOTS = 1 << SLOT_BITS
HASH_SHIFT = 64 - SLOT_BITS  # the upper bits of a product depend on all bits of its factors
BASE = 0x9E3779B97F4A7C15  # odd, so that multiplication modulo 2^64 loses nothing (Knuth, TAOCP vol. 3, 6.4)
SEPARATOR = 32
NUM_LOGS = 1 << 20  # counts whose logarithms are in a table
COARSE_BITS = 10  # higher counts are divided by 1,024, which changes their logarithms by less than 0.001
COARSE_LOG = COARSE_BITS * math.log(2)

Codes = NDArray[np.uint32]
Counts = NDArray[np.integer[Any]]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Words:
    """The words of n texts, as code points in lower case.

    Attributes:
        codes: uint32 [characters]. A separator stands before the first word of each text, and after each word; the
            separator before a text ends the text before it.
        offsets: the place of the first separator of each text, and that of the last separator: int64 [n + 1].
    """

    codes: Codes
    offsets: Ints

    @property
    def num_ngrams(self) -> Ints:
        """The number of n-grams of each text: int64 [n]."""
        chars = np.diff(self.offsets)
        # The character at place p of a text ends min(p + 1, MAX_ORDER) n-grams; the first separator ends none.
        found: Ints = np.zeros_like(chars)
        for order in range(1, MAX_ORDER + 1):
            found += np.maximum(chars - max(order - 2, 0), 0)
        return np.where(chars > 1, found, 0)


class NgramFunctions(Protocol):
    """The functions that this module and `ngram_kernels` both offer, with equal results."""

    def words_of(self, texts: pa.LargeStringArray) -> Words:
        """Return the words of texts."""

    def add_counts(self, words: Words, counts: Counts) -> None:
        """Add the number of n-grams with each hash to `counts`, int64 [NUM_SLOTS]."""

    def log_ratios(
        self, source: Words, target: Words, counts: Counts, logs: Floats, in_sample: Mask
    ) -> tuple[Floats, Floats]:
        """Return for each source and each target the sum of log(source count) − log(target count): float64 [n] each.

        Args:
            source: the words of the sources.
            target: the words of the targets.
            counts: int32 [NUM_SLOTS, 2], the counts of the n-grams of all sources and of all targets.
            logs: see `log_table`.
            in_sample: bool [n], True for each pair whose own n-grams are taken off the counts.
        """


def log_table(smoothing: float) -> Floats:
    """Return log(count + smoothing) for all counts below `NUM_LOGS`: float64 [NUM_LOGS].

    The logarithm of a higher count is that of count // 2^COARSE_BITS, plus COARSE_BITS · log 2. So numpy and compiled
    code return the same bits.
    """
    return np.log(np.arange(NUM_LOGS) + smoothing)


@cache
def letter_codes() -> Codes:
    """Return for each code point the letter in lower case, or `SEPARATOR` if it is no letter: uint32 [code points]."""
    table = character_table()
    return np.where(table.flags & LETTER != 0, table.lower, SEPARATOR).astype(np.uint32)


def shortened(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return the first `MAX_CHARS` characters of each text."""
    if not len(texts) or pc.max(pc.binary_length(texts)).as_py() <= MAX_CHARS:
        return texts
    return pc.utf8_slice_codeunits(texts, 0, MAX_CHARS)


def words_of(texts: pa.LargeStringArray) -> Words:
    """Return the words of texts."""
    texts = shortened(texts)
    data, _ = bytes_of(texts)
    raw = np.frombuffer(data.decode("utf-8", "surrogatepass").encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    ends = np.cumsum(pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64))
    starts = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    codes = np.insert(letter_codes()[raw], starts, SEPARATOR)
    first = starts + np.arange(len(starts))
    is_kept = codes != SEPARATOR
    is_kept[1:] |= is_kept[:-1].copy()  # the separator after a word
    is_kept[first] = True
    places = np.zeros(len(codes) + 1, dtype=np.int64)
    np.cumsum(is_kept, out=places[1:])
    codes, offsets = codes[is_kept], places[first]
    # The first separator of the next text ends a text, so the separator before it is left out.
    before = offsets[1:] - 1
    is_double = (codes[before] == SEPARATOR) & (before > offsets[:-1])
    offsets[1:] -= np.cumsum(is_double)
    return Words(np.delete(codes, before[is_double]), offsets)


def add_counts(words: Words, counts: Counts) -> None:
    """Add the number of n-grams with each hash to `counts`."""
    counts += np.bincount(_slots(words)[1], minlength=NUM_SLOTS)


def log_ratios(source: Words, target: Words, counts: Counts, logs: Floats, in_sample: Mask) -> tuple[Floats, Floats]:
    """Return for each source and each target the sum of log(source count) − log(target count)."""
    sides = [_slots(words) for words in (source, target)]
    own = [np.unique((texts * NUM_SLOTS + slots)[in_sample[texts]], return_counts=True) for texts, slots in sides]
    found = []
    for texts, slots in sides:
        logarithms = []
        for side in (0, 1):
            known = counts[slots, side].astype(np.int64)
            keys, times = own[side]
            if len(keys):
                places = np.minimum(np.searchsorted(keys, texts * NUM_SLOTS + slots), len(keys) - 1)
                known -= np.where(keys[places] == texts * NUM_SLOTS + slots, times[places], 0)
            coarse = logs[np.minimum(known >> COARSE_BITS, NUM_LOGS - 1)] + COARSE_LOG
            logarithms.append(np.where(known < NUM_LOGS, logs[np.minimum(known, NUM_LOGS - 1)], coarse))
        found.append(np.bincount(texts, logarithms[0] - logarithms[1], minlength=len(in_sample)))
    return found[0], found[1]


def _slots(words: Words) -> tuple[Ints, Ints]:
    """Return of each n-gram the number of its text and its slot, by the place of its end and then by its length."""
    chars = np.diff(words.offsets)
    texts = np.repeat(np.arange(len(chars)), chars)
    places = np.arange(1, len(words.codes))  # of the ends: each character but the first separator
    room = places - words.offsets[:-1][texts]
    slots = np.zeros((len(places), MAX_ORDER), dtype=np.int64)
    exists = np.zeros((len(places), MAX_ORDER), dtype=np.bool_)
    values = np.zeros(len(places), dtype=np.uint64)
    for order in range(MAX_ORDER):
        codes = words.codes[np.maximum(places - order, 0)].astype(np.uint64)
        values = (values + codes + np.uint64(1)) * np.uint64(BASE)
        slots[:, order] = (values >> np.uint64(HASH_SHIFT)).astype(np.int64)
        exists[:, order] = (room >= order) & (chars[texts] > 1)
    return np.repeat(texts, MAX_ORDER)[exists.ravel()], slots.ravel()[exists.ravel()]
