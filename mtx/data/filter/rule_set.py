"""`RuleSet`: judges batches of pairs by all rules of a selection, and finds the bounds that depend on all pairs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.column_rule import LENGTHS, ColumnRule, column_array, numbers_of, resolved_column
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.filter.pairwise_rule import PairwiseRule, Reasons
from mtx.data.filter.rule_bounds import (
    Parts,
    RuleBounds,
    RuleJudgement,
    fitted_bounds,
    judge_column,
    judge_numbers,
    literal_bounds,
)
from mtx.errors import ConfigError, choices
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN

WITHOUT_VALUE = "_without_value"  # end of the reason under which pairs without a value are counted
MAX_PARTS_WITH_BOUNDS = 1000  # of `within`; a column with more values, such as a document, has too few pairs in each
NO_COLUMNS = frozenset({"src", "tgt", ROW_COLUMN, SOURCE_COLUMN})  # columns that no rule compares

Rows = NDArray[np.int64]
Rule = ColumnRule | PairFilter


@dataclass(frozen=True)
class Judged:
    """The judgements of all rules about n pairs.

    Attributes:
        masks: which pairs each rule drops, bool [rules, n].
        judgements: the values that each rule compares, and their distances to its thresholds; None without numbers.
        reasons: the reasons that each rule gives; None for a rule without reasons.
    """

    masks: NDArray[np.bool_]
    judgements: list[RuleJudgement | None]
    reasons: list[Reasons | None]


class RuleSet:
    """The rules of a selection, in order.

    Args:
        rules: the rules by name.
        source_names: the names of the sources of a mixture, whose numbers the column `source` has.
        bounds: the bounds of the rules that depend on all pairs, by name.
    """

    def __init__(
        self,
        rules: Mapping[str, Rule],
        source_names: Sequence[str] = (),
        bounds: Mapping[str, RuleBounds] | None = None,
    ) -> None:
        self.source_names = tuple(source_names)
        self._rules = dict(rules)
        self._bounds = {name: literal_bounds(rule) for name, rule in rules.items() if isinstance(rule, ColumnRule)}
        self._bounds |= bounds or {}

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
    def has_many_bounds(self) -> bool:
        """Whether bounds are numbers of rows, as `best_of` has them, instead of a few thresholds."""
        return any(len(bounds.worse_rows) for bounds in self._bounds.values())

    @property
    def criteria(self) -> list[dict[str, JSON]]:
        """The criteria of each reason, with the thresholds that follow from them."""
        found: list[dict[str, JSON]] = []
        for name, rule in self._rules.items():
            if not isinstance(rule, ColumnRule):
                found.append({})
                continue
            found += [{"column": rule.column or name}] if _drops_missing(rule) else []
            own = {"column": rule.column or name, **rule.criteria, **rule.scope}
            if rule.needs_all_pairs:
                own["thresholds"] = self._bounds[name].thresholds
            found.append(cast(dict[str, JSON], own))
        return found

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise ConfigError if a rule names a column that is not among `columns`, and no length."""
        for name, rule in self._rules.items():
            if isinstance(rule, ColumnRule):
                existing_column(name, rule, columns)
                for key in ("best_of", "within"):
                    if (column := getattr(rule, key)) is not None:
                        _part_column(name, key, column, columns)
                self._check_sources(name, rule)

    def _check_sources(self, name: str, rule: ColumnRule) -> None:
        if rule.within != SOURCE_COLUMN or rule.only is None:
            return
        if unknown := [str(each) for each in rule.only if str(each) not in self.source_names]:
            raise ConfigError(
                f"filter.rules.{name}.only lists parts of the mixture, but {unknown[0]} is none. "
                f"There are: {choices(unknown[0], self.source_names)}. Correct filter.rules.{name}.only"
            )

    def judge(self, pairs: pa.RecordBatch, rows: Rows) -> Judged:
        """Judge n pairs by all rules; each rule judges all pairs.

        Raises ConfigError if a column does not exist, and DataError if a rule cannot compare a column.
        """
        judged = Judged(np.zeros((len(self.names), pairs.num_rows), dtype=np.bool_), [], [])
        for name, rule in self._rules.items():
            found, reasons = None, None
            if isinstance(rule, PairwiseRule):
                keep, reasons = rule.judge(pairs)
                dropped = ~keep
            elif isinstance(rule, PairFilter):
                dropped = _mask_of_filter(rule, pairs)
            else:
                column = existing_column(name, rule, pairs.schema.names)
                found = judge_column(
                    *(rule, self._bounds[name], column, column_array(pairs, column), rows),
                    self.parts(name, rule, pairs),
                )
                dropped = found.drops
                if _drops_missing(rule):
                    judged.masks[len(judged.judgements)] = found.missing
                    judged.judgements.append(None)
                    judged.reasons.append(None)
            judged.masks[len(judged.judgements)] = dropped
            judged.judgements.append(found if found is not None and found.values is not None else None)
            judged.reasons.append(reasons)
        return judged

    def parts(self, name: str, rule: ColumnRule, pairs: pa.RecordBatch) -> Parts | None:
        """Return the parts that `within` of a rule names; None without it. Raises ConfigError if it does not exist."""
        if rule.within is None:
            return None
        column = _part_column(name, "within", rule.within, pairs.schema.names)
        if pa.types.is_floating(pairs.column(column).type):
            raise ConfigError(
                f"filter.rules.{name}.within={rule.within} needs a column of texts or whole numbers, but {column} "
                f"holds {pairs.column(column).type}. Set filter.rules.{name}.within=COLUMN, or remove it with "
                f"filter.rules.{name}.within=null"
            )
        return Parts.of_column(pairs.column(column), self.source_names if column == SOURCE_COLUMN else ())

    def fitted(self, batches: Iterable[pa.RecordBatch]) -> "RuleSet":
        """Return the rules with the bounds that follow from quantiles and ranks over all pairs.

        Memory: a byte per pair and rule, and 8 to 24 bytes per pair and rule with a quantile or a rank.
        """
        columns = {
            name: _FitColumn(name, rule, self)
            for name, rule in self._rules.items()
            if isinstance(rule, ColumnRule) and rule.needs_all_pairs
        }
        kept: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in self._rules}
        numbers: list[Rows] = []
        for batch, rows in numbered(batches):
            numbers.append(rows)
            for name, rule in self._rules.items():
                if name in columns:
                    columns[name].add(batch)
                else:
                    judged = RuleSet({name: rule}, self.source_names).judge(batch, rows)
                    kept[name].append(np.asarray(~judged.masks.any(axis=0)))
        rows = np.concatenate([np.empty(0, dtype=np.int64), *numbers])
        is_left = np.ones(len(rows), dtype=np.bool_)
        bounds = {}
        for name in self._rules:
            if name in columns:
                bounds[name], drops = columns[name].fitted(rows, is_left)
                is_left &= ~drops
            else:
                is_left &= np.concatenate([np.empty(0, dtype=np.bool_), *kept[name]])
        return RuleSet(self._rules, self.source_names, bounds)


