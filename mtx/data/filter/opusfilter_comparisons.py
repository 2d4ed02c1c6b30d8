"""The rules of OpusFilter that compare the two texts of a pair: numerals, common substrings and edit distance.

Cheap bounds decide most pairs; only the others are compared in full, so the decisions are those of OpusFilter 3.3.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.filter.opus_rule import Mask, Number, OpusRule, Sides
from mtx.data.score.text_features import TextFeatures
from mtx.errors import ConfigError

AUTOJUNK = 200  # elements from which on `SequenceMatcher` ignores frequent elements of the second sequence
NUM_BINS = 64  # classes of characters in the lower bound of the edit distance


@dataclass(frozen=True, kw_only=True)
class NonZeroNumeralsFilter(OpusRule):
    """Keeps pairs whose digits 1 to 9, in order, have a similarity of at least `threshold` by `SequenceMatcher`."""

    threshold: Number = 0.5
    require_all: bool = True

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        source, target = (pc.replace_substring_regex(texts, "[^1-9]+", "") for texts in sides.texts)
        is_easy = pc.and_(pc.equal(source, target), pc.less(pc.binary_length(target), AUTOJUNK))
        kept = np.full(len(sides), self.threshold <= 1.0)
        places = np.flatnonzero(~is_easy.to_numpy(zero_copy_only=False))
        numerals = (digits.take(pa.array(places)).to_pylist() for digits in (source, target))
        for place, one, other in zip(places.tolist(), *numerals, strict=True):
            ratio = SequenceMatcher(None, one, other).ratio() if one and other else 0.0
            kept[place] = ratio >= self.threshold
        return kept


@dataclass(frozen=True, kw_only=True)
class LongestCommonSubstringFilter(OpusRule):
    """Keeps pairs whose longest common substring is shorter than `threshold` times the shorter text."""

    threshold: Number = 0.9
    require_all: bool = True

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        return np.array(
            [self._keeps(one, other) for one, other in zip(*sides.strings, strict=True)],
            dtype=np.bool_,
        )

    def _keeps(self, one: str, other: str) -> bool:
        shorter, longer = (one, other) if len(one) <= len(other) else (other, one)
        if not shorter:
            return self.threshold > 0
        if self.threshold > 0 and not _may_share(shorter, longer, self.threshold):
            return True
        size = SequenceMatcher(None, one, other).find_longest_match(0, len(one), 0, len(other)).size
        return size / len(shorter) < self.threshold


def _may_share(shorter: str, longer: str, threshold: float) -> bool:
    """Return whether the texts may share a substring of at least `threshold` times the shorter one.

    A substring of k characters contains a whole block of (k + 1) // 2 characters, of the blocks at multiples of that.
    """
    size = max(math.ceil(threshold * len(shorter)) - 1, 1)  # one less, since the product is rounded
    if size > len(shorter):
        return False
    block = (size + 1) // 2
    return any(shorter[start : start + block] in longer for start in range(0, len(shorter) - block + 1, block))


@dataclass(frozen=True, kw_only=True)
class SimilarityFilter(OpusRule):
    """Keeps pairs whose similarity is below `threshold`: 1 − edit distance / units of the longer side.

    The edit distance counts insertions, deletions and substitutions alike (Levenshtein).
    """

    threshold: Number = 0.9
    weights: list[Number] | None = None
    unit: Literal["word", "char", "character"] = "char"
    lowercase: bool = False
    require_all: bool = True

    def __post_init__(self) -> None:
        if set(self.weights or ()) - {1}:
            raise ConfigError(f"SimilarityFilter has weights={self.weights}, but mtx has only equal weights: [1, 1, 1]")

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        texts = sides.strings
        if self.lowercase:
            texts = [text.lower() for text in texts[0]], [text.lower() for text in texts[1]]
        if self.unit == "word":
            words = [[text.split() for text in side] for side in texts]
            return np.array([self._keeps(*pair) for pair in zip(*words, strict=True)], dtype=np.bool_)
        arrays = [pa.array(side, pa.large_string()) for side in texts] if self.lowercase else sides.texts
        kept = self._is_surely_kept(arrays[0], arrays[1])
        for place in np.flatnonzero(~kept).tolist():
            kept[place] = self._keeps(texts[0][place], texts[1][place])
        return kept

    def _is_surely_kept(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> Mask:
        """Return which pairs have a similarity below the threshold by a lower bound of their distance."""
        counts = [_character_counts(texts) for texts in (source, target)]
        lengths = [of.sum(axis=1) for of in counts]
        difference = counts[0] - counts[1]
        more = np.maximum(difference, 0).sum(axis=1)
        least = np.maximum(more, more - difference.sum(axis=1))
        longest = np.maximum(*lengths)
        similarity = 1.0 - np.divide(least, longest, out=np.zeros(len(least)), where=longest > 0)
        kept: Mask = similarity < self.threshold
        return kept

    def _keeps(self, one: Sequence[str], other: Sequence[str]) -> bool:
        longest = max(len(one), len(other))
        if not longest:
            return self.threshold > 1
        least = max(sum((Counter(one) - Counter(other)).values()), sum((Counter(other) - Counter(one)).values()))
        if 1.0 - least / longest < self.threshold:
            return True
        return 1.0 - edit_distance(one, other) / longest < self.threshold


def _character_counts(texts: pa.LargeStringArray) -> NDArray[np.int64]:
    """Return how many characters of each text fall into each of 64 classes, by their first bytes: int64 [n, 64]."""
    features = TextFeatures(texts)
    octets = np.frombuffer(b"".join(texts.cast(pa.large_binary()).to_pylist()), dtype=np.uint8)
    starts = np.flatnonzero((octets & 0xC0) != 0x80)
    keys = features.text_of(starts) * NUM_BINS + (octets[starts] & (NUM_BINS - 1))
    return np.bincount(keys, minlength=len(texts) * NUM_BINS).reshape(len(texts), NUM_BINS)


def edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the Levenshtein distance of two sequences, by bit vectors of any length.

    Source: Hyyrö, A Bit-Vector Algorithm for Computing Levenshtein and Damerau Edit Distances, 2003, after Myers, 1999.
    """
    if not one or not other:
        return max(len(one), len(other))
    places: dict[str, int] = {}
    for place, unit in enumerate(one):
        places[unit] = places.get(unit, 0) | 1 << place
    full = (1 << len(one)) - 1
    last = 1 << (len(one) - 1)
    rises, falls, distance = full, 0, len(one)
    for unit in other:
        equal = places.get(unit, 0)
        vertical = equal | falls
        horizontal = (((equal & rises) + rises) ^ rises) | equal
        more = (falls | ~(horizontal | rises)) & full
        less = rises & horizontal
        if more & last:
            distance += 1
        elif less & last:
            distance -= 1
        more = (more << 1 | 1) & full
        less = less << 1 & full
        rises = less | ~(vertical | more) & full
        falls = more & vertical
    return distance
