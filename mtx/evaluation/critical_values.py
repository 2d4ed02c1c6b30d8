"""Critical values of Student's t distribution and of the studentised range, the largest difference between means.

`scipy.stats.studentized_range` gives the same quantiles, but takes half a second for each. scipy is imported when a
value is asked for, so that commands without a comparison start without it.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

MAX_DF = 5000  # from here on, the variance counts as known
STEP = 0.4  # of the integral over the estimated standard deviation, in its standard deviations
MAX_STEP = 0.1  # of its logarithm, since a density of few degrees of freedom is not that of a normal distribution

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
    from scipy.optimize import brentq

    df = min(df, MAX_DF)
    width = 1 / math.sqrt(2 * df)
    num_logs = math.ceil((24 / df + 14 * width) / min(STEP * width, MAX_STEP))
    logs = np.linspace(-24 / df - 7 * width, 7 * width, num_logs)  # of the estimated over the true standard deviation
    weights = np.exp(df * logs - df * (np.exp(2 * logs) - 1) / 2)
    scales, weights = np.exp(logs), weights / weights.sum()

    def excess(value: float) -> float:
        return _range_probability(value, num_means, scales, weights) - level

    low = math.sqrt(2) * t_quantile(df, (1 + level) / 2)  # of two means
    high = math.sqrt(2) * t_quantile(df, 1 - (1 - level) / num_means / (num_means - 1))  # by Bonferroni, over all pairs
    while excess(high) < 0:  # by an error of rounding
        high *= 2
    return float(brentq(excess, low, high, rtol=1e-6)) / math.sqrt(2)


def _range_probability(value: float, num_means: int, scales: Vector, weights: Vector) -> float:
    """Return P(range of `num_means` standard normal numbers ≤ `value` × scale), averaged over scales."""
    from scipy.special import ndtr

    points = np.linspace(-8, 8, 97)
    density = np.exp(-(points**2) / 2) / math.sqrt(2 * math.pi) * (points[1] - points[0])
    between = ndtr(points) - ndtr(points - value * scales[:, None])
    return float(weights @ (num_means * density * between ** (num_means - 1)).sum(axis=1))
