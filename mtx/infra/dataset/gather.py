"""The compiled way from rows of ids to padded arrays: one pass over the ids of a batch.

`load` compiles the functions below with numba, an optional dependency, or reads them from numba's cache on disk.
Where it returns None, `collate.py` does the same by numpy's index arithmetic, at about half the rate.
B pairs, S source and T target positions.
"""

import logging
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

log = logging.getLogger(__name__)

Ids = NDArray[Any]
Int = NDArray[np.int64]
Mask = NDArray[np.bool_]

COMPILE_TIMEOUT_S = 120  # a compilation takes seconds; whoever has waited this long compiles by itself
ROW_OUT_OF_RANGE = -1
OFFSETS_OUT_OF_RANGE = -2


class Kernels:
    """The functions of this module, compiled. They release the interpreter's lock, so threads run side by side.

    Args:
        compiler: `numba.njit` with its options.
    """

    def __init__(self, compiler: Callable[[Callable[..., Any]], Any]) -> None:
        self.longest = compiler(longest)
        self.fill_source = compiler(fill_source)
        self.fill_target = compiler(fill_target)
        self._ready: set[np.dtype[Any]] = set()
        self._lock = threading.Lock()

    def prepare(self, dtype: np.dtype[Any]) -> None:
        """Compile for ids of this type, or read what another process has compiled; the second time, do nothing.

        Of processes that start together, one compiles and the others wait for it. numba takes no lock: all would
        compile, and two that do so for different types may take each other's files.
        """
        if dtype in self._ready:
            return
        with self._lock:
            try:
                with FileLock(Path(self.longest.stats.cache_path) / "gather.lock", timeout=COMPILE_TIMEOUT_S):
                    self._compile(dtype)
            except OSError as error:  # a timeout is one too; the lock saves time, the kernels are needed
                log.warning("compiling the row copy without waiting for other processes: %s", error)
                self._compile(dtype)
            self._ready.add(dtype)

    def _compile(self, dtype: np.dtype[Any]) -> None:
        from numba import boolean, from_dtype, int64, types

        # Read-only, as memory-mapped arrays are: numba compiles anew for writable ones. `TokenRows` sees to it.
        ids = types.Array(from_dtype(dtype), 1, "C", readonly=True)
        offsets = types.Array(int64, 1, "C", readonly=True)
        rows, table, mask = int64[::1], int64[:, ::1], boolean[:, ::1]
        self.longest.compile((offsets, int64, rows))
        self.fill_source.compile((ids, offsets, rows, *[int64] * 4, table, mask))
        self.fill_target.compile((ids, offsets, rows, *[int64] * 5, table, table, mask))


@cache
def load() -> Kernels | None:
    """Return the kernels, prepared for no type yet, or None where they cannot be had; the log says why.

    The first call in a process imports numba.
    """
    try:
        import numba
    except ModuleNotFoundError:
        return None
    except ImportError as error:  # as with a numpy that is newer than this numba
        log.warning("batches are made by numpy, at about half the rate, since numba cannot be imported: %s", error)
        return None
    if getattr(numba.config, "DISABLE_JIT", False):  # kernels would run as Python
        return None
    try:
        return Kernels(numba.njit(cache=True, nogil=True))
    except RuntimeError as error:  # without a cache, each process would compile anew
        log.warning(
            "batches are made by numpy, at about half the rate, since numba cannot keep what it compiles: %s. "
            "Set the environment variable NUMBA_CACHE_DIR to a folder that can be written",
            error,
        )
        return None


def longest(offsets: Int, num_ids: int, rows: Int) -> int:
    """Return the ids of the longest of `rows`, or one of the negative values above: the rows are then not read."""
    most = 0
    for i in range(rows.size):
        row = rows[i]
        if row < 0 or row >= offsets.size - 1:
            return ROW_OUT_OF_RANGE
        start, end = offsets[row], offsets[row + 1]
        if start < 0 or end < start or end > num_ids:
            return OFFSETS_OUT_OF_RANGE
        most = max(most, end - start)
    return most


def fill_source(
    ids: Ids, offsets: Int, rows: Int, most: int, pad: int, eos: int, extra: int, table: Int, mask: Mask
) -> None:
    """Fill `table` and `mask` [B, S] with up to `most` ids of each row, closed by `extra` (0 or 1) EOS."""
    for i in range(rows.size):
        start = offsets[rows[i]]
        length = min(offsets[rows[i] + 1] - start, most)
        for j in range(length):
            table[i, j] = ids[start + j]
        if extra:
            table[i, length] = eos
        length += extra
        for j in range(length):
            mask[i, j] = True
        for j in range(length, table.shape[1]):
            table[i, j] = pad
            mask[i, j] = False


def fill_target(
    ids: Ids,
    offsets: Int,
    rows: Int,
    most: int,
    pad: int,
    bos: int,
    eos: int,
    label_pad: int,
    inputs: Int,
    labels: Int,
    mask: Mask,
) -> None:
    """Fill decoder `inputs`, `labels` and `mask` [B, T] with up to `most` ids of each row, behind BOS, before EOS."""
    for i in range(rows.size):
        start = offsets[rows[i]]
        length = min(offsets[rows[i] + 1] - start, most)
        inputs[i, 0] = bos
        for j in range(length):
            labels[i, j] = ids[start + j]
            inputs[i, j + 1] = ids[start + j]
        labels[i, length] = eos
        for j in range(length + 1):
            mask[i, j] = True
        for j in range(length + 1, labels.shape[1]):
            inputs[i, j] = pad
            labels[i, j] = label_pad
            mask[i, j] = False
