"""The options by which an epoch draws from the sources of a mixture or from groups, with the source of each row."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.mixture_epochs import EpochQuotas, MixedDraft, SourceIndex, epoch_quotas
from mtx.batches.plan.mixture_proportions import shares_by_weight
from mtx.batches.plan.planner import Lengths, Mask, Planner
from mtx.batches.plan.weighted_pair_draws import WeightedQuotas


@dataclass(frozen=True)
class MixtureSampling:
    """Options of a mixture, and the source of each row. It makes the draft of the mixture's epochs.

    Attributes:
        names: names of the sources.
        source: uint16 [n], the source of each row, as an index of `names`.
        weights: weight of each source; None: shares come from `temperature`.
        temperature: temperature of the shares by size; None: shares come from `weights`.
        epoch_pairs: number of draws per epoch; None: the number of rows that can be drawn.
        seed: seed of the training order.
        group_by: the column whose values are the sources; None: the sources are those of a mixture.
        row_weights: float64 [n], the weight of each row among those of its source; None: all are equal.
    """

    names: tuple[str, ...]
    source: SourceIndex
    weights: tuple[float, ...] | None
    temperature: float | None
    epoch_pairs: int | None
    seed: int
    group_by: str | None = None
    row_weights: NDArray[np.float64] | None = None

    def epoch_quotas(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> EpochQuotas:
        """Return the quotas of the sources; rows that are excluded, or too long for the planner, are never drawn."""
        unservable = planner.plan(lengths, seed=self.seed, epoch=0, excluded=excluded).dropped_length
        quotas = epoch_quotas(
            self.names,
            self.source,
            shares=None if self.weights is None else shares_by_weight(self.weights),
            temperature=self.temperature,
            epoch_pairs=self.epoch_pairs,
            unservable=unservable,
            group_by=self.group_by,
        )
        if self.row_weights is None:
            return quotas
        return WeightedQuotas(quotas.num_rows, quotas.names, quotas.rows, quotas.quotas, self.row_weights)

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> MixedDraft:
        """Return a draft, which plans the batches of each epoch. Raises the errors of the function `epoch_quotas`."""
        servings = self.epoch_quotas(planner, lengths, excluded=excluded)
        return MixedDraft(planner, lengths, servings, excluded=excluded, seed=self.seed)
