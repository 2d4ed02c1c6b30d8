"""`OpusRule`, the base class of the rules of OpusFilter and OpusCleaner, and `Sides`, the texts that they judge."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.data.filter.unicode_properties import is_alphabetic
from mtx.data.score.text_features import LETTER, TextFeatures

Mask = NDArray[np.bool_]
Values = NDArray[Any]
Number = Annotated[float, Field(allow_inf_nan=True)]
Numbers = Number | list[Number]  # one value for both sides, or a list with one value for each side

# What the package regex calls white space. Python's str.split also separates words at U+001C to U+001F.
WHITE_SPACE = r"[\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}]"


class Sides:
    """The two texts of n pairs, and what several rules need of them.

    Args:
        source: the source texts, without nulls.
        target: the target texts, without nulls.
    """

    def __init__(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> None:
        self.texts = (source, target)

    def __len__(self) -> int:
        return len(self.texts[0])

    @cached_property
    def strings(self) -> tuple[list[str], list[str]]:
        """The texts as Python strings."""
        return self.texts[0].to_pylist(), self.texts[1].to_pylist()

    @cached_property
    def num_chars(self) -> tuple[Values, Values]:
        """The number of code points of each text, int64 [n] for each side."""
        return self._of_each(lambda texts: numpy_of(pc.utf8_length(texts)))

    @cached_property
    def num_words(self) -> tuple[Values, Values]:
        """The number of words, separated by white space as by `str.split`, int64 [n] for each side."""
        return self._of_each(lambda words: np.where(words[1], 0, numpy_of(pc.list_value_length(words[0]))), self._words)

    @cached_property
    def max_word_chars(self) -> tuple[Values, Values]:
        """The number of code points of the longest word; 0 without a word. int64 [n] for each side."""
        return self._of_each(lambda words: _reduced(words[0], np.maximum), self._words)

    @cached_property
    def num_word_chars(self) -> tuple[Values, Values]:
        """The number of code points in all words, int64 [n] for each side."""
        return self._of_each(lambda words: _reduced(words[0], np.add), self._words)

    @cached_property
    def features(self) -> tuple[TextFeatures, TextFeatures]:
        """The features of the texts of each side."""
        return TextFeatures(self.texts[0]), TextFeatures(self.texts[1])

    @cached_property
    def num_alphabetic(self) -> tuple[Values, Values]:
        """The number of characters with the Unicode property Alphabetic, int64 [n] for each side."""
        return self._of_each(lambda features: num_with(features, is_alphabetic()), self.features)

    def lengths(self, unit: str | list[str]) -> tuple[Values, Values]:
        """Return the lengths of the texts in words or characters; `unit` is one for both sides, or a list."""
        units = for_each_side(unit)
        of = [self.num_words[side] if units[side] == "word" else self.num_chars[side] for side in (0, 1)]
        return of[0], of[1]

    @cached_property
    def _words(self) -> tuple[tuple[pa.LargeListArray, Mask], tuple[pa.LargeListArray, Mask]]:
        def split(texts: pa.LargeStringArray) -> tuple[pa.LargeListArray, Mask]:
            trimmed = pc.utf8_trim_whitespace(texts)  # otherwise the ends of a text give empty words
            return pc.utf8_split_whitespace(trimmed), numpy_of(pc.equal(trimmed, ""))

        return self._of_each(split)

    def _of_each(self, function: Callable[[Any], Any], items: Any = None) -> tuple[Any, Any]:
        first, second = self.texts if items is None else items
        return function(first), function(second)


class OpusRule(ABC):
    """Base class of the rules that OpusFilter and OpusCleaner define.

    Subclasses are frozen dataclasses. Their fields have the names and defaults of the parameters in those tools.
    """

    needs_two_values: ClassVar[tuple[str, ...]] = ()  # fields that are a list with one value for each side

    @abstractmethod
    def keeps(self, sides: Sides) -> Mask:
        """Return which pairs the rule keeps: bool [n]."""


def for_each_side(value: Any) -> list[Any]:
    """Return a parameter as a list with one value for each side."""
    return value if isinstance(value, list) else [value, value]


def num_with(features: TextFeatures, is_wanted: Mask) -> Values:
    """Return the number of characters of each text that are marked in `is_wanted`, bool [code points]: int64 [n].

    Of the ASCII characters only letters can be marked, and either all of them or none.
    """
    foreign = features.foreign
    found = foreign.counts_by_text(is_wanted[foreign.codes])
    if is_wanted[ord("a")]:
        found = found + features.num_letters - foreign.counts_by_text(foreign.flags & LETTER != 0)
    return found


def numpy_of(array: pa.Array) -> Values:
    """Return an Arrow array as a numpy array; 32-bit integers become 64-bit ones."""
    found: Values = array.to_numpy(zero_copy_only=False)
    return found.astype(np.int64) if found.dtype == np.int32 else found


def _reduced(words: pa.LargeListArray, function: np.ufunc) -> Values:
    """Combine the lengths of the words of each text; a text has at least one word, which may be empty."""
    lengths = numpy_of(pc.utf8_length(words.flatten()))
    starts = np.cumsum(numpy_of(pc.list_value_length(words))) - numpy_of(pc.list_value_length(words))
    return function.reduceat(lengths, starts) if len(lengths) else np.zeros(len(words), dtype=np.int64)
