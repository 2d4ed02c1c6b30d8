"""`DefaultFilter`, with rules about control characters, empty sides, lengths, identical sides and duplicates."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import field, fields
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import Count, Natural, component
from mtx.components.identity import JSON, LATER, plain_value
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import DividedPairs, PairFilter, count_dropped
from mtx.data.filter.known_reasons import KnownReasons
from mtx.data.filter.pair_set import PairSet, pair_hashes
from mtx.data.text_bytes import has_control_character
from mtx.errors import ConfigError
from mtx.infra.dal.row_views import ROW_COLUMN
from mtx.infra.dataset.language_names import SIDES

# C0 and C1 control characters and DEL, except tab, line feed and carriage return, which occur in text of several lines.
CONTROL_CHARACTER = r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x{80}-\x{9f}]"

# The reasons of all rules, in order.
REASONS = (
    *("control_characters", "empty_source", "empty_target", "too_short", "too_long", "length_ratio", "too_few_words"),
    *("too_many_words", "word_ratio", "identical", "duplicate"),
)

Least = Natural
Ratio = Annotated[float, Field(ge=1)]
MemoryGB = Annotated[float, Field(ge=0.1)]
Rule = tuple[str, pa.BooleanArray]  # the reason of a rule, and which pairs the rule drops


@component("filter")
class DefaultFilter(PairFilter):
    """Drops training pairs that are likely to harm training. The rules apply in the order of the fields below.

    The filter sees the text after the stage `normalise`. Characters are Unicode code points. Words are separated by
    white space as in Python's `str.isspace`. The rules about words are off by default, because they do not suit
    languages that are written without spaces.

    Args:
        drop_control_characters: drop pairs with a C0 or C1 control character (such as NUL) or DEL on a side; tab, line
            feed and carriage return are allowed. Reason `control_characters`.
        drop_empty: drop pairs with an empty side. Reasons `empty_source`, `empty_target`.
        min_chars: minimum number of characters of each side, inclusive; None: no bound. Reason `too_short`.
        max_chars: maximum number of characters of each side, inclusive; None: no bound. Reason `too_long`.
        max_ratio: maximum ratio of the characters of the longer side to those of the shorter side, inclusive. A side
            with fewer than `ratio_floor_chars` characters counts as that long. None: no bound. Reason `length_ratio`.
        ratio_floor_chars: minimum length of the shorter side in `max_ratio`, which keeps short pairs. With a ratio of 8
            and a floor of 10, a side of up to 80 characters fits to any other side.
        min_words: minimum number of words of each side, inclusive. Reason `too_few_words`.
        max_words: maximum number of words of each side, inclusive. Reason `too_many_words`.
        max_word_ratio: maximum ratio as in `max_ratio`, but of words. Reason `word_ratio`.
        ratio_floor_words: minimum length as in `ratio_floor_chars`, but in words.
        drop_identical: drop pairs with equal sides, which are not translated. Reason `identical`.
        drop_duplicates: drop a pair if an equal pair came before it and was kept. Detected by 128-bit hashes
            (`PairSet`). Reason `duplicate`.
        dedup_by: the columns in which duplicates are equal. With a document among them, such as `[src, tgt, talk]`,
            each document keeps its first copy of a pair. A missing value equals an empty one. None: source and target.
        memory_gb: memory for the search for duplicates, in 10⁹ bytes. Beyond it, hashes are in temporary files of the
            store. The result is the same.
    """

    kind: ClassVar[str] = "filter/default"
    version: ClassVar[int] = 1
    _scratch: ClassVar[Path | None] = None  # `with_scratch` sets it for an instance

    drop_control_characters: bool = True
    drop_empty: bool = True
    min_chars: Least | None = 1
    max_chars: Least | None = 2000
    max_ratio: Ratio | None = 8.0
    ratio_floor_chars: Count = 10
    min_words: Least | None = None
    max_words: Least | None = None
    max_word_ratio: Ratio | None = None
    ratio_floor_words: Count = 3
    drop_identical: bool = True
    drop_duplicates: bool = True
    dedup_by: Annotated[list[str], Field(min_length=1)] | None = field(default=None, metadata=LATER)
    memory_gb: MemoryGB = 1.0

    def __post_init__(self) -> None:
        for unit, least, most in (("chars", self.min_chars, self.max_chars), ("words", self.min_words, self.max_words)):
            if least is not None and most is not None and least > most:
                raise ConfigError(
                    f"filter.min_{unit}={least} is above filter.max_{unit}={most}, which keeps no pair. "
                    f"Set filter.min_{unit}=null or filter.max_{unit}=null"
                )

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output; the memory does not."""
        return {each.name: plain_value(getattr(self, each.name)) for each in fields(self) if each.name != "memory_gb"}

    def with_scratch(self, folder: Path) -> "DefaultFilter":
        """Return the filter that keeps hashes beyond `memory_gb` in files of a folder."""
        found = copy.copy(self)
        object.__setattr__(found, "_scratch", folder)  # the class is frozen
        return found

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of all rules, whether they are on or off."""
        return REASONS

    @property
    def columns(self) -> tuple[str, ...]:
        """The further columns in which duplicates are compared."""
        return tuple(name for name in self.dedup_by or () if name not in SIDES) if self.drop_duplicates else ()

    @property
    def settings_over_pairs(self) -> Mapping[str, str]:
        """The rule about duplicates, which compares each pair with all pairs before it."""
        return {"filter.drop_duplicates=true": "filter.drop_duplicates=false"} if self.drop_duplicates else {}

    @property
    def is_divisible(self) -> bool:
        """Whether the rule about duplicates is off; with it, `fitted` returns another filter."""
        return not self.drop_duplicates

    def fitted(self, read: Callable[[], Iterator[pa.RecordBatch]]) -> PairFilter:
        """Return the filter that knows the duplicates, if tasks can read ranges of the pairs; otherwise this filter.

        Tasks judge the pairs by all other rules and hash those that are kept. This process finds equal hashes.
        """
        if not (self.drop_duplicates and isinstance(read, DividedPairs)):
            return self
        seen = PairSet(self._scratch, int(self.memory_gb * 1e9), read.num_pairs)
        judged = read.in_tasks("duplicates", self._judged)
        return KnownReasons.of(REASONS, map(partial(_with_duplicates, seen), judged), read.folder)

    def _judged(self, pairs: Iterator[pa.RecordBatch], first: int, counts: dict[str, Any]) -> Iterator[pa.RecordBatch]:
        """Yield the row, the number of the reason (0: none), and the hash of each pair; 0 for a dropped pair."""
        for batch in pair_batches(pairs):
            reasons = np.zeros(batch.num_rows, dtype=np.uint8)
            for reason, found in self._rules(*batch.columns[:2]):
                drops = found.to_numpy(zero_copy_only=False)
                reasons[drops & (reasons == 0)] = REASONS.index(reason) + 1
            kept = pa.array(reasons == 0)
            hashes = np.zeros((batch.num_rows, 2), dtype=np.uint64)
            hashes[reasons == 0] = pair_hashes(*(self._texts(batch, of).filter(kept) for of in self.dedup_by or SIDES))
            columns = [batch.column(ROW_COLUMN), reasons, *np.ascontiguousarray(hashes.T)]
            yield pa.record_batch([pa.array(column) for column in columns], names=[ROW_COLUMN, "reason", "high", "low"])

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that all rules keep, and count the others in `dropped` by reason."""
        seen = PairSet(self._scratch, int(self.memory_gb * 1e9))
        for batch in pair_batches(pairs):
            source, target = batch.columns[:2]
            keep = np.ones(len(source), dtype=np.bool_)
            for reason, found in self._rules(source, target):
                _drop_pairs(reason, found.to_numpy(zero_copy_only=False), keep, dropped, batch)
            if self.drop_duplicates:
                kept = pa.array(keep)
                again = np.zeros(len(source), dtype=np.bool_)
                again[keep] = ~seen.add(*(self._texts(batch, name).filter(kept) for name in self.dedup_by or SIDES))
                _drop_pairs("duplicate", again, keep, dropped, batch)
            yield batch.filter(pa.array(keep))

    def _texts(self, pairs: pa.RecordBatch, name: str) -> pa.LargeStringArray:
        """Return a column as texts without nulls. Raises ConfigError if the corpus has no such column."""
        if name not in pairs.schema.names:
            known = [other for other in pairs.schema.names if other != ROW_COLUMN]
            raise ConfigError(
                f"filter.dedup_by names {name}, which is no column of the corpus. Its columns: {', '.join(known)}. "
                f"Store the column with 'downloader.columns=[{name}]', or set filter.dedup_by=null"
            )
        return pairs.column(name).cast(pa.large_string()).fill_null("")

    def _rules(self, source: pa.LargeStringArray, target: pa.LargeStringArray) -> Iterator[Rule]:
        """Yield the reason and the result of each enabled rule in order, except the rule about duplicates."""
        if self.drop_control_characters:
            yield "control_characters", pc.or_(_control_characters(source), _control_characters(target))
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
            yield "length_ratio", _uneven_mask(least, most, self.max_ratio, self.ratio_floor_chars)
        if (self.min_words, self.max_words, self.max_word_ratio) != (None, None, None):
            yield from self._word_rules(_word_counts(source), _word_counts(target))
        if self.drop_identical:
            yield "identical", pc.equal(source, target)

    def _word_rules(self, source_words: pa.Array, target_words: pa.Array) -> Iterator[Rule]:
        least, most = pc.min_element_wise(source_words, target_words), pc.max_element_wise(source_words, target_words)
        if self.min_words is not None:
            yield "too_few_words", pc.less(least, self.min_words)
        if self.max_words is not None:
            yield "too_many_words", pc.greater(most, self.max_words)
        if self.max_word_ratio is not None:
            yield "word_ratio", _uneven_mask(least, most, self.max_word_ratio, self.ratio_floor_words)


