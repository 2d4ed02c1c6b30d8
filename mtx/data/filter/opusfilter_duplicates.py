"""`RemovedDuplicates`: OpusFilter's step `remove_duplicates`, which compares pairs or sides after simplifying them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from mtx.data.filter.opus_rule import Mask, Sides
from mtx.data.filter.pair_set import PairSet
from mtx.data.filter.unicode_properties import is_letter

Texts: TypeAlias = pa.LargeStringArray


@dataclass(frozen=True, kw_only=True)
class RemovedDuplicates:
    """Drops a pair if an equal one came before it, among the pairs that the rules before keep.

    Pairs are compared by 128-bit hashes, not by the hash function that the config of OpusFilter names.

    Args:
        compare: `all`, or the sides to compare: 0 for the source, 1 for the target.
        letters_only: compare only the letters.
        letter_words_only: compare only the words that consist of letters.
        lowercase: compare in lower case.
    """

    compare: Literal["all"] | list[Literal[0, 1]] = "all"
    letters_only: bool = False
    letter_words_only: bool = False
    lowercase: bool = False

    def marker(self) -> Callable[[Sides], Mask]:
        """Return a function that takes the pairs of a stream in turn, and returns which are new: bool [n]."""
        seen = PairSet()
        compared = [0, 1] if isinstance(self.compare, str) else sorted(set(self.compare))

        def new(sides: Sides) -> Mask:
            texts = [self._simplified(sides.texts[side]) for side in compared]
            other = texts[1] if len(texts) > 1 else pa.array([""] * len(sides), pa.large_string())
            return seen.add(texts[0], other)

        return new

    def _simplified(self, texts: Texts) -> Texts:
        if not (self.letters_only or self.letter_words_only or self.lowercase):
            return texts
        found = texts.to_pylist()
        if self.letter_words_only:
            pattern = _other_characters()
            found = [" ".join(word for word in text.split() if not pattern.search(word)) for text in found]
        if self.letters_only:
            found = [_other_characters().sub("", text) for text in found]
        if self.lowercase:
            found = [text.lower() for text in found]
        return pa.array(found, pa.large_string())


@cache
def _other_characters() -> re.Pattern[str]:
    """Return a pattern for a character that is no letter (Unicode category L)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_letter(), [False]]).astype(np.int8)))
    ranges = "".join(f"{re.escape(chr(low))}-{re.escape(chr(high - 1))}" for low, high in edges.reshape(-1, 2).tolist())
    return re.compile(f"[^{ranges}]")
