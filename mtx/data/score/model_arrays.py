"""Arrays of the models of scorers, one file of numpy's format each, without pickle."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dal.atomic_file import atomic_file


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array to a file, atomically."""
    with atomic_file(path) as file:
        np.save(file, array, allow_pickle=False)


def load_array(path: Path) -> NDArray[Any]:
    """Return the array in a file. Raises ValueError if the array would need pickle."""
    found: NDArray[Any] = np.load(path, allow_pickle=False)
    return found
