"""`ColumnRule`: the criteria of one named rule of a selection over a column, and the columns that rules can use."""

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import Natural, Probability, problem_of
from mtx.errors import ConfigError, DataError, choices
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Share = Annotated[float, Field(gt=0, le=1)]

NO_WEIGHTS = frozenset({"src", "tgt", ROW_COLUMN, SOURCE_COLUMN})  # columns that say nothing about a pair's quality
NO_CRITERIA = ("column", "without_value", "within", "only")  # fields of a rule that drop nothing by themselves

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
        best_of: a column, such as `near_duplicates.cluster`. The pairs that the rules before have kept are grouped by
            their value in this column. Of each group, the pair with the highest value is kept, or the first of several
            such pairs. A pair without a value in this column is kept.
        lose_at_most: share of the pairs before the rules that the rule may drop. The threshold is the highest one with
            at most this share below it, as in the suggestions of `task=scores`. A pair without a value counts as below,
            unless `without_value=keep`. If most of these pairs are good, at most about this share of good pairs is
            lost.
        one_of: values to keep, for a column of texts or whole numbers.
        within: a column whose values are parts, such as `source`, the parts of a mixture. Quantiles, ranks and
            `lose_at_most` then hold in each part for itself.
        only: values of `within`; the rule judges only pairs of these parts, and keeps all others.
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
    best_of: str | None = None
    lose_at_most: Probability | None = None
    one_of: list[str | int] | None = None
    within: str | None = None
    only: list[str | int] | None = None
    without_value: Literal["drop", "keep"] = "drop"

    @property
    def criteria(self) -> dict[str, Any]:
        """The criteria that are set, by name."""
        names = [field.name for field in fields(self) if field.name not in NO_CRITERIA]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    @property
    def scope(self) -> dict[str, Any]:
        """The fields that are set and say in which parts of the pairs the criteria hold, by name."""
        return {name: getattr(self, name) for name in ("within", "only") if getattr(self, name) is not None}

    @property
    def is_ranking(self) -> bool:
        """Whether the rule depends on how many pairs the rules before it have kept."""
        return self.best_n is not None or self.best_share is not None or self.best_of is not None

    @property
    def needs_all_pairs(self) -> bool:
        """Whether the rule depends on other pairs than the one that it judges."""
        quantiles = (self.min_quantile, self.max_quantile, self.lose_at_most)
        return self.is_ranking or any(quantile is not None for quantile in quantiles)


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
    _check_combination(key, rule)
    return rule


def _check_combination(key: str, rule: ColumnRule) -> None:
    """Raise ConfigError if criteria of a rule contradict one another."""
    for low, high in (("min", "max"), ("min_quantile", "max_quantile")):
        least, most = getattr(rule, low), getattr(rule, high)
        if least is not None and most is not None and least > most:
            raise ConfigError(
                f"{key}.{low}={least} is above {key}.{high}={most}, which keeps no pair. Set {key}.{low}=null or "
                f"{key}.{high}=null"
            )
    if rule.only is not None and rule.within is None:
        raise ConfigError(
            f"{key}.only={rule.only} lists values of the column {key}.within, which is not set. Set "
            f"{key}.within=source for the parts of a mixture, or another column"
        )
    if rule.best_of is not None and (rule.best_n is not None or rule.best_share is not None):
        raise ConfigError(
            f"{key}.best_of={rule.best_of} goes with no best_n or best_share, because their order would not be clear. "
            f"Set {key}.best_n=null and {key}.best_share=null, or use a second rule"
        )


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


def weight_column(key: str, wanted: str, columns: Sequence[str]) -> str:
    """Return the column of the training pairs that `wanted` means, as `resolved_column` does.

    Raises ConfigError, which begins with the config key `key` and lists the columns, if there is no such column.
    """
    available = [name for name in columns if name not in NO_WEIGHTS]
    found = resolved_column(wanted, available)
    if found is None:
        raise ConfigError(
            f"{key} names a column of the training pairs, but {wanted!r} is none. There are: "
            f"{choices(wanted, available)}. Choose a scorer that gives it, such as 'score=[rules]', or store it "
            "beside the texts with downloader.columns"
        )
    return found


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
