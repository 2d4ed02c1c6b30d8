"""Locks between processes and threads, each a lock file in the store."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mtx.errors import InUseError, StoreError
from mtx.infra.dal.atomic_file import make_folder
from mtx.infra.dal.protocols import checked_name
from mtx.library_errors import library_reason


@contextmanager
def path_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Return a context manager that holds the lock file `path`, and creates the file's folder if missing.

    One thread of one process holds the lock at a time. A thread that holds the lock can acquire the lock again. The
    operating system releases the lock when the process dies. Raises StoreError if the lock file cannot be used, and
    InUseError if `wait` is False and another thread or process holds the lock.
    """
    make_folder(path.parent)
    lock = FileLock(path, is_singleton=True)  # one object per path: a second acquire in the same thread does not wait
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise InUseError(
            f"{path.stem} is in use by another process, which holds the lock {path}. Try again when it is done"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"the lock {path} cannot be acquired: {library_reason(error)}. Nothing stored has changed. "
            "Get write permission for its folder, or choose another folder with storage.root=FOLDER"
        ) from error
    try:
        yield
    finally:
        lock.release()


def file_lock(location: Path, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
    """Return the lock of `name` for all users of the folder `location`. The rules are those of `path_lock`."""
    return path_lock(location / "locks" / f"{checked_name(name)}.lock", wait=wait)
