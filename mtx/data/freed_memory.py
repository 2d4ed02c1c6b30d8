"""`return_freed_memory`: gives memory that this process has freed back to the operating system."""

import ctypes
import sys

import pyarrow as pa

LARGE_ROWS = 100_000  # rows of a stage, or distinct words, from which on their memory matters


def make_room_for(num_rows: int) -> None:
    """Return memory that earlier steps have freed, before a stage of many rows or the training on many words."""
    if num_rows >= LARGE_ROWS:
        return_freed_memory()


def return_freed_memory() -> None:
    """Return freed memory of Arrow and of the C library, as far as these can; with musl or on macOS, only Arrow's.

    The C library of Linux otherwise keeps hundreds of megabytes of a stage that has ended, beside those of the
    processes of the next one.
    """
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)
