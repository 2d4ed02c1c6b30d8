"""Means of arms by a linear model: one effect per arm and, if seeds are pairs, one additive effect per seed."""

from collections.abc import Hashable, Mapping, Sequence
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
    _covariance: NDArray[np.float64]
    _tolerance: float

    def difference(self, arm: str, other: str) -> tuple[float, float]:
        """Return the mean of `arm` minus that of `other`, and the standard error of this difference."""
        return self.contrast({arm: 1.0, other: -1.0})

    def contrast(self, weights: Mapping[str, float]) -> tuple[float, float]:
        """Return the weighted sum of the means of arms, and its standard error.

        Args:
            weights: by arm; they add up to 0, so that effects of seeds cancel.
        """
        of = np.array([weights.get(arm, 0.0) for arm in self.means])
        estimate = sum(weight * self.means[arm] for arm, weight in weights.items())
        variance = float(of @ self._covariance @ of)
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
    arms = list(values)
    seeds = list(dict.fromkeys(seed for numbers in values.values() for seed in numbers))
    rows = [(i, seeds.index(seed), number) for i, arm in enumerate(arms) for seed, number in values[arm].items()]
    of_arm, of_seed = (np.array([row[side] for row in rows], dtype=int) for side in (0, 1))
    numbers = np.array([row[2] for row in rows], dtype=float)
    largest = float(np.abs(numbers).max(initial=0.0))
    centre = float(numbers.mean()) if rows else 0.0
    design = np.eye(len(arms))[of_arm]
    blocked = paired and _is_connected(of_arm, of_seed, len(arms))
    if blocked:
        design = np.hstack([design, _sum_to_zero(len(seeds))[of_seed]])
    inverse = np.linalg.pinv(design.T @ design)
    effects = inverse @ design.T @ (numbers - centre)
    df = len(rows) - design.shape[1]
    left = numbers - centre - design @ effects
    deviation = float(np.sqrt(left @ left / df)) if df > 0 else 0.0
    tolerance = ROUNDING * largest
    return ArmModel(
        means=dict(zip(arms, (float(effect) + centre for effect in effects), strict=False)),
        num_seeds={arm: len(values[arm]) for arm in arms},
        df=max(df, 0),
        deviation=deviation if deviation > tolerance else 0.0,
        paired=blocked,
        _covariance=inverse[: len(arms), : len(arms)],
        _tolerance=tolerance,
    )


def _sum_to_zero(num_seeds: int) -> NDArray[np.float64]:
    """Return the columns of effects of seeds that add up to 0, float64 [num_seeds, num_seeds − 1]."""
    columns = np.eye(num_seeds)[:, : num_seeds - 1]
    columns[num_seeds - 1] = -1
    return columns


def _is_connected(of_arm: NDArray[np.int_], of_seed: NDArray[np.int_], num_arms: int) -> bool:
    """Return whether a chain of shared seeds leads from each arm to each other one."""
    reached: set[int] = {0}
    pairs: Sequence[tuple[int, int]] = list(zip(of_arm.tolist(), of_seed.tolist(), strict=True))
    for _ in range(num_arms):
        seeds = {seed for arm, seed in pairs if arm in reached}
        reached |= {arm for arm, seed in pairs if seed in seeds}
    return len(reached) == num_arms
