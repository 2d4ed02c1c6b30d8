"""How many seeds per arm a difference of two means needs, to be told apart with a power of 80 %.

scipy is imported when a value is asked for, so that commands without a comparison start without it.
"""

import math

from mtx.evaluation.critical_values import t_quantile

MAX_SEEDS = 10_000
POWER = 0.8


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
