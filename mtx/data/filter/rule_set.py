"""`RuleSet`: judges batches of pairs by all rules of a selection, and finds the bounds that depend on all pairs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.column_rule import (
    LENGTHS,
    ColumnRule,
    Cut,
    column_array,
    dropped_masks,
    literal_cut,
    numbers_of,
    quantile_cut,
    resolved_column,
)
from mtx.data.filter.filter_protocol import PairFilter
from mtx.errors import ConfigError, choices
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN

WITHOUT_VALUE = "_without_value"  # end of the reason under which pairs without a value are counted
NO_COLUMNS = frozenset({"src", "tgt", ROW_COLUMN, SOURCE_COLUMN})  # columns that no rule compares

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """The judgements of all rules about n pairs.

    Attributes:
        masks: which pairs each rule drops, bool [rules, n].
        values: the values that a rule compares, float64 [n]; None for a rule without numbers.
        thresholds: the threshold near which pairs are sampled; None for a rule without one.
    """

    masks: NDArray[np.bool_]
    values: list[NDArray[np.float64] | None]
    thresholds: list[float | None]


class RuleSet:
    """The rules of a selection, in order.

    Args:
        rules: the rules by name.
        cuts: the bounds of the rules that depend on all pairs, by name.
    """

    def __init__(self, rules: Mapping[str, ColumnRule | PairFilter], cuts: Mapping[str, Cut] | None = None) -> None:
        self._rules = dict(rules)
        self._cuts = {name: literal_cut(rule) for name, rule in rules.items() if isinstance(rule, ColumnRule)}
        self._cuts |= cuts or {}

    @property
    def names(self) -> list[str]:
        """The reasons for which pairs are dropped, in order: of a rule over a column, first that it has no value."""
        found = []
        for name, rule in self._rules.items():
            found += [f"{name}{WITHOUT_VALUE}"] if _drops_missing(rule) else []
            found.append(name)
        return found

    @property
    def needs_all_pairs(self) -> bool:
        """Whether bounds are missing that `fitted` finds."""
        return any(isinstance(rule, ColumnRule) and rule.needs_all_pairs for rule in self._rules.values())

    @property
    def criteria(self) -> list[dict[str, JSON]]:
        """The criteria of each reason, with the thresholds that follow from them."""
        found: list[dict[str, JSON]] = []
        for name, rule in self._rules.items():
            if not isinstance(rule, ColumnRule):
                found.append({})
                continue
            found += [{"column": rule.column or name}] if _drops_missing(rule) else []
            own = {"column": rule.column or name, **rule.criteria}
            if rule.needs_all_pairs:
                own["thresholds"] = cast(list[JSON], self._cuts[name].thresholds)
            found.append(cast(dict[str, JSON], own))
        return found

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise ConfigError if a rule compares a column that is not among `columns`, and no length."""
        for name, rule in self._rules.items():
            if isinstance(rule, ColumnRule):
                existing_column(name, rule, columns)

    def judge(self, pairs: pa.RecordBatch, rows: Rows) -> Judged:
        """Judge n pairs by all rules; each rule judges all pairs.

        Raises ConfigError if a column does not exist, and DataError if a rule cannot compare a column.
        """
        masks: list[NDArray[np.bool_]] = []
        values: list[NDArray[np.float64] | None] = []
        thresholds: list[float | None] = []
        for name, rule in self._rules.items():
            if isinstance(rule, PairFilter):
                masks.append(_mask_of_filter(rule, pairs))
                found, threshold = None, None
            else:
                column = existing_column(name, rule, pairs.schema.names)
                cut = self._cuts[name]
                dropped, missing, found = dropped_masks(rule, cut, column, column_array(pairs, column), rows)
                threshold = cut.thresholds[0] if cut.thresholds and found is not None else None
                if _drops_missing(rule):
                    masks.append(missing)
                    values.append(None)
                    thresholds.append(None)
                masks.append(dropped)
            values.append(found)
            thresholds.append(threshold)
        shape = (0, pairs.num_rows)
        return Judged(np.stack(masks) if masks else np.zeros(shape, dtype=np.bool_), values, thresholds)

    def fitted(self, batches: Iterable[pa.RecordBatch]) -> "RuleSet":
        """Return the rules with the bounds that follow from quantiles and ranks over all pairs.

        Memory: a byte per pair and rule, and 8 bytes per pair and rule with a quantile or a rank.
        """
        kept: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in self._rules}
        values: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self._rules}
        numbers: list[Rows] = []
        for batch, rows in numbered(batches):
            numbers.append(rows)
            for name, rule in self._rules.items():
                if isinstance(rule, ColumnRule) and rule.needs_all_pairs:
                    column = existing_column(name, rule, batch.schema.names)
                    values[name].append(numbers_of(column, column_array(batch, column)))
                else:
                    judged = RuleSet({name: rule}).judge(batch, rows)
                    kept[name].append(np.asarray(~judged.masks.any(axis=0)))
        rows = np.concatenate([np.empty(0, dtype=np.int64), *numbers])
        is_left = np.ones(len(rows), dtype=np.bool_)
        cuts = {}
        for name, rule in self._rules.items():
            if not isinstance(rule, ColumnRule) or not rule.needs_all_pairs:
                is_left &= np.concatenate([np.empty(0, dtype=np.bool_), *kept[name]])
                continue
            of = np.concatenate([np.empty(0), *values[name]])
            known = ~np.isnan(of)
            cut = quantile_cut(rule, of[known])
            if rule.is_ranking:
                here = is_left & known & (of >= cut.low) & (of <= cut.high)
                cut = cut.with_ranks(rule, of[here], rows[here])
            cuts[name] = cut
            dropped, missing, _ = dropped_masks(rule, cut, name, pa.array(of), rows)
            is_left &= ~dropped & ~(missing & _drops_missing(rule))
        return RuleSet(self._rules, cuts)


def existing_column(name: str, rule: ColumnRule, columns: Sequence[str]) -> str:
    """Return the column that a rule compares. Raises ConfigError, which lists the columns, if it does not exist."""
    available = [column for column in (*columns, *LENGTHS) if column not in NO_COLUMNS]
    wanted = rule.column or name
    found = resolved_column(wanted, available)
    if found is None:
        raise ConfigError(
            f"the rule {name} needs the column {wanted}, which does not exist. "
            f"There are: {choices(wanted, available)}. Set filter.rules.{name}.column=COLUMN, or choose a scorer that "
            "gives it, such as 'score=[rules]'"
        )
    return found


def numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, Rows]]:
    """Yield batches with the numbers of their rows: those of the column `row`, or consecutive numbers from 0."""
    first = 0
    for batch in batches:
        if ROW_COLUMN in batch.schema.names:
            yield batch, batch.column(ROW_COLUMN).to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            yield batch, np.arange(first, first + batch.num_rows)
        first += batch.num_rows


def _drops_missing(rule: ColumnRule | PairFilter) -> bool:
    return isinstance(rule, ColumnRule) and rule.without_value == "drop"


def _mask_of_filter(rule: PairFilter, pairs: pa.RecordBatch) -> NDArray[np.bool_]:
    """Return which pairs a filter drops that judges each pair for itself: bool [n]."""
    if ROW_COLUMN in pairs.schema.names:
        pairs = pairs.drop_columns([ROW_COLUMN])
    marked = pairs.append_column(ROW_COLUMN, pa.array(np.arange(pairs.num_rows)))
    mask = np.ones(pairs.num_rows, dtype=np.bool_)
    for batch in rule.apply([marked], {}):
        mask[batch.column(ROW_COLUMN).to_numpy()] = False
    return mask