class _FitColumn:
    """Collects what a rule that depends on all pairs compares, and finds its bounds."""

    def __init__(self, name: str, rule: ColumnRule, rules: RuleSet) -> None:
        self._name, self._rule, self._rules = name, rule, rules
        self._values: list[NDArray[np.float64]] = []
        self._parts: list[Parts] = []
        self._clusters: list[Parts] = []
        self._known: list[NDArray[np.bool_]] = []

    def add(self, pairs: pa.RecordBatch) -> None:
        column = existing_column(self._name, self._rule, pairs.schema.names)
        self._values.append(numbers_of(column, column_array(pairs, column)))
        if (parts := self._rules.parts(self._name, self._rule, pairs)) is not None:
            self._parts.append(parts)
        if self._rule.best_of is not None:
            array = pairs.column(_part_column(self._name, "best_of", self._rule.best_of, pairs.schema.names))
            self._clusters.append(Parts.of_column(array))
            self._known.append(array.is_valid().to_numpy(zero_copy_only=False))

    def fitted(self, rows: Rows, is_left: NDArray[np.bool_]) -> tuple[RuleBounds, NDArray[np.bool_]]:
        """Return the bounds, and which pairs the rule drops by them, bool [n]."""
        values = np.concatenate([np.empty(0), *self._values])
        parts = None if self._rule.within is None else Parts.joined(self._parts)
        if parts is not None and len(parts.names) > MAX_PARTS_WITH_BOUNDS:
            raise ConfigError(
                f"filter.rules.{self._name}.within={self._rule.within} gives each of at most "
                f"{MAX_PARTS_WITH_BOUNDS:,} parts bounds of its own, but the column has {len(parts.names):,} values. "
                f"Choose a column with fewer, or remove it with filter.rules.{self._name}.within=null"
            )
        clusters = None
        if self._rule.best_of is not None:
            known = np.concatenate([np.empty(0, dtype=np.bool_), *self._known])
            clusters = np.where(known, Parts.joined(self._clusters).codes, -1)
        bounds = fitted_bounds(self._rule, values, rows, is_left, parts, clusters)
        found = judge_numbers(self._rule, bounds, values, rows, parts)
        return bounds, found.drops | (found.missing & _drops_missing(self._rule))


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


def _part_column(name: str, key: str, wanted: str, columns: Sequence[str]) -> str:
    """Return the column that `within` or `best_of` names. Raises ConfigError, which lists the columns."""
    available = [column for column in columns if column not in NO_COLUMNS or column == SOURCE_COLUMN]
    # `source` means the parts of a mixture, never the last part of another column's name.
    found = wanted if wanted in available else None if wanted == SOURCE_COLUMN else resolved_column(wanted, available)
    if found is None:
        raise ConfigError(
            f"filter.rules.{name}.{key} names the column {wanted}, which does not exist. "
            f"There are: {choices(wanted, available)}. The column source is that of a mixture. Set "
            f"filter.rules.{name}.{key}=COLUMN, or choose a scorer that gives it"
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


def _drops_missing(rule: Rule) -> bool:
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
