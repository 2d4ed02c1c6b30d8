"""The rules of OpusCleaner that mtx has, with OpusCleaner's definitions and the names of its parameters.

Source: OpusCleaner 0.7, https://github.com/hplt-project/OpusCleaner. A side that only consists of white space is empty.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc

from mtx.data.filter.opus_rule import Mask, Number, OpusRule, Sides, numpy_of

# A number with an optional sign that is not attached to a word, without leading zeros and without a unit.
NUMERAL = re.compile(r"(?:(?P<sign>(?:(?<=\s)|^)[-+])|\b)0*(?P<value>\d+(?:[.,:]\d+)*)\b")


@dataclass(frozen=True, kw_only=True)
class MaxLength(OpusRule):
    """Keeps pairs whose sides have at least MINLENGTH and at most MAXLENGTH words, both inclusive."""

    MAXLENGTH: Number = 150
    MINLENGTH: Number = 1

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        source, target = sides.num_words
        least, most = np.minimum(source, target), np.maximum(source, target)
        kept: Mask = (least >= self.MINLENGTH) & (most <= self.MAXLENGTH)
        return kept


@dataclass(frozen=True, kw_only=True)
class MaxWordLength(OpusRule):
    """Keeps pairs without a word of more than MAXWORDLENGTH characters; only the space U+0020 separates words."""

    MAXWORDLENGTH: int = 150

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept = np.ones(len(sides), dtype=np.bool_)
        for side, texts in enumerate(sides.texts):
            places = np.flatnonzero(sides.num_chars[side] > self.MAXWORDLENGTH)
            for place, text in zip(places.tolist(), texts.take(places).to_pylist(), strict=True):
                kept[place] &= all(len(word) <= self.MAXWORDLENGTH for word in text.split(" "))
        return kept


@dataclass(frozen=True, kw_only=True)
class LengthShare(OpusRule):
    """Keeps pairs whose shorter side has at least RATIO times the words of the longer side; with LOG, of logarithms.

    With LOG the rule compares log(words + 1). Pairs without a word on a side are dropped.
    """

    RATIO: Number = 0.6
    LOG: bool = False

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        lengths, places = np.unique(np.stack(sides.num_words, axis=1), axis=0, return_inverse=True)
        compare: Callable[[int, int], bool] = self._keeps_log if self.LOG else self._keeps_plain
        kept = np.array([compare(source, target) for source, target in lengths.tolist()], dtype=np.bool_)
        return kept[places.reshape(-1)]

    def _keeps_plain(self, source: int, target: int) -> bool:
        if not source or not target:
            return False
        upper = 1.0 / self.RATIO if self.RATIO else math.inf
        return self.RATIO <= source / target <= upper

    def _keeps_log(self, source: int, target: int) -> bool:
        least, most = sorted((source, target))
        return bool(most) and math.log10(least + 1) / math.log10(most + 1) >= self.RATIO


@dataclass(frozen=True, kw_only=True)
class RemoveEmptyLines(OpusRule):
    """Keeps pairs without an empty side."""

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept: Mask = (sides.num_words[0] > 0) & (sides.num_words[1] > 0)
        return kept


@dataclass(frozen=True, kw_only=True)
class NumMismatch(OpusRule):
    """Keeps pairs whose distinct numbers give (common + 1) / (different + 1) of at least RATIO, and pairs without any.

    Separators within a number are equal, and zeros at its start do not count.
    """

    RATIO: Number = 1.0
    DEBUG: bool = False

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        digits = [pc.match_substring_regex(texts, r"\p{Nd}") for texts in sides.texts]
        places = np.flatnonzero(numpy_of(pc.or_(*digits)))
        kept = np.ones(len(sides), dtype=np.bool_)
        texts = (side.take(places).to_pylist() for side in sides.texts)
        for place, *pair in zip(places.tolist(), *texts, strict=True):
            source, target = map(_numerals, pair)
            if source or target:
                kept[place] = (len(source & target) + 1) / (len(source ^ target) + 1) >= self.RATIO
        return kept


def _numerals(text: str) -> set[str]:
    return {(found["sign"] or "") + re.sub(r"\D+", "*", found["value"]) for found in NUMERAL.finditer(text)}
