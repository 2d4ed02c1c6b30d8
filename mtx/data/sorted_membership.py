"""Membership in ascending arrays, which takes no sorting, unlike `numpy.isin`."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_member(ascending: NDArray[Any], values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of n values are in an ascending array: bool [n]."""
    if not len(ascending):
        return np.zeros(len(values), dtype=np.bool_)
    places = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[places] == values
    return found
