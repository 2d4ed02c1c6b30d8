"""`SpilledArrays`: named arrays that grow by parts, in memory or, beyond a budget, in files of a scratch folder."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.infra.dal.atomic_file import convert_disk_errors


class SpilledArrays:
    """Arrays by number, each of one dtype, to which parts are appended.

    Args:
        folder: an empty folder for the files.
        dtype: the dtype of all arrays.
        in_memory: whether the arrays stay in memory.
    """

    def __init__(self, folder: Path, dtype: Any, *, in_memory: bool) -> None:
        self._folder = folder
        self._dtype = np.dtype(dtype)
        self._parts: dict[int, list[NDArray[Any]]] | None = {} if in_memory else None

    def append(self, number: int, part: NDArray[Any]) -> None:
        """Append a part to an array. Raises StoreError if the disk refuses the write."""
        part = np.ascontiguousarray(part, dtype=self._dtype)
        if self._parts is not None:
            self._parts.setdefault(number, []).append(part)
            return
        path = self._path(number)
        with convert_disk_errors(path), path.open("ab") as file:
            file.write(part.data)

    def take(self, number: int) -> NDArray[Any]:
        """Return an array, and forget it; an array without parts is empty."""
        if self._parts is not None:
            parts = self._parts.pop(number, [])
            return np.concatenate(parts) if parts else np.empty(0, dtype=self._dtype)
        path = self._path(number)
        if not path.exists():
            return np.empty(0, dtype=self._dtype)
        found = np.fromfile(path, dtype=self._dtype)
        path.unlink()
        return found

    def _path(self, number: int) -> Path:
        return self._folder / f"{number}.bin"
