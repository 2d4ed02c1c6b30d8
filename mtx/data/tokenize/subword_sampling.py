"""Subword sampling: encodes the training texts with another segmentation in each epoch, as regularisation.

`bpe_dropout.py` implements BPE-dropout (Provilkov et al. 2020), and `unigram_sampling.py` subword regularisation (Kudo
2018). The `tokenizers` library has both, but its random generator takes no seed. Here, the token ids depend only on
texts, tokenizer, seed, epoch and row.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from mtx.data.compiled_kernels import numba_kernels
from mtx.library_errors import library_reason

log = logging.getLogger(__name__)

Ids = NDArray[Any]
Int = NDArray[np.int64]

SLOW_PATH_NOTE = "numpy and Python sample the subwords, at a tenth of the speed of numba or less"
COMPILE_TIMEOUT_S = 120  # seconds to wait for the compilation in another process, before compiling without the lock


class SubwordSampler(Protocol):
    """Protocol: encodes rows of words with randomly drawn segmentations. Thread-safe; unpickling builds it again."""

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode the rows from `first` (0-based) to `end` (exclusive).

        Args:
            first: number of the first row.
            end: number of the last row + 1.
            key: key of all draws, from `counter_rng.rng_key`. The ids of a row depend only on the key and the row.

        Returns:
            The concatenated token ids of the rows, uint16 or uint32, and the number of ids of each row, int64 [rows].
        """


def id_type(size: int) -> Any:
    """Return the dtype for token ids below `size`: uint16 if they fit, else uint32."""
    return np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32


def offsets_of(lengths: Any) -> Int:
    """Return the offsets of parts of the given lengths in one flat array, int64 [n + 1]; read-only."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return read_only_view(offsets)


def read_only_view(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view, because kernels are compiled for read-only arrays, such as memory-mapped ones."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


@cache
def compiled_sampling_kernels() -> ModuleType | None:
    """Return the module `sampling_kernels`, or None if numba is not installed or not usable; the log gives the reason.

    The first call in a process imports numba, which takes about 0.3 s and 100 MB.
    """
    return numba_kernels("mtx.data.tokenize.sampling_kernels", SLOW_PATH_NOTE)


@contextmanager
def compile_lock(kernels: ModuleType) -> Iterator[None]:
    """Return a context for the first call of kernels: one process compiles, and processes that start with it wait."""
    lock = FileLock(Path(kernels.derived_key.stats.cache_path) / "sampling.lock", timeout=COMPILE_TIMEOUT_S)
    try:
        lock.acquire()
    except OSError as error:  # includes a timeout; continue without the lock, which only saves time
        log.warning("compiling subword sampling without waiting for other processes: %s", library_reason(error))
    try:
        yield
    finally:
        lock.release()
