"""Functions that numba compiles, an optional dependency: how to mark them, and how to load a module of them.

A module of kernels imports numba, so `numba_kernels` alone imports it.
"""

import importlib
import logging
from collections.abc import Callable
from importlib.metadata import version
from types import ModuleType
from typing import Any, Literal, TypeVar, cast

from mtx.library_errors import library_reason

log = logging.getLogger(__name__)

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function, *, error_model: Literal["python", "numpy"] = "python") -> Function:
    """Return a function that numba compiles at its first call, stores for other processes, and runs without the GIL.

    Args:
        function: takes and returns arrays and numbers.
        error_model: `numpy`: a division by 0 gives infinity or NaN. `python`: it raises ZeroDivisionError.
    """
    import numba

    return cast(Function, numba.njit(cache=True, nogil=True, error_model=error_model)(function))


def numba_kernels(module: str, slow_path_note: str, *, tell_missing: bool = False) -> ModuleType | None:
    """Return a module of functions that numba compiles, or None if numba is not installed or not usable.

    Args:
        module: name of the module, which imports numba.
        slow_path_note: what happens without numba; the start of a warning if numba is installed but not usable.
        tell_missing: warn also if numba is not installed.
    """
    try:
        import numba
    except ModuleNotFoundError:
        if tell_missing:
            log.warning("%s, because numba is not installed. Install it: pip install 'mtx[fast]'", slow_path_note)
        return None
    except ImportError as error:  # for example, numpy is newer than numba supports
        why = f"{library_reason(error)}, beside numpy {version('numpy')}"
        log.warning("%s, because numba cannot be imported: %s", slow_path_note, why)
        return None
    if getattr(numba.config, "DISABLE_JIT", False):  # the kernels would run as slow Python
        return None
    try:
        return importlib.import_module(module)
    except RuntimeError as error:  # numba has no cache folder, so that each process would compile again
        log.warning(
            "%s, because numba cannot store compiled code: %s. Set the environment variable NUMBA_CACHE_DIR to a "
            "writable folder",
            slow_path_note,
            library_reason(error),
        )
        return None