def _with_duplicates(seen: PairSet, judged: pa.RecordBatch) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Return the rows and the reasons of pairs, with the duplicates of pairs that were judged before."""
    rows, reasons, high, low = (column.to_numpy() for column in judged.columns)
    kept = np.flatnonzero(reasons == 0)
    is_new = seen.add_hashes(np.stack([high[kept], low[kept]], axis=1))
    reasons = reasons.copy()
    reasons[kept[~is_new]] = REASONS.index("duplicate") + 1
    return rows.astype(np.int64), reasons


def _drop_pairs(
    reason: str, found: NDArray[np.bool_], keep: NDArray[np.bool_], dropped: dict[str, int], pairs: pa.RecordBatch
) -> None:
    """Remove the pairs that a rule found from `keep`, in place, and count those that no earlier rule has removed."""
    count_dropped(dropped, reason, found & keep, pairs)
    keep &= ~found


def _control_characters(side: pa.LargeStringArray) -> pa.BooleanArray:
    """Return which texts match `CONTROL_CHARACTER`: bool [n]. Few corpora have any, so all are looked at first."""
    if not has_control_character(side):
        return pa.repeat(False, len(side))
    return pc.match_substring_regex(side, CONTROL_CHARACTER)


def _uneven_mask(least: pa.Array, most: pa.Array, ratio: float, floor: int) -> pa.BooleanArray:
    """Return where `most` exceeds `ratio` times the maximum of `least` and `floor`: bool [n]."""
    return pc.greater(most, pc.multiply(pc.cast(pc.max_element_wise(least, floor), pa.float64()), float(ratio)))


def _word_counts(side: pa.LargeStringArray) -> pa.Array:
    """Return the number of words, separated by white space, of each text, as `len(text.split())`: int [n]."""
    text = pc.utf8_trim_whitespace(side)
    return pc.if_else(pc.equal(text, ""), 0, pc.list_value_length(pc.utf8_split_whitespace(text)))
