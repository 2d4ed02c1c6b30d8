"""`RuleBounds`: the bounds of one rule of a selection, by which it judges pairs.

Bounds are numbers of the config, or follow from the values of all pairs: quantiles, ranks, the best pair of a cluster.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.column_rule import ColumnRule, Floats, Mask, numbers_of
from mtx.data.score.noise_curves import CorpusScores
from mtx.data.sorted_membership import is_member

Rows = NDArray[np.int64]
Codes = NDArray[np.int64]

NO_VALUE = "(none)"  # the part of pairs whose value is null


@dataclass(frozen=True)
class Parts:
    """The parts that n pairs belong to.

    Attributes:
        names: the names of the parts.
        codes: int64 [n], the part of each pair, as an index into `names`.
    """

    names: Sequence[str]
    codes: Codes

    @classmethod
    def of_column(cls, array: pa.Array, names: Sequence[str] = ()) -> "Parts":
        """Return the parts by the values of a column; `names`: the values are numbers of these names."""
        if names:
            return cls(names, array.to_numpy(zero_copy_only=False).astype(np.int64))
        encoded = pc.fill_null(array.cast(pa.large_string()), NO_VALUE).dictionary_encode()
        return cls(encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64))

    @classmethod
    def joined(cls, parts: Sequence["Parts"]) -> "Parts":
        """Return the parts of concatenated pairs."""
        known: dict[str, int] = {}
        codes = [
            np.array([known.setdefault(name, len(known)) for name in of.names], dtype=np.int64)[of.codes]
            for of in parts
        ]
        return cls(list(known), np.concatenate([np.empty(0, dtype=np.int64), *codes]))

    def __iter__(self) -> Iterator[tuple[str, Rows]]:
        """Yield the name and the ascending places of each part that has pairs."""
        order = np.argsort(self.codes, kind="stable")
        ends = np.cumsum(np.bincount(self.codes, minlength=len(self.names)))
        for name, end, begin in zip(self.names, ends, [0, *ends[:-1]], strict=True):
            if end > begin:
                yield name, order[begin:end]


@dataclass(frozen=True)
class Cut:
    """The bounds of a rule for the pairs of a part: those of the config, and those by quantiles and ranks.

    Attributes:
        low: smallest value to keep; minus infinity: no bound.
        high: largest value to keep; infinity: no bound.
        rank_value: pairs with a higher value than this are among the best; minus infinity: all pairs are.
        rank_row: pairs with the value `rank_value` are among the best up to this row number, inclusive.
    """

    low: float = -math.inf
    high: float = math.inf
    rank_value: float = -math.inf
    rank_row: int = -1

    @property
    def thresholds(self) -> list[float]:
        """The finite bounds."""
        return [bound for bound in (self.low, self.high, self.rank_value) if math.isfinite(bound)]

    def with_ranks(self, rule: ColumnRule, values: Floats, rows: Rows) -> "Cut":
        """Return the bounds with the lowest rank to keep.

        Args:
            rule: the rule with `best_n` or `best_share`.
            values: the values of the pairs that the rules before have kept, without NaN, float64 [n].
            rows: their row numbers, int64 [n].
        """
        counts = [len(values)]
        counts += [rule.best_n] if rule.best_n is not None else []
        counts += [math.ceil(rule.best_share * len(values))] if rule.best_share is not None else []
        num_best = min(counts)
        if num_best == len(values):
            return self
        if not num_best:
            return replace(self, rank_value=math.inf)
        last = np.lexsort((rows, -values))[num_best - 1]
        return replace(self, rank_value=float(values[last]), rank_row=int(rows[last]))


@dataclass(frozen=True)
class RuleBounds:
    """The bounds of a rule.

    Attributes:
        cut: the bounds for all pairs, or for parts that are not in `of_part`.
        of_part: the bounds of each part that `within` names, if they follow from the pairs of the part.
        worse_rows: ascending numbers of the rows that `best_of` drops, because another pair is better, int64.
    """

    cut: Cut
    of_part: Mapping[str, Cut] = field(default_factory=dict)
    worse_rows: Rows = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def thresholds(self) -> JSON:
        """The finite bounds; with parts, by part."""
        if self.of_part:
            return {name: list(cut.thresholds) for name, cut in self.of_part.items()}
        return list(self.cut.thresholds)


@dataclass(frozen=True)
class RuleJudgement:
    """What a rule says about n pairs.

    Attributes:
        drops: which pairs it drops because of their values, bool [n].
        missing: which of the pairs that it judges have no value, bool [n].
        values: the values that it compares, float64 [n]; None for a column without numbers.
        distances: the distance of each value to the nearest threshold, float64 [n], infinity if there is none.
    """

    drops: Mask
    missing: Mask
    values: Floats | None = None
    distances: Floats | None = None


def literal_bounds(rule: ColumnRule) -> RuleBounds:
    """Return the bounds of a rule that its config gives as numbers."""
    low = -math.inf if rule.min is None else rule.min
    return RuleBounds(Cut(low, math.inf if rule.max is None else rule.max))


def fitted_bounds(
    rule: ColumnRule, values: Floats, rows: Rows, is_left: Mask, parts: Parts | None, clusters: Codes | None
) -> RuleBounds:
    """Return the bounds of a rule with those that follow from quantiles and ranks over all pairs.

    Args:
        rule: the rule.
        values: the values of all n pairs, NaN for none, float64 [n].
        rows: their row numbers, int64 [n].
        is_left: which pairs the rules before have kept, bool [n].
        parts: the parts that `within` names; None: the pairs have no parts.
        clusters: the value of `best_of` of each pair as a number, -1 for none, int64 [n]; None without `best_of`.
    """
    bounds = literal_bounds(rule)
    if parts is None:
        bounds = replace(bounds, cut=_fitted_cut(rule, bounds.cut, values, rows, is_left))
    else:
        wanted = None if rule.only is None else {str(each) for each in rule.only}
        of_part = {
            name: _fitted_cut(rule, bounds.cut, values[places], rows[places], is_left[places])
            for name, places in parts
            if wanted is None or name in wanted
        }
        bounds = replace(bounds, of_part=of_part)
    if clusters is None:
        return bounds
    found = judge_numbers(rule, bounds, values, rows, parts)
    candidates = ~np.isnan(values) & (clusters >= 0) & _is_judged(rule, parts, len(values))
    group = clusters if parts is None else np.unique(np.stack([clusters, parts.codes]), axis=1, return_inverse=True)[1]
    return replace(bounds, worse_rows=_worse_rows(values, rows, group, candidates, candidates & is_left & ~found.drops))


def judge_numbers(
    rule: ColumnRule, bounds: RuleBounds, values: Floats, rows: Rows, parts: Parts | None
) -> RuleJudgement:
    """Judge n pairs by their values, float64 [n], NaN for none; `rows` are their row numbers, int64 [n]."""
    low, high, rank_value, rank_row = _bounds_of_rows(bounds, parts)
    missing = np.isnan(values)
    best = (values > rank_value) | ((values == rank_value) & (rows <= rank_row)) | (rank_value == -math.inf)
    drops = ~((values >= low) & (values <= high) & best) & ~missing
    drops |= is_member(bounds.worse_rows, rows) & ~missing
    judged = _is_judged(rule, parts, len(values))
    distances = np.full(len(values), math.inf)
    for bound in (low, high, rank_value):
        with np.errstate(invalid="ignore"):  # infinity minus infinity, for no bound and an infinite value
            np.fmin(distances, np.abs(values - bound), out=distances)
    distances[~judged] = math.inf
    return RuleJudgement(drops & judged, missing & judged, values, distances)


def judge_column(
    rule: ColumnRule, bounds: RuleBounds, column: str, array: pa.Array, rows: Rows, parts: Parts | None
) -> RuleJudgement:
    """Judge pairs by a column.

    Args:
        rule: the rule.
        bounds: its bounds.
        column: name of the column in messages.
        array: the column, [n].
        rows: the row numbers of the pairs, int64 [n].
        parts: the parts that `within` names; None: the pairs have no parts.
    """
    if rule.one_of is None:
        return judge_numbers(rule, bounds, numbers_of(column, array), rows, parts)
    judged = _is_judged(rule, parts, len(array))
    wanted = pa.array([str(value) for value in rule.one_of], pa.large_string())
    found = pc.is_in(array.cast(pa.large_string()), value_set=wanted).to_numpy(zero_copy_only=False)
    missing = array.is_null().to_numpy(zero_copy_only=False)
    drops = ~found & ~missing & judged
    is_text = pa.types.is_string(array.type) or pa.types.is_large_string(array.type)
    if is_text or rule.criteria.keys() == {"one_of"}:
        return RuleJudgement(drops, missing & judged)
    judgement = judge_numbers(rule, bounds, numbers_of(column, array), rows, parts)
    return replace(judgement, drops=judgement.drops | (drops & ~judgement.missing))


def _fitted_cut(rule: ColumnRule, cut: Cut, values: Floats, rows: Rows, is_left: Mask) -> Cut:
    """Return the bounds for the pairs of one part."""
    known = ~np.isnan(values)
    if rule.lose_at_most is not None and len(values):
        counted = values if rule.without_value == "drop" else np.where(known, values, math.inf)
        cut = replace(cut, low=max(cut.low, CorpusScores(counted).threshold(rule.lose_at_most)))
    if known.any():
        if rule.min_quantile is not None:
            lowest = float(np.quantile(values[known], rule.min_quantile, method="higher"))
            cut = replace(cut, low=max(cut.low, lowest))
        if rule.max_quantile is not None:
            highest = float(np.quantile(values[known], rule.max_quantile, method="lower"))
            cut = replace(cut, high=min(cut.high, highest))
    if rule.best_n is not None or rule.best_share is not None:
        here = is_left & known & (values >= cut.low) & (values <= cut.high)
        cut = cut.with_ranks(rule, values[here], rows[here])
    return cut


def _worse_rows(values: Floats, rows: Rows, group: Codes, candidates: Mask, winners_among: Mask) -> Rows:
    """Return the ascending numbers of the candidates that are worse than the best pair of their group.

    The best pair is one of `winners_among`, the first of several. A group without one has no best pair.
    """
    places = np.flatnonzero(winners_among)
    order = places[np.lexsort((rows[places], -values[places], group[places]))]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = group[order][1:] != group[order][:-1]
    best = np.full(int(group.max(initial=-1)) + 1, -1, dtype=np.int64)
    best[group[order[first]]] = order[first]
    of_group = np.where(candidates, best[group] if len(best) else -1, -1)
    has_best = of_group >= 0
    is_worse = (values < values[of_group]) | ((values == values[of_group]) & (rows > rows[of_group]))
    found: Rows = np.sort(rows[has_best & is_worse])
    return found


def _bounds_of_rows(bounds: RuleBounds, parts: Parts | None) -> tuple[NDArray[np.float64] | float, ...]:
    """Return `low`, `high`, `rank_value` and `rank_row` of each pair, [n], or one number for all pairs."""
    cut = bounds.cut
    if parts is None or not bounds.of_part:
        return cut.low, cut.high, cut.rank_value, cut.rank_row
    cuts = [bounds.of_part.get(name, cut) for name in parts.names]
    table = np.array([[of.low, of.high, of.rank_value, of.rank_row] for of in cuts]).reshape(-1, 4)
    return tuple(table[parts.codes].T)


def _is_judged(rule: ColumnRule, parts: Parts | None, num_pairs: int) -> Mask:
    """Return which pairs are in the parts that `only` lists, bool [n]."""
    if rule.only is None or parts is None:
        return np.ones(num_pairs, dtype=np.bool_)
    wanted = {str(each) for each in rule.only}
    found: Mask = np.array([name in wanted for name in parts.names], dtype=np.bool_)[parts.codes]
    return found
