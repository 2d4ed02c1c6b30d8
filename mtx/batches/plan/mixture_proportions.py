"""Shares of the sources in a mixture, by weight or by temperature, and whole numbers of rows for these shares."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.planner import Int

Float = NDArray[np.float64]


def shares_by_weight(weights: Sequence[float]) -> Float:
    """Return the share of each source: its weight divided by the sum of all weights."""
    shares: Float = np.asarray(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
    return shares


def shares_by_temperature(sizes: Sequence[int] | Int, temperature: float) -> Float:
    """Return the share of each source: its size to the power of 1 ÷ temperature, divided by the sum of these powers.

    With temperature 1, shares are proportional to sizes; a higher temperature makes the shares more equal.
    """
    given = np.asarray(sizes, dtype=np.float64)
    powers = (given / max(given.max(initial=1.0), 1.0)) ** (1 / temperature)
    shares: Float = powers / powers.sum()
    return shares


def apportioned_counts(shares: Sequence[float] | Float, total: int) -> Int:
    """Return whole numbers with sum `total`, int64: the shares of `total`, rounded by the largest-remainder method."""
    exact = np.asarray(shares, dtype=np.float64) * total
    numbers = np.floor(exact).astype(np.int64)
    missing = total - int(numbers.sum())
    numbers[np.argsort(numbers - exact, kind="stable")[:missing]] += 1
    return numbers
