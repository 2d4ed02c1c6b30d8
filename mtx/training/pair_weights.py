"""Weights of training pairs by a column, such as a score: an epoch draws better pairs more often, and drops none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.components.identity import JSON
from mtx.data.concatenated_corpus import part_names
from mtx.data.filter.column_rule import numbers_of
from mtx.errors import ConfigError, DataError
from mtx.infra.dataset.download import Downloader
from mtx.training.weighted_pair_groups import NO_VALUE, PairGroups

MAX_WEIGHT = 1e6  # sums of more weights could overflow
Weight = Annotated[float, Field(ge=0, le=MAX_WEIGHT)]
QuantileWeights = Annotated[
    Sequence[Weight], Field(description="a list of weights from 0 to 1e6, for the lowest values first, as [1, 2, 4]")
]


@dataclass(frozen=True)
class PairWeighting:
    """The options `datamodule.weight_by` and `datamodule.quantile_weights`.

    Attributes:
        column: the column by which pairs have weights.
        quantile_weights: the weights of pairs by equally large ranges of the values, lowest first; None: the values
            are the weights.
    """

    column: str
    quantile_weights: tuple[float, ...] | None = None

    def plain(self) -> dict[str, JSON]:
        """Return the options as plain values, for the identity of the order of batches."""
        weights: JSON = None if self.quantile_weights is None else list(self.quantile_weights)
        return {"weight_by": self.column, "quantile_weights": weights}

    def weights(self, column: pa.Array) -> tuple[NDArray[np.float64], PairGroups]:
        """Return the weight of each pair, float64 [n], and the ranges of the values as groups for reports.

        A pair without a value has the weight of the lowest range, and is in a group of its own. Pairs with equal
        values are in one range.

        Raises:
            ConfigError: the column has no numbers, or a value is no weight.
        """
        try:
            values = numbers_of(self.column, column)
        except DataError:
            raise ConfigError(
                f"datamodule.weight_by needs a column of numbers, but {self.column!r} holds {column.type}. Use "
                "datamodule.group_by and group_weights, which give each value of a column a weight"
            ) from None
        if self.quantile_weights is None:
            return self._values_as_weights(values), PairGroups(("all",), np.zeros(len(values), dtype=np.uint16))
        number = len(self.quantile_weights)
        known = ~np.isnan(values)
        edges = np.empty(0)
        if known.any():
            edges = np.quantile(values[known], np.arange(1, number) / number, method="higher")
        of_row = np.searchsorted(edges, np.where(known, values, -np.inf), side="right").astype(np.uint16)
        names = [f"{self.column} {place} of {number}" for place in range(1, number + 1)]
        names += [] if known.all() else [NO_VALUE]
        weights = np.array(self.quantile_weights, dtype=np.float64)[of_row]
        return weights, PairGroups(tuple(names), np.where(known, of_row, number).astype(np.uint16))

    def _values_as_weights(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        bad = ~((values >= 0) & (values <= MAX_WEIGHT))  # NaN is neither
        if bad.any():
            raise ConfigError(
                f"datamodule.weight_by={self.column} takes the values of the column as weights from 0 to "
                f"{MAX_WEIGHT:g}, but {int(bad.sum()):,} of {len(values):,} pairs have none, such as "
                f"{values[bad][0]}. Give weights to ranges of the values: 'datamodule.quantile_weights=[1,2,4]'"
            )
        return values


def pair_weighting(column: str | None, quantile_weights: Sequence[float] | None) -> PairWeighting | None:
    """Return the weighting that the options ask for, or None. Raises ConfigError if the options are not valid."""
    if column is None:
        if quantile_weights is not None:
            raise ConfigError(
                "datamodule.quantile_weights needs a column. Add datamodule.weight_by=COLUMN, such as a score"
            )
        return None
    if quantile_weights is not None and (len(quantile_weights) < 2 or not any(quantile_weights)):
        raise ConfigError(
            "datamodule.quantile_weights is a list of two weights or more, one of them above 0, but is "
            f"{list(quantile_weights)}. Set 'datamodule.quantile_weights=[1,2]'"
        )
    return PairWeighting(column, None if quantile_weights is None else tuple(map(float, quantile_weights)))


def equal_sampling(row_weights: NDArray[np.float64], *, seed: int) -> MixtureSampling:
    """Return the sampling of epochs with as many draws as pairs, by the weights of the pairs alone, float64 [n]."""
    return MixtureSampling(
        names=("the corpus",),
        source=np.zeros(len(row_weights), dtype=np.uint16),
        weights=(1.0,),
        temperature=None,
        epoch_pairs=None,
        seed=seed,
        row_weights=row_weights,
    )


def mixture_sampling(downloader: Downloader, source: NDArray[np.uint16], *, seed: int) -> MixtureSampling:
    """Return how an epoch draws from the sources of a mixture with weights or a temperature.

    Args:
        downloader: the mixture.
        source: the source of each training pair, as an index of its names, uint16 [n].
        seed: seed of the training order.
    """
    names, sampling = tuple(part_names(downloader)), cast(dict[str, Any], downloader.sampling)
    weights = sampling["weights"]
    return MixtureSampling(
        names=names,
        source=source,
        weights=None if weights is None else tuple(float(weights[name]) for name in names),
        temperature=sampling["temperature"],
        epoch_pairs=sampling["epoch_pairs"],
        seed=seed,
    )
