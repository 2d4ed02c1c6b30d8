"""Subword sampling: another segmentation of the training texts in each epoch, which makes a model sturdier.

`dropout.py` does it for merges (BPE-dropout, Provilkov et al. 2020), `lattice.py` for a unigram language model (subword
regularisation, Kudo 2018). The `tokenizers` library has both, but draws from a generator that takes no seed. Here ids
are a function of (texts, tokenizer, seed, epoch, row), whoever computes them.
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

log = logging.getLogger(__name__)

Ids = NDArray[Any]
Int = NDArray[np.int64]

SLOWLY = "subwords are sampled by numpy and Python, at a tenth of the rate or less"
COMPILE_TIMEOUT_S = 120  # a compilation takes seconds; whoever has waited this long compiles by itself


class SubwordSampler(Protocol):
    """Encodes rows of words with a segmentation drawn anew. Thread-safe. Picklable: made anew on the other side."""

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode rows `first` (from 0) to `end` (exclusive).

        Args:
            first: the first row.
            end: the row behind the last.
            key: of all draws, as `draws.key_of` makes it. The ids of a row depend on it and the row alone.

        Returns:
            The ids of all rows one after the other, uint16 or uint32, and the number of each row's, int64 [rows].
        """


def id_type(size: int) -> Any:
    """Return the type for ids below `size`."""
    return np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32


def offsets_of(lengths: Any) -> Int:
    """Return where parts of these lengths begin and end in one flat array, int64 [n + 1]; read-only."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return fixed(offsets)


def fixed(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only view: kernels are compiled for read-only arrays, as memory-mapped ones are."""
    view = np.ascontiguousarray(array).view(np.ndarray)
    view.flags.writeable = False
    return view


@cache
def load() -> ModuleType | None:
    """Return `kernels.py`, or None where numba is missing or cannot keep what it compiles; the log says why.

    The first call in a process imports numba, which takes some 0.3 s and 100 MB.
    """
    try:
        import numba
    except ModuleNotFoundError:
        return None
    except ImportError as error:  # as with a numpy that is newer than this numba
        log.warning("%s, since numba cannot be imported: %s", SLOWLY, error)
        return None
    if getattr(numba.config, "DISABLE_JIT", False):  # kernels would run as Python
        return None
    try:
        from mtx.data.tokenize import kernels
    except RuntimeError as error:  # without a cache, each process would compile anew
        log.warning(
            "%s, since numba cannot keep what it compiles: %s. Set the environment variable NUMBA_CACHE_DIR to a "
            "folder that can be written",
            SLOWLY,
            error,
        )
        return None
    return kernels


@contextmanager
def compiling(kernels: ModuleType) -> Iterator[None]:
    """Call kernels for the first time inside: of processes that start together, one compiles, and the others wait."""
    lock = FileLock(Path(kernels.keyed.stats.cache_path) / "sampling.lock", timeout=COMPILE_TIMEOUT_S)
    try:
        lock.acquire()
    except OSError as error:  # a timeout is one too; the lock saves time, the kernels are needed
        log.warning("compiling subword sampling without waiting for other processes: %s", error)
    try:
        yield
    finally:
        lock.release()
