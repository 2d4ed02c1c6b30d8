"""Groups of training pairs by the values of a column: reports count each group, and an epoch can weight them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.components.identity import JSON
from mtx.errors import ConfigError, choices
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dataset.extra_columns import check_category

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
GroupWeights = Annotated[
    Mapping[str, Positive], Field(description="a number above 0 for each group, as {news: 1, web: 3}")
]

MAX_GROUPS = 1000  # a report has a line for each
NO_VALUE = "(none)"  # the group of pairs whose value is null


@dataclass(frozen=True)
class PairGroups:
    """The group of each training pair.

    Attributes:
        names: the names of the groups, sorted.
        of_row: uint16 [n], the group of each pair, as an index into `names`.
    """

    names: tuple[str, ...]
    of_row: NDArray[np.uint16]


@dataclass(frozen=True)
class Grouping:
    """The options `datamodule.group_by`, `group_weights` and `group_temperature`.

    Attributes:
        column: the column whose values are the groups.
        weights: the weight of each group in an epoch; only the ratios count. None: see `temperature`.
        temperature: shares in proportion to (pairs of the group)^(1/temperature), as Arivazhagan et al. 2019
            (arXiv 1907.05019) mix languages. None, and no weights: an epoch has every pair once.
    """

    column: str
    weights: Mapping[str, float] | None = None
    temperature: float | None = None

    @property
    def is_weighted(self) -> bool:
        """Whether an epoch draws pairs by weights or a temperature."""
        return self.weights is not None or self.temperature is not None

    def plain(self) -> dict[str, JSON]:
        """Return the options as plain values, for the identity of the order of batches."""
        weights: JSON = None if self.weights is None else {name: float(value) for name, value in self.weights.items()}
        return {"group_by": self.column, "group_weights": weights, "group_temperature": self.temperature}

    def groups(self, rows: Rows) -> PairGroups:
        """Return the groups of the rows of a training split.

        Raises ConfigError if there is no such column, if its values are no groups, or if there are more than
        `MAX_GROUPS`.
        """
        if self.column not in rows.schema.names:
            raise ConfigError(
                f"datamodule.group_by names a column of the training pairs, but {self.column!r} is none. "
                f"Choose one of {choices(self.column, rows.schema.names)}; downloader.columns says which columns are "
                "stored beside the texts"
            )
        column = rows.column(self.column)
        check_category("datamodule.group_by", self.column, column.type)
        texts = pc.fill_null(column.cast(pa.string()), NO_VALUE).dictionary_encode().combine_chunks()
        values = texts.dictionary.to_pylist()
        if len(values) > MAX_GROUPS:
            raise ConfigError(
                f"datamodule.group_by takes a column of at most {MAX_GROUPS:,} values, but {self.column!r} has "
                f"{len(values):,}. Choose a column of fewer values, or leave out datamodule.group_by"
            )
        names = sorted(values)
        place = np.array([names.index(value) for value in values], dtype=np.uint16)
        return PairGroups(tuple(names), place[texts.indices.to_numpy()])

    def sampling(self, groups: PairGroups, *, seed: int) -> MixtureSampling:
        """Return how an epoch draws from the groups, by weights or a temperature.

        Raises ConfigError if the weights name other groups than there are.
        """
        weights = None if self.weights is None else _weights_of(self.weights, groups.names)
        return MixtureSampling(
            names=groups.names,
            source=groups.of_row,
            weights=weights,
            temperature=self.temperature,
            epoch_pairs=None,
            seed=seed,
            group_by=self.column,
        )


def grouping(
    column: str | None, weights: Mapping[str, float] | None, temperature: float | None, *, mixture_is_weighted: bool
) -> Grouping | None:
    """Return the grouping that the options ask for, or None without `datamodule.group_by`.

    Raises ConfigError if the options contradict one another.
    """
    if problems := list(_problems(column, weights, temperature, mixture_is_weighted=mixture_is_weighted)):
        raise ConfigError("\n".join(problems))
    return None if column is None else Grouping(column, weights, temperature)


def _problems(
    column: str | None, weights: Mapping[str, float] | None, temperature: float | None, *, mixture_is_weighted: bool
) -> Iterator[str]:
    if weights is None and temperature is None:
        return
    if column is None:
        yield (
            "datamodule.group_weights and datamodule.group_temperature need datamodule.group_by. Add "
            "datamodule.group_by=COLUMN"
        )
    if weights is not None and temperature is not None:
        yield (
            "datamodule.group_weights and datamodule.group_temperature both set the shares of an epoch. Set one of "
            "them to null"
        )
    if mixture_is_weighted:
        yield (
            "an epoch is drawn either by the sources of a mixture or by datamodule.group_by, but both are set. Set "
            "downloader.weights=null downloader.temperature=null, or leave out datamodule.group_weights and "
            "datamodule.group_temperature"
        )


def _weights_of(weights: Mapping[str, float], names: tuple[str, ...]) -> tuple[float, ...]:
    missing, unknown = [name for name in names if name not in weights], sorted(set(weights) - set(names))
    if missing or unknown:
        wrong = [f"it lacks {', '.join(missing)}"] * bool(missing) + [f"{', '.join(unknown)} is none"] * bool(unknown)
        raise ConfigError(
            f"datamodule.group_weights has a weight for each group of the training pairs ({', '.join(names)}), but "
            f"{' and '.join(wrong)}. Give each group a weight above 0, and no other"
        )
    return tuple(float(weights[name]) for name in names)
