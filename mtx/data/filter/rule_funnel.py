"""`RuleFunnel`: what each rule of a selection drops in order, alone, and as the only one, with samples."""

import heapq
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.part_counts import MAX_KNOWN, PartCounts
from mtx.data.filter.rejected_samples import RejectSample, excerpt

if TYPE_CHECKING:
    from mtx.data.filter.rule_bounds import RuleJudgement
    from mtx.data.filter.rule_set import Judged

MAX_SAMPLES = 10  # pairs per rule that it drops, and as many near its threshold

COUNTS = ("in_order", "alone", "unique", "overlap")  # the arrays of counts of a funnel

Mask = NDArray[np.bool_]


class NearestPairs:
    """The pairs whose values are nearest to a threshold of a rule; of equal distances, the pair with the lower row."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, int, float, bool, str, str]] = []

    def offer(self, pairs: pa.RecordBatch, rows: NDArray[np.int64], judgement: "RuleJudgement") -> None:
        """Offer pairs with their row numbers, int64 [n], and what the rule says about them."""
        values, distances, drops = judgement.values, judgement.distances, judgement.drops
        assert values is not None
        assert distances is not None
        nearest = _smallest(distances, MAX_SAMPLES)
        source, target = pairs.column("src"), pairs.column("tgt")
        limit = self._kept[-1][0] if len(self._kept) == MAX_SAMPLES else np.inf
        offered = [
            (
                float(distances[place]),
                int(rows[place]),
                float(values[place]),
                bool(drops[place]),
                excerpt(source[place].as_py()),
                excerpt(target[place].as_py()),
            )
            for place in nearest.tolist()
            if np.isfinite(distances[place]) and distances[place] <= limit
        ]
        self._kept = heapq.nsmallest(MAX_SAMPLES, itertools.chain(self._kept, offered))

    def state(self) -> list[JSON]:
        """Return the pairs, for `add_state`."""
        return [list(kept) for kept in self._kept]

    def add_state(self, state: Iterable[Any]) -> None:
        """Offer the pairs of another sample."""
        self._kept = heapq.nsmallest(MAX_SAMPLES, itertools.chain(self._kept, (tuple(each) for each in state)))

    def as_json(self) -> list[JSON]:
        """Return the pairs in the order of their values, as objects with `source`, `target`, `value`, `is_dropped`."""
        ordered = sorted(self._kept, key=lambda kept: (kept[2], kept[1]))
        return [
            {"row": row, "source": source, "target": target, "value": value, "is_dropped": dropped}
            for _, row, value, dropped, source, target in ordered
        ]


def _smallest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the places of the smallest values; of equal values, the first places."""
    if len(values) <= count:
        return np.arange(len(values))
    limit = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < limit)
    return np.concatenate([below, np.flatnonzero(values == limit)[: count - len(below)]])


