"""Means of arms by a linear model: one effect per arm and, if seeds are pairs, one additive effect per seed.

The effects of arms are eliminated first (Frisch and Waugh 1933, Econometrica 1), so the time is linear in the arms.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ROUNDING = 1e-12  # differences below this share of the largest number are rounding errors


@dataclass(frozen=True)
class ArmModel:
    """Least-squares estimates of the means of arms.

    Attributes:
        means: by arm. If seeds are pairs and some are missing, the means are adjusted for the missing seeds.
        num_seeds: by arm.
        df: degrees of freedom of the variance; 0 if it cannot be estimated, as with one seed per arm.
        deviation: standard deviation of one job in its arm, pooled over arms; 0 without degrees of freedom.
        paired: whether the model has effects of seeds.
    """

    means: Mapping[str, float]
    num_seeds: Mapping[str, int]
    df: int
    deviation: float
    paired: bool
    _places: Mapping[str, int]
    _shares: NDArray[np.float64]  # [arms, effects of seeds]
    _of_seeds: NDArray[np.float64]  # [effects of seeds, effects of seeds]
    _tolerance: float

    def difference(self, arm: str, other: str) -> tuple[float, float]:
        """Return the mean of `arm` minus that of `other`, and the standard error of this difference."""
        return self.contrast({arm: 1.0, other: -1.0})

    def contrast(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """Return the weighted sum of the means of arms, and its standard error.

        Args:
            weights: by arm; they add up to 0, so that effects of seeds cancel.
        """
        estimate = sum(weight * self.means[arm] for arm, weight in weights.items())
        variance = sum(weight**2 / self.num_seeds[arm] for arm, weight in weights.items())
        if self.paired:
            share = np.array(list(weights.values())) @ self._shares[[self._places[arm] for arm in weights]]
            variance += float(share @ self._of_seeds @ share)
        rounded = 0.0 if abs(estimate) <= self._tolerance else estimate
        return rounded, self.deviation * max(variance, 0.0) ** 0.5

    def statistic(self, arm: str, other: str) -> float:
        """Return the absolute difference of two means in standard errors."""
        return standard_errors(*self.difference(arm, other))


def standard_errors(estimate: float, error: float) -> float:
    """Return the absolute value of an estimate in standard errors."""
    return abs(estimate) / error if error else (float("inf") if estimate else 0.0)


def fit_arms(values: Mapping[str, Mapping[Hashable, float]], *, paired: bool) -> ArmModel:
    """Fit the model to finite numbers by arm and seed.

    Args:
        values: at least one number for each arm.
        paired: whether seeds have effects. They have none if the shared seeds do not connect all arms.
    """
    places = {arm: place for place, arm in enumerate(values)}
    seeds = {seed: place for place, seed in enumerate(dict.fromkeys(s for of in values.values() for s in of))}
    rows = [(places[arm], seeds[seed], number) for arm, of in values.items() for seed, number in of.items()]
    of_arm, of_seed = (np.array([row[side] for row in rows], dtype=int) for side in (0, 1))
    numbers = np.array([row[2] for row in rows], dtype=float)
    largest = float(np.abs(numbers).max(initial=0.0))
    centre = float(numbers.mean()) if rows else 0.0
    blocked = paired and _is_connected(of_arm, of_seed, len(places), len(seeds))
    columns = _sum_to_zero(len(seeds)) if blocked else np.zeros((len(seeds), 0))
    counts = np.bincount(of_arm, minlength=len(places))
    shares = _sums(columns[of_seed], of_arm, len(places)) / counts[:, None]
    within = columns[of_seed] - shares[of_arm]  # what the means of the arms leave of the columns of seeds
    of_seeds = np.linalg.inv(within.T @ within)
    effects_of_seeds = of_seeds @ (within.T @ (numbers - centre))
    left = numbers - centre - columns[of_seed] @ effects_of_seeds
    effects = np.bincount(of_arm, weights=left, minlength=len(places)) / counts
    left = left - effects[of_arm]
    df = len(rows) - len(places) - columns.shape[1]
    deviation = float(np.sqrt(left @ left / df)) if df > 0 else 0.0
    tolerance = ROUNDING * largest
    return ArmModel(
        means={arm: float(effects[place]) + centre for arm, place in places.items()},
        num_seeds={arm: len(of) for arm, of in values.items()},
        df=max(df, 0),
        deviation=deviation if deviation > tolerance else 0.0,
        paired=blocked,
        _places=places,
        _shares=shares,
        _of_seeds=of_seeds,
        _tolerance=tolerance,
    )


def _sum_to_zero(num_seeds: int) -> NDArray[np.float64]:
    """Return the columns of effects of seeds that add up to 0, float64 [num_seeds, num_seeds − 1]."""
    columns = np.eye(num_seeds)[:, : num_seeds - 1]
    columns[num_seeds - 1] = -1
    return columns


def _sums(rows: NDArray[np.float64], places: NDArray[np.int_], num_places: int) -> NDArray[np.float64]:
    """Return the sum of the rows with the same place, float64 [num_places, k]."""
    found = np.zeros((num_places, rows.shape[1]))
    np.add.at(found, places, rows)
    return found


def _is_connected(of_arm: NDArray[np.int_], of_seed: NDArray[np.int_], num_arms: int, num_seeds: int) -> bool:
    """Return whether a chain of shared seeds leads from each arm to each other one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    size = num_arms + num_seeds
    links = coo_array((np.ones(len(of_arm)), (of_arm, num_arms + of_seed)), shape=(size, size))
    number, _ = connected_components(links, directed=False)
    return bool(number == 1)
