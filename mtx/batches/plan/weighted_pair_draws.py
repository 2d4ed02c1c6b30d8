"""`WeightedQuotas`: epochs that draw each pair as often as its weight says, by systematic sampling.

The weights of a source's rows, scaled to the quota of the source, are the expected draws. The rows are laid on a line
in an order that the seed decides, each as long as its expected draws. An epoch draws the rows at which the points u,
u + 1, u + 2, … lie (Madow 1949, "On the theory of systematic sampling, II"). So an epoch has exactly the quota, and a
row is drawn its expected number of times, rounded down or up. From epoch to epoch, u moves by the golden ratio (a
Kronecker sequence). So the mean of a row's draws soon approaches its expected number.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.mixture_epochs import SOURCE_ORDER_PURPOSE, EpochQuotas
from mtx.batches.plan.planner import Int, Rows, random_generator
from mtx.errors import ConfigError

GOLDEN_RATIO = (math.sqrt(5) - 1) / 2
OFFSET_PURPOSE = 1 << 33  # above the purposes of the orders of sources

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class WeightedQuotas(EpochQuotas):
    """Number of draws of each source per epoch, which its rows share by weight.

    Attributes:
        row_weights: float64 [n], the weight of each row, at least 0; only ratios within a source count.
    """

    row_weights: Floats

    def __post_init__(self) -> None:
        for name, rows in zip(self.names, self.rows, strict=True):
            if not self.row_weights[rows].sum() > 0:
                raise ConfigError(
                    f"all pairs of {name} have the weight 0, so an epoch cannot draw one. Choose another column with "
                    "datamodule.weight_by, or drop these pairs by a filter"
                )

    @property
    def num_parts(self) -> int:
        """Number of parts into which an epoch is divided: as of the base class, for the row with the most draws."""
        most = max(float(np.diff(self._line(source, rows)).max()) for source, rows in enumerate(self.rows))
        return self._limited_parts(math.ceil(most))

    def max_cost_ratio(self, cost: Int, *, seed: int) -> float:
        """Return the cost of the most expensive epoch, divided by the cost of epoch 0.

        The cost of a source is a step function of u, which changes where u passes the fraction of a row's end.

        Args:
            cost: [n], cost of one draw of each row.
            seed: seed of the epochs.
        """
        first = most = 0
        for source in range(len(self.names)):
            rows = self._row_cycle(source, seed)
            own, line = cost[rows].astype(np.int64), self._line(source, rows)
            offset = self._offset(source, seed, 0)
            now = int((own * _counts(line, offset)).sum())
            ends = line[1:-1] % 1
            order = np.argsort(ends, kind="stable")
            steps = np.concatenate([[0], np.cumsum((own[1:] - own[:-1])[order])])
            here = steps[np.searchsorted(ends[order], offset, side="left")]
            first += now
            most += now + int(steps.max() - here)
        return most / first if first else 1.0

    def _drawn_rows(self, source: int, seed: int, epoch: int) -> Rows:
        """Return the draws of a source in random order; repeated draws of one row are adjacent."""
        rows = self._row_cycle(source, seed)
        counts = _counts(self._line(source, rows), self._offset(source, seed, epoch))
        order = random_generator(seed, epoch, self._rng_purpose(source) + SOURCE_ORDER_PURPOSE).permutation(len(rows))
        return np.repeat(rows[order], counts[order])

    def _line(self, source: int, rows: Rows) -> Floats:
        """Return the places at which rows begin and end on the line, float64 [rows + 1], from 0 to the quota."""
        weights, quota = self.row_weights[rows], int(self.quotas[source])
        ends = np.cumsum(weights) / weights.sum() * quota
        ends[-1] = quota  # exactly
        return np.concatenate([[0.0], np.minimum(ends, quota)])

    def _offset(self, source: int, seed: int, epoch: int) -> float:
        """Return u of an epoch, above 0 and below 1."""
        begin = random_generator(seed, 0, self._rng_purpose(source) + OFFSET_PURPOSE).random()
        return float(np.clip((begin + epoch * GOLDEN_RATIO) % 1, 1e-9, 1 - 1e-9))


def _counts(line: Floats, offset: float) -> Int:
    """Return how many of the points offset, offset + 1, … lie in each part of a line that begins at 0: int64 [rows]."""
    return np.diff(np.floor(line - offset)).astype(np.int64)