class RuleFunnel:
    """Counts of n rules over a stream of pairs.

    Args:
        names: the names of the rules, in order.
        source_names: the names of the sources of a mixture; empty for a single source.
        is_part: whether the counts are those of a range of pairs, which `add_state` adds to others.

    Attributes:
        num_pairs: number of pairs that the rules have judged.
        num_kept: number of pairs that all rules keep, less those that an ablation drops at random.
        in_order: pairs that a rule drops and no rule before it, int64 [rules].
        alone: pairs that a rule drops, int64 [rules].
        unique: pairs that only this rule drops, int64 [rules].
        overlap: pairs that two rules both drop, int64 [rules, rules].
        reasons: pairs that each rule drops, by the reason that it gives.
        parts: pairs by the values of each column that has parts, such as the sources of a mixture and languages.
        before: the funnel of a selection that is applied before; None: there is none.
    """

    def __init__(self, names: Sequence[str], source_names: Sequence[str] = (), *, is_part: bool = False) -> None:
        self.names = list(names)
        self.source_names = list(source_names)
        self.reasons: list[dict[str, int]] = [{} for _ in names]
        self.parts = PartCounts(len(names), source_names, max_known=None if is_part else MAX_KNOWN)
        self.before: RuleFunnel | None = None
        self.num_pairs = self.num_kept = 0
        self.in_order, self.alone, self.unique = np.zeros((3, len(names)), dtype=np.int64)
        self.overlap = np.zeros((len(names), len(names)), dtype=np.int64)
        self.criteria: list[dict[str, JSON]] = [{} for _ in names]
        self._samples = [RejectSample(MAX_SAMPLES) for _ in names]
        self._unique_samples = [RejectSample(MAX_SAMPLES) for _ in names]
        self._nearest: list[NearestPairs | None] = [None for _ in names]

    def add(self, pairs: pa.RecordBatch, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Count a batch of n pairs, given which pairs each rule drops, bool [rules, n].

        Returns which pairs each rule drops in order, bool [rules, n].
        """
        before = np.zeros_like(masks)
        np.logical_or.accumulate(masks[:-1], axis=0, out=before[1:])
        in_order = masks & ~before
        self.parts.add(pairs, in_order)
        num_rules = masks.sum(axis=0)
        unique = masks & (num_rules == 1)
        self.num_pairs += pairs.num_rows
        self.num_kept += int(np.count_nonzero(num_rules == 0))
        self.in_order += in_order.sum(axis=1)
        self.alone += masks.sum(axis=1)
        self.unique += unique.sum(axis=1)
        dropped = masks[:, num_rules > 0].astype(np.float64)  # exact up to 2^53 pairs
        self.overlap += (dropped @ dropped.T).astype(np.int64)
        for number in range(len(self.names)):
            self._samples[number].offer(pairs, masks[number])
            self._unique_samples[number].offer(pairs, unique[number])
        return in_order

    def add_judgements(self, pairs: pa.RecordBatch, rows: NDArray[np.int64], judged: "Judged") -> None:
        """Count the reasons of a batch of pairs, and offer the pairs to the samples near the thresholds of each rule.

        Args:
            pairs: n pairs.
            rows: their row numbers, int64 [n].
            judged: what all rules say about them.
        """
        for number, (judgement, reasons) in enumerate(zip(judged.judgements, judged.reasons, strict=True)):
            if judgement is not None and judgement.distances is not None and np.isfinite(judgement.distances).any():
                nearest = self._nearest[number] = self._nearest[number] or NearestPairs()
                nearest.offer(pairs, rows, judgement)
            for code, reason in enumerate(() if reasons is None else reasons.names):
                assert reasons is not None
                count = int(np.count_nonzero(judged.masks[number] & (reasons.codes == code)))
                self.reasons[number][reason] = self.reasons[number].get(reason, 0) + count

    def state(self) -> dict[str, JSON]:
        """Return all counts and samples, for `of_state` and `add_state`."""
        found = {
            "names": self.names,
            "source_names": self.source_names,
            "num": [self.num_pairs, self.num_kept],
            "counts": [getattr(self, name).tolist() for name in COUNTS],
            "criteria": self.criteria,
            "reasons": self.reasons,
            "parts": self.parts.state(),
            "samples": [each.state() for each in (*self._samples, *self._unique_samples)],
            "nearest": [None if each is None else each.state() for each in self._nearest],
            "before": None if self.before is None else self.before.state(),
        }
        return cast(dict[str, JSON], found)

    @classmethod
    def of_state(cls, state: Mapping[str, Any], *, is_part: bool = False) -> "RuleFunnel":
        """Return the funnel with the counts of `state`."""
        found = cls(state["names"], state["source_names"], is_part=is_part)
        found.add_state(state)
        return found

    def add_state(self, state: Mapping[str, Any]) -> None:
        """Add the counts and samples of later pairs."""
        self.num_pairs += state["num"][0]
        self.num_kept += state["num"][1]
        for name, counts in zip(COUNTS, state["counts"], strict=True):
            setattr(self, name, getattr(self, name) + np.array(counts, dtype=np.int64))
        self.criteria = state["criteria"]
        for reasons, others in zip(self.reasons, state["reasons"], strict=True):
            for reason, count in others.items():
                reasons[reason] = reasons.get(reason, 0) + count
        self.parts.add_state(state["parts"])
        for sample, other in zip((*self._samples, *self._unique_samples), state["samples"], strict=True):
            sample.add_state(other)
        for number, nearest in enumerate(state["nearest"]):
            if nearest is not None:
                pairs = self._nearest[number] = self._nearest[number] or NearestPairs()
                pairs.add_state(nearest)
        if state["before"] is not None:
            self.before = self.before or RuleFunnel(state["before"]["names"], state["before"]["source_names"])
            self.before.add_state(state["before"])

    def as_json(self) -> dict[str, JSON]:
        """Return the counts, criteria and samples of each rule by name, in order."""
        found: dict[str, JSON] = {}
        for number, name in enumerate(self.names):
            nearest = self._nearest[number]
            found[name] = {
                "criteria": self.criteria[number],
                "reasons": cast(dict[str, JSON], self.reasons[number]),
                "dropped_in_order": int(self.in_order[number]),
                "dropped_alone": int(self.alone[number]),
                "dropped_only_here": int(self.unique[number]),
                "overlap": {
                    other: int(count)
                    for other, count in zip(self.names, self.overlap[number].tolist(), strict=True)
                    if other != name and count
                },
                "samples": self._samples[number].as_json(),
                "samples_only_here": self._unique_samples[number].as_json(),
                "samples_near": [] if nearest is None else nearest.as_json(),
            }
        counts = {
            "num_pairs": self.num_pairs,
            "num_kept": self.num_kept,
            "order": self.names,
            "rules": found,
            "parts": self.parts.as_json(self.names),
            **({} if self.before is None else {"before": self.before.as_json()}),
        }
        return cast(dict[str, JSON], counts)
