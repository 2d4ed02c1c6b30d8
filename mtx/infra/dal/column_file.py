"""`ColumnFile`: the values of a column in an unnamed temporary file, so that they take no memory."""

import mmap
import os
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mtx.infra.dal.atomic_file import convert_disk_errors


class ColumnFile:
    """Values that are appended to a file without a name, which the operating system removes with the process.

    Args:
        folder: the folder of the file.
    """

    def __init__(self, folder: Path) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by `close`
        self._folder = folder

    def __enter__(self) -> "ColumnFile":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, values: NDArray[Any]) -> None:
        """Append values. Raises StoreError if the disk refuses the write."""
        with convert_disk_errors(self._folder):
            self._file.write(np.ascontiguousarray(values).data)

    def values(self, dtype: DTypeLike) -> NDArray[Any]:
        """Return all values, memory-mapped; they stay readable after `close`. Raises StoreError as `append` does."""
        with convert_disk_errors(self._folder):
            self._file.flush()
        if not os.fstat(self._file.fileno()).st_size:  # an empty file cannot be mapped
            return np.empty(0, dtype=dtype)
        return np.frombuffer(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ), dtype=dtype)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
