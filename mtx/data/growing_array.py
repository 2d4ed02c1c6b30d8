"""`GrowingArray`: values of a stream in one array, without a second copy of all of them at the end."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

FIRST_VALUES = 1 << 16  # room for this number of values at first


class GrowingArray:
    """An array to which blocks of values are appended.

    A list of blocks would take twice the memory when the blocks are concatenated. This array grows in place by an
    eighth of its size, for which the operating system moves no data.

    Args:
        dtype: type of the values.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        self._held: NDArray[Any] = np.empty(FIRST_VALUES, dtype=dtype)
        self._size = 0

    def append(self, values: NDArray[Any]) -> None:
        """Append a block of values."""
        end = self._size + len(values)
        if end > len(self._held):
            self._held.resize(max(end, len(self._held) * 9 // 8), refcheck=False)  # no view exists before `values`
        self._held[self._size : end] = values
        self._size = end

    def values(self) -> NDArray[Any]:
        """Return all values, as a view. Append nothing afterwards."""
        return self._held[: self._size]
