"""The default filter: rules about white space, controls, lengths and repetitions, each with its switch."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.data.filter.base import PairFilter, count_dropped
from mtx.data.filter.seen import SeenPairs
from mtx.data.pairs import Pairs, pair_batches
from mtx.errors import ConfigError

# C0 and C1 controls and DEL, without tab, line feed and carriage return, which lay out text of several lines.
CONTROL = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"

# Fields by what they may be.
SWITCHES = ("strip", "drop_control_characters", "drop_empty", "drop_identical", "drop_duplicates")
BOUNDS = ("min_chars", "max_chars", "min_words", "max_words")
RATIOS = ("max_ratio", "max_word_ratio")

Rule = tuple[str, pa.BooleanArray]  # a reason, and the pairs that it drops


@dataclass(frozen=True, kw_only=True)
class DefaultFilter(PairFilter):
    """Drops pairs that harm training more than they help. Rules apply in the order of the fields below.

    Lengths are counted after `strip`. Characters are Unicode code points; words are what stands between white space,
    so they mean nothing in languages written without spaces, and their rules are off unless set. White space is
    what Python's `str.isspace` says.

    Args:
        strip: remove white space around each side. Changes text, drops nothing.
        drop_control_characters: drop pairs with a C0 or C1 control character (NUL is one) or DEL on a side; tab,
            line feed and carriage return are none. Reason `control_characters`.
        drop_empty: drop pairs with an empty side. Reasons `empty_source`, `empty_target`.
        min_chars: least characters on each side, inclusive; None: no bound. Reason `too_short`.
        max_chars: most characters on each side, inclusive; None: no bound. Reason `too_long`.
        max_ratio: the longer side has at most this many times the characters of the shorter, inclusive, where a side
            shorter than `ratio_floor_chars` counts as that long; None: no bound. Reason `length_ratio`.
        ratio_floor_chars: keeps short pairs, whose ratio says little: with a ratio of 8 and a floor of 10, a side of up
            to 80 characters goes with any other.
        min_words: least words on each side, inclusive. Reason `too_few_words`.
        max_words: most words on each side, inclusive. Reason `too_many_words`.
        max_word_ratio: the same as `max_ratio` in words. Reason `word_ratio`.
        ratio_floor_words: the same as `ratio_floor_chars` in words.
        drop_identical: drop pairs with equal sides, which are not translated. Reason `identical`.
        drop_duplicates: drop pairs of which an equal one came before and was kept. Found by hashes of 128 bits, see
            `SeenPairs`. Reason `duplicate`.
    """

    VERSION: ClassVar[int] = 1

    strip: bool = True
    drop_control_characters: bool = True
    drop_empty: bool = True
    min_chars: int | None = 1
    max_chars: int | None = 2000
    max_ratio: float | None = 8.0
    ratio_floor_chars: int = 10
    min_words: int | None = None
    max_words: int | None = None
    max_word_ratio: float | None = None
    ratio_floor_words: int = 3
    drop_identical: bool = True
    drop_duplicates: bool = True

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError("\n".join(problems))

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that are kept, stripped if so set, and count the others in `dropped` by reason."""
        seen = SeenPairs()
        for batch in pair_batches(pairs):
            source, target = (pc.utf8_trim_whitespace(side) if self.strip else side for side in batch.columns[:2])
            keep = np.ones(len(source), dtype=np.bool_)
            for reason, found in self._rules(source, target):
                _drop(reason, found.to_numpy(zero_copy_only=False), keep, dropped, batch)
            if self.drop_duplicates:
                kept = pa.array(keep)
                again = np.zeros(len(source), dtype=np.bool_)
                again[keep] = ~seen.add(source.filter(kept), target.filter(kept))
                _drop("duplicate", again, keep, dropped, batch)
            yield pa.record_batch([source, target, *batch.columns[2:]], schema=batch.schema).filter(pa.array(keep))

    def _rules(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> Iterator[Rule]:
        """Yield the rules that are on, in order, but for duplicates."""
        if self.drop_control_characters:
            control = (pc.match_substring_regex(side, CONTROL) for side in (source, target))
            yield "control_characters", pc.or_(*control)
        source_chars, target_chars = pc.utf8_length(source), pc.utf8_length(target)
        if self.drop_empty:
            yield "empty_source", pc.equal(source_chars, 0)
            yield "empty_target", pc.equal(target_chars, 0)
        least, most = pc.min_element_wise(source_chars, target_chars), pc.max_element_wise(source_chars, target_chars)
        if self.min_chars is not None:
            yield "too_short", pc.less(least, self.min_chars)
        if self.max_chars is not None:
            yield "too_long", pc.greater(most, self.max_chars)
        if self.max_ratio is not None:
            yield "length_ratio", _uneven(least, most, self.max_ratio, self.ratio_floor_chars)
        if (self.min_words, self.max_words, self.max_word_ratio) != (None, None, None):
            yield from self._word_rules(_num_words(source), _num_words(target))
        if self.drop_identical:
            yield "identical", pc.equal(source, target)

    def _word_rules(self, source_words: pa.Array, target_words: pa.Array) -> Iterator[Rule]:
        least, most = pc.min_element_wise(source_words, target_words), pc.max_element_wise(source_words, target_words)
        if self.min_words is not None:
            yield "too_few_words", pc.less(least, self.min_words)
        if self.max_words is not None:
            yield "too_many_words", pc.greater(most, self.max_words)
        if self.max_word_ratio is not None:
            yield "word_ratio", _uneven(least, most, self.max_word_ratio, self.ratio_floor_words)

    def _problems(self) -> Iterator[str]:
        """Say what is wrong with the fields, each with its key."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in values.items():
            if name in SWITCHES:
                if not isinstance(value, bool):
                    yield f"filter.{name} is true or false, but is {value!r}"
                continue
            least, ratio, may_be_none = (0, False, True) if name in BOUNDS else (1, name in RATIOS, name in RATIOS)
            if value is None and may_be_none:
                continue
            number = isinstance(value, (int, float) if ratio else int) and not isinstance(value, bool)
            if not number or not value >= least:
                kind = "number" if ratio else "whole number"
                yield f"filter.{name} is a {kind} of at least {least}{', or null' * may_be_none}, but is {value!r}"
                values[name] = None
        for unit in ("chars", "words"):
            low, high = values[f"min_{unit}"], values[f"max_{unit}"]
            if low is not None and high is not None and low > high:
                yield f"filter.min_{unit}={low} is above filter.max_{unit}={high}, which keeps no pair. Set one to null"


def _drop(
    reason: str, found: NDArray[np.bool_], keep: NDArray[np.bool_], dropped: dict[str, int], pairs: pa.RecordBatch
) -> None:
    """Take the pairs that a rule found out of `keep`, in place, and count those that were in it."""
    count_dropped(dropped, reason, found & keep, pairs)
    keep &= ~found


def _uneven(least: pa.Array, most: pa.Array, ratio: float, floor: int) -> pa.BooleanArray:
    """Tell where `most` is above `ratio` times `least`, which counts as `floor` where it is less."""
    return pc.greater(most, pc.multiply(pc.cast(pc.max_element_wise(least, floor), pa.float64()), float(ratio)))


def _num_words(side: pa.LargeStringArray) -> pa.Array:
    """Count what stands between white space, as `len(text.split())` does: int [n]."""
    text = pc.utf8_trim_whitespace(side)
    return pc.if_else(pc.equal(text, ""), 0, pc.list_value_length(pc.utf8_split_whitespace(text)))
