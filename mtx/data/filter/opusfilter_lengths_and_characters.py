"""The rules of OpusFilter about lengths, characters and patterns, over Arrow columns, with OpusFilter's definitions.

Source: Aulamo, Virpioja and Tiedemann, OpusFilter: A Configurable Parallel Corpus Filtering Toolbox, ACL 2020; the
definitions are those of its version 3.3. `opusfilter_comparisons` has the rules that compare the two texts.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.filter.opus_rule import (
    WHITE_SPACE,
    Mask,
    Number,
    Numbers,
    OpusRule,
    Sides,
    Values,
    for_each_side,
    num_with,
    numpy_of,
)
from mtx.data.filter.unicode_properties import is_alphabetic, is_in_script

Unit = Literal["word", "char", "character"]
SENTENCE_END = "[.?!…]"


@dataclass(frozen=True, kw_only=True)
class LengthFilter(OpusRule):
    """Keeps pairs whose sides have at least `min_length` and at most `max_length` units, both inclusive."""

    min_length: Numbers = 1
    max_length: Numbers = 100
    unit: Unit | list[Unit] = "word"
    pass_empty: bool = False

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        return _between(sides.lengths(self.unit), self.min_length, self.max_length, self.pass_empty)


@dataclass(frozen=True, kw_only=True)
class LengthRatioFilter(OpusRule):
    """Keeps pairs whose longer side has less than `threshold` times the units of the shorter side.

    Two empty sides have the ratio 0, and one empty side has the ratio infinity.
    """

    threshold: Number = 3
    unit: Unit | list[Unit] = "word"

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        one, other = sides.lengths(self.unit)
        least, most = np.minimum(one, other), np.maximum(one, other)
        ratios = np.where(most == 0, 0.0, math.inf)
        np.divide(most, least, out=ratios, where=least > 0)
        kept: Mask = ratios < self.threshold
        return kept


@dataclass(frozen=True, kw_only=True)
class LongWordFilter(OpusRule):
    """Keeps pairs whose longest words have less than `threshold` characters."""

    threshold: Numbers = 40

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        limits = for_each_side(self.threshold)
        source, target = sides.max_word_chars
        kept: Mask = (source < limits[0]) & (target < limits[1])
        return kept


@dataclass(frozen=True, kw_only=True)
class AverageWordLengthFilter(OpusRule):
    """Keeps pairs whose words have on average `min_length` to `max_length` characters, both inclusive."""

    min_length: Numbers = 2
    max_length: Numbers = 20
    pass_empty: bool = False

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        averages = [
            np.divide(chars, words, out=np.zeros(len(sides)), where=words > 0)
            for chars, words in zip(sides.num_word_chars, sides.num_words, strict=True)
        ]
        return _between((averages[0], averages[1]), self.min_length, self.max_length, self.pass_empty)


@dataclass(frozen=True, kw_only=True)
class AlphabetRatioFilter(OpusRule):
    """Keeps pairs of which at least the share `threshold` of the characters is alphabetic, on each side."""

    threshold: Numbers = 0.75
    exclude_whitespace: bool = False

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept = np.ones(len(sides), dtype=np.bool_)
        for side, limit in enumerate(for_each_side(self.threshold)):
            total = sides.num_chars[side]
            if self.exclude_whitespace:
                total = total - numpy_of(pc.count_substring_regex(sides.texts[side], WHITE_SPACE))
            kept &= _share(sides.num_alphabetic[side], total) >= limit
        return kept


@dataclass(frozen=True, kw_only=True)
class CharacterScoreFilter(OpusRule):
    """Keeps pairs of which at least the share `thresholds` of the alphabetic characters is of a script, on each side.

    The properties of characters come from the package tokenizers, so that the newest characters may have none.
    """

    needs_two_values: ClassVar[tuple[str, ...]] = ("scripts", "thresholds")

    scripts: list[str]
    thresholds: list[Number] | None = None

    def __post_init__(self) -> None:
        for script in self.scripts:
            is_in_script(script)  # raises ConfigError for an unknown name

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        kept = np.ones(len(sides), dtype=np.bool_)
        for side, (script, limit) in enumerate(zip(self.scripts, self.thresholds or [1, 1], strict=True)):
            found = num_with(sides.features[side], is_alphabetic() & is_in_script(script))
            kept &= _share(found, sides.num_alphabetic[side]) >= limit
        return kept


@dataclass(frozen=True, kw_only=True)
class TerminalPunctuationFilter(OpusRule):
    """Keeps pairs whose score is at least `threshold`; the score falls with sentence ends that only one side has.

    The score is −log(1 + |s − t| + max(s − 1, 0) + max(t − 1, 0)), with s and t the numbers of `.`, `?`, `!` and `…`.
    """

    threshold: Number = -2

    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps."""
        source, target = (numpy_of(pc.count_substring_regex(texts, SENTENCE_END)) for texts in sides.texts)
        penalties = np.abs(source - target) + np.maximum(source - 1, 0) + np.maximum(target - 1, 0)
        distinct, places = np.unique(penalties, return_inverse=True)
        kept = np.array([-math.log(penalty + 1) >= self.threshold for penalty in distinct.tolist()], dtype=np.bool_)
        return kept[places]


def _between(values: tuple[Values, Values], low: Numbers, high: Numbers, pass_empty: bool) -> Mask:
    least, most = for_each_side(low), for_each_side(high)
    kept = np.ones(len(values[0]), dtype=np.bool_)
    for side, of in enumerate(values):
        kept &= (of >= least[side]) & (of <= most[side])
    return kept | ((values[0] + values[1]) == 0) if pass_empty else kept


def _share(part: Values, total: Values) -> NDArray[np.float64]:
    return np.divide(part, total, out=np.ones(len(part)), where=total > 0)
