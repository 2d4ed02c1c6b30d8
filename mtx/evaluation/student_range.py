"""Critical values for the largest of several differences between means, and the seeds that a difference needs.

`scipy.stats.studentized_range` gives the same quantiles, but takes half a second for each. scipy is imported when a
value is asked for, so that commands without a comparison start without it.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_DF = 5000  # from here on, the variance counts as known
MAX_SEEDS = 10_000
POWER = 0.8

Vector = NDArray[np.float64]


@lru_cache(maxsize=1024)
def t_quantile(df: int, probability: float) -> float:
    """Return the quantile of Student's t distribution."""
    from scipy.special import stdtrit

    return float(stdtrit(df, probability))


@lru_cache(maxsize=1024)
def range_critical_value(num_means: int, df: int, level: float) -> float:
    """Return how many standard errors the largest difference of equal means stays below, with probability `level`.

    The value is the quantile of the studentised range (Tukey) divided by √2. For two means, it is the two-sided
    quantile of Student's t distribution. The error is below 0.1 %.

    Args:
        num_means: how many means are compared, at least 2.
        df: degrees of freedom of the estimated variance, at least 1.
        level: probability, between 0 and 1.
    """
    if num_means == 2:
        return t_quantile(df, (1 + level) / 2)
    df = min(df, MAX_DF)
    width = 1 / math.sqrt(2 * df)
    logs = np.linspace(-24 / df - 7 * width, 7 * width, 161)  # of the estimated over the true standard deviation
    weights = np.exp(df * logs - df * (np.exp(2 * logs) - 1) / 2)
    scales, weights = np.exp(logs), weights / weights.sum()
    low, high = 0.0, 1.0
    while _range_probability(high, num_means, scales, weights) < level:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        if _range_probability(middle, num_means, scales, weights) < level:
            low = middle
        else:
            high = middle
    return high / math.sqrt(2)


def more_seeds(
    difference: float, deviation: float, *, num_arms: int, num_seeds: int, paired: bool, level: float
) -> int:
    """Return how many more seeds per arm tell a difference of two means apart with a power of 80 %.

    Args:
        difference: between two means. It is taken as the true one.
        deviation: standard deviation of one job, above 0, in the unit of `difference`.
        num_arms: arms that share this standard deviation.
        num_seeds: seeds per arm so far.
        paired: whether the variation of seeds is left out by a block model.
        level: confidence level of the two-sided test.

    Returns:
        At least 1, and at most 10,000, which also stands for any larger number.
    """

    def is_enough(more: int) -> bool:
        return _power(difference / deviation, num_arms, num_seeds + more, paired=paired, level=level) >= POWER

    high = 1
    while high < MAX_SEEDS and not is_enough(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return min(high, MAX_SEEDS)


def _power(effect: float, num_arms: int, num_seeds: int, *, paired: bool, level: float) -> float:
    """Return the probability that a two-sided t test finds a difference of `effect` standard deviations."""
    from scipy.special import nctdtr, ndtr

    df = (num_arms - 1 if paired else num_arms) * (num_seeds - 1)
    if df < 1:
        return 0.0
    shift, critical = abs(effect) * math.sqrt(num_seeds / 2), t_quantile(df, (1 + level) / 2)
    below = float(nctdtr(df, shift, critical))
    return 1 - below if math.isfinite(below) else float(ndtr(shift - critical))


def _range_probability(value: float, num_means: int, scales: Vector, weights: Vector) -> float:
    """Return P(range of `num_means` standard normal numbers ≤ `value` × scale), averaged over scales."""
    from scipy.special import ndtr

    points = np.linspace(-8, 8, 97)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi) * (points[1] - points[0])
    between = ndtr(points) - ndtr(points - value * scales[:, None])
    return float(weights @ (num_means * density * between ** (num_means - 1)).sum(axis=1))
