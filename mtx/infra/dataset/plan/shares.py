"""What each source of a mixture gets: shares by weight or by temperature, and whole numbers of them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dataset.plan.base import Int

Float = NDArray[np.float64]


def shares_by_weight(weights: Sequence[float]) -> Float:
    """Return the share of each source: its weight over the sum of all."""
    shares: Float = np.asarray(weights, dtype=np.float64) / np.sum(weights, dtype=np.float64)
    return shares


def shares_by_temperature(sizes: Sequence[int] | Int, temperature: float) -> Float:
    """Return the share of each source: its size to the power 1 ÷ temperature, over the sum of those.

    A temperature of 1 leaves sources as large as they are; the higher it is, the more alike they get.
    """
    given = np.asarray(sizes, dtype=np.float64)
    powers = (given / max(given.max(initial=1.0), 1.0)) ** (1 / temperature)
    shares: Float = powers / powers.sum()
    return shares


def apportioned(shares: Sequence[float] | Float, total: int) -> Int:
    """Return whole numbers that add up to `total`, int64: each share of it, rounded by the largest remainders."""
    exact = np.asarray(shares, dtype=np.float64) * total
    numbers = np.floor(exact).astype(np.int64)
    missing = total - int(numbers.sum())
    numbers[np.argsort(numbers - exact, kind="stable")[:missing]] += 1
    return numbers
