"""`ColumnRule`: one named rule of a selection, which compares a column with bounds, quantiles or ranks."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import Natural, Probability, problem_of
from mtx.errors import ConfigError, DataError, choices

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Share = Annotated[float, Field(gt=0, le=1)]

# Columns that a rule can use without a scorer, computed from the texts.
LENGTHS = {
    f"{side}_{unit}": (name, unit)
    for side, name in (("source", "src"), ("target", "tgt"))
    for unit in ("chars", "bytes")
}


@dataclass(frozen=True, kw_only=True)
class ColumnRule:
    """The criteria of one rule; a pair that misses one of them is dropped. Without criteria, the rule is off.

    Attributes:
        column: name of the column, or its last part if that is unique; None: the name of the rule.
        min: smallest value to keep, inclusive.
        max: largest value to keep, inclusive.
        min_quantile: smallest value to keep as a quantile over all pairs before the rules; 0.01 drops the lowest 1 %.
        max_quantile: largest value to keep as a quantile over all pairs before the rules.
        best_n: number of pairs with the highest values to keep, of those that the rules before have kept. Of pairs with
            equal values, earlier ones are kept.
        best_share: share of pairs with the highest values to keep, of those that the rules before have kept.
        one_of: values to keep, for a column of texts or whole numbers.
        without_value: what happens to pairs without a value (null or NaN): `drop`, counted as
            `RULE_without_value`, or `keep`.
    """

    column: str | None = None
    min: float | None = None
    max: float | None = None
    min_quantile: Probability | None = None
    max_quantile: Probability | None = None
    best_n: Natural | None = None
    best_share: Share | None = None
    one_of: list[str | int] | None = None
    without_value: Literal["drop", "keep"] = "drop"

    @property
    def criteria(self) -> dict[str, Any]:
        """The criteria that are set, by name."""
        names = [field.name for field in fields(self) if field.name not in ("column", "without_value")]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def is_ranking(self) -> bool:
        """Whether the rule depends on how many pairs the rules before it have kept."""
        return self.best_n is not None or self.best_share is not None

    @property
    def needs_all_pairs(self) -> bool:
        """Whether the rule depends on other pairs than the one that it judges."""
        return self.is_ranking or self.min_quantile is not None or self.max_quantile is not None


def column_rule(name: str, options: Mapping[str, Any]) -> ColumnRule:
    """Return the rule that a config describes. Raises ConfigError, which lists every invalid key."""
    hints = typing.get_type_hints(ColumnRule, include_extras=True)
    key = f"filter.rules.{name}"
    problems = []
    for option, value in options.items():
        if option not in hints:
            problems.append(f"{key}.{option} is not a key of a rule. Its keys: {choices(option, hints)}")
        elif problem := problem_of(f"{key}.{option}", hints[option], value):
            problems.append(problem)
    if problems:
        raise ConfigError("\n".join(problems))
    rule = ColumnRule(**options)
    for low, high in (("min", "max"), ("min_quantile", "max_quantile")):
        least, most = getattr(rule, low), getattr(rule, high)
        if least is not None and most is not None and least > most:
            raise ConfigError(
                f"{key}.{low}={least} is above {key}.{high}={most}, which keeps no pair. Set {key}.{low}=null or "
                f"{key}.{high}=null"
            )
    return rule


@dataclass(frozen=True)
class Cut:
    """The bounds of a rule for a corpus: those of the config, and those that follow from quantiles and ranks.

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

    def with_ranks(self, rule: ColumnRule, values: Floats, rows: NDArray[np.int64]) -> "Cut":
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


def literal_cut(rule: ColumnRule) -> Cut:
    """Return the bounds of a rule that its config gives as numbers."""
    low = -math.inf if rule.min is None else rule.min
    return Cut(low, math.inf if rule.max is None else rule.max)


def quantile_cut(rule: ColumnRule, values: Floats) -> Cut:
    """Return the bounds of a rule with those by quantiles of `values`, float64 [n] without NaN."""
    cut = literal_cut(rule)
    if not len(values):
        return cut
    if rule.min_quantile is not None:
        cut = replace(cut, low=max(cut.low, float(np.quantile(values, rule.min_quantile, method="higher"))))
    if rule.max_quantile is not None:
        cut = replace(cut, high=min(cut.high, float(np.quantile(values, rule.max_quantile, method="lower"))))
    return cut


def resolved_column(name: str, available: Sequence[str]) -> str | None:
    """Return the column that `name` means: the column itself, or the only one whose last part is `name`.

    None: there is no such column. Raises ConfigError if several columns end with `name`.
    """
    if name in available:
        return name
    found = [column for column in available if column.rpartition(".")[2] == name]
    if len(found) > 1:
        raise ConfigError(f"several columns are called {name}: {choices(name, found)}. Give the whole name")
    return found[0] if found else None


def column_array(pairs: pa.RecordBatch, column: str) -> pa.Array:
    """Return a column of the pairs, or a length that is computed from the texts."""
    if column in pairs.schema.names:
        return pairs.column(column)
    side, unit = LENGTHS[column]
    texts = pairs.column(side)
    return pc.utf8_length(texts) if unit == "chars" else pc.binary_length(texts)


def numbers_of(column: str, array: pa.Array) -> Floats:
    """Return a column as float64 [n], NaN for null. Raises DataError if the column is not numeric."""
    if not (pa.types.is_integer(array.type) or pa.types.is_floating(array.type) or pa.types.is_boolean(array.type)):
        raise DataError(
            f"a rule compares the column {column} with numbers, but its type is {array.type}. "
            f"Use one_of with the values to keep"
        )
    found: Floats = pc.fill_null(array.cast(pa.float64()), math.nan).to_numpy(zero_copy_only=False)
    return found


def dropped_masks(
    rule: ColumnRule, cut: Cut, column: str, array: pa.Array, rows: NDArray[np.int64]
) -> tuple[Mask, Mask, Floats | None]:
    """Judge pairs by a rule.

    Args:
        rule: the rule.
        cut: its bounds.
        column: name of the column in messages.
        array: the column, [n].
        rows: the row numbers of the pairs, int64 [n].

    Returns:
        Which pairs the rule drops because of their values, which pairs have no value, both bool [n], and the values;
        None for a column without numbers.
    """
    is_number = not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type))
    if rule.one_of is not None:
        wanted = pa.array([str(value) for value in rule.one_of], pa.large_string())
        found = pc.is_in(array.cast(pa.large_string()), value_set=wanted).to_numpy(zero_copy_only=False)
        missing = array.is_null().to_numpy(zero_copy_only=False)
        dropped = ~found & ~missing
        if not is_number or rule.criteria.keys() == {"one_of"}:
            return dropped, missing, None
    else:
        dropped = np.zeros(len(array), dtype=np.bool_)
    values = numbers_of(column, array)
    missing = np.isnan(values)
    best = (values > cut.rank_value) | ((values == cut.rank_value) & (rows <= cut.rank_row))
    if cut.rank_value == -math.inf:
        best = np.ones(len(values), dtype=np.bool_)
    dropped |= ~((values >= cut.low) & (values <= cut.high) & best)
    return dropped & ~missing, missing, values
