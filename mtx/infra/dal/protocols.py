"""The protocols of storage layers, the rules for names, and the functions for locks and atomic writes.

An `ObjectLayer` stores manifests, which are small JSON values. A `FileLayer` stores payload, which is the rows of
datasets. A write stores the payload first and the manifest last. A dataset counts as stored once its manifest exists;
no reader uses a payload without a manifest.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from filelock import FileLock, Timeout

from mtx.components.identity import JSON
from mtx.errors import InUseError, StoreError

if TYPE_CHECKING:  # tasks that read only manifests do not need to import pyarrow
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,150}")

Payload: TypeAlias = "Rows | pa.Table | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]"


@dataclass(frozen=True)
class PayloadInfo:
    """The number of rows of a written payload, its size on disk in bytes, and the SHA-256 of these bytes in hex."""

    num_rows: int
    num_bytes: int
    sha256: str


@runtime_checkable
class ObjectLayer(Protocol):
    """Key-value store of JSON values. Several processes can use it; each call is atomic and durable."""

    def create(self, name: str, value: JSON) -> None:
        """Store `value` under `name`. Raises AlreadyStoredError, and keeps the stored value, if `name` is stored."""

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError if `name` is not stored."""

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored."""

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`."""

    def get_all_names(self) -> list[str]:
        """Return all stored names, sorted."""


@runtime_checkable
class Connectable(Protocol):
    """An object layer that can keep one connection open for several calls."""

    def connection(self) -> AbstractContextManager[None]:
        """Return a context manager. Inside the context, all calls use one connection."""


@runtime_checkable
class FileLayer(Protocol):
    """Stores payload (rows) by name. Readers never see an incomplete payload.

    Implementations are picklable, and safe to use from several threads and processes.
    """

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write the rows `data` under `name`.

        Raises AlreadyStoredError, and keeps the stored payload, if `name` is stored.
        """

    def read(self, name: str) -> "Rows":
        """Return the rows of the payload `name`. Raises NotStoredError, or DamagedError if the file cannot be read."""

    def delete(self, name: str) -> None:
        """Delete the payload `name`. Processes that have the payload open can continue to read the rows.

        Raises NotStoredError if `name` is not stored.
        """

    def exists(self, name: str) -> bool:
        """Return whether a payload is stored under `name`."""

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload in hex, computed from all bytes on disk. Raises NotStoredError."""

    def num_bytes(self, name: str) -> int:
        """Return the size of the payload on disk in bytes, without reading the payload. Raises NotStoredError."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building the payload `name`. One thread of one process holds the lock at a time.

        `create` and `delete` acquire the lock themselves. A thread that holds the lock can acquire the lock again.
        Entering the context raises InUseError if `wait` is False and another thread or process holds the lock.
        """


def is_name(name: object) -> bool:
    """Return whether `name` is a valid name in a store, which is also safe as a file name."""
    return isinstance(name, str) and NAME_PATTERN.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return `name` if it is a valid name in a store. Raises StoreError otherwise."""
    if not is_name(name):
        raise StoreError(
            f"{name!r} is not a valid name in a store. A name has 1 to 151 of the characters A-Z a-z 0-9 . _ = - "
            "and starts with a letter or a digit. Choose another name"
        )
    return name


def make_folder(location: str | os.PathLike[str]) -> Path:
    """Create the folder `location` and its parent folders if they are missing, and return the absolute path.

    New folders are synced to disk, so that they survive a power failure like the files in them. Raises StoreError if
    the folder cannot be created.
    """
    path = Path(location).expanduser().absolute()
    try:
        made = [step for step in (path, *path.parents) if not step.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for step in made:
            sync_folder(step.parent)
    except OSError as error:
        raise StoreError(
            f"the store's folder {path} cannot be created: {error_reason(error)}. "
            "Choose a folder that you can write to, with storage.root=FOLDER"
        ) from error
    return path


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
            f"the lock {path} cannot be acquired: {error_reason(error)}. Nothing stored has changed. "
            "Get write permission for its folder, or choose another folder with storage.root=FOLDER"
        ) from error
    try:
        yield
    finally:
        lock.release()


def file_lock(location: Path, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
    """Return the lock of `name` for all users of the folder `location`. The rules are those of `path_lock`."""
    return path_lock(location / "locks" / f"{checked_name(name)}.lock", wait=wait)


class AtomicFile:
    """A binary file for sequential writing that counts the bytes and computes their SHA-256.

    `write` raises StoreError if the disk refuses the write. A disk error therefore differs in type from an OSError of
    the source that the caller reads at the same time.

    Args:
        file: the open temporary file.
        path: the final path, for error messages.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes, or any object with the buffer protocol, and return the number of bytes written."""
        size = memoryview(data).nbytes
        with convert_disk_errors(self._path):
            self._file.write(data)
        self._sha256.update(data)
        self.num_bytes += size
        return size

    def flush(self) -> None:
        """Do nothing, because `atomic_file` flushes the file once, after the last write."""

    def hexdigest(self) -> str:
        """Return the SHA-256 of all bytes written so far, in hex."""
        return self._sha256.hexdigest()

    def readable(self) -> bool:
        """Return False, because the file is write-only."""
        return False

    def writable(self) -> bool:
        """Return True, because the file is open for writing."""
        return True

    def seekable(self) -> bool:
        """Return False, because all writes are sequential."""
        return False


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[AtomicFile]:
    """Yield a file to write to, which becomes the complete file `path` at the end, even after a power failure.

    The data go to a temporary file in the same folder. Then the file is synced with fsync and renamed to `path`, and
    the folder is synced. If the caller raises an exception, the temporary file is deleted and the exception propagates.

    Args:
        path: final path of the file.
        replace: False: raise FileExistsError if `path` exists.

    Raises StoreError if the disk refuses a write.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with convert_disk_errors(path):
            file = temporary.open("xb")
        try:
            yield AtomicFile(file, path)
            with convert_disk_errors(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # on a full disk `close` fails again; the first error has the reason
                file.close()
        if replace or not _link(temporary, path):
            with convert_disk_errors(path):
                temporary.replace(path)
        with convert_disk_errors(path):
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _link(temporary: Path, path: Path) -> bool:
    """Create the hard link `path` to the file `temporary`; return False if the file system has no hard links.

    The operating system lets only one process create the link. Raises FileExistsError if `path` exists.
    """
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """Delete temporary files of `path` that killed processes left. The caller must hold the lock of `path`."""
    with convert_disk_errors(path):
        for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def convert_disk_errors(path: Path) -> Iterator[None]:
    """Return a context manager that turns each OSError into a StoreError that names `path`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error_reason(error)}. Nothing stored before has changed. "
            "Free disk space, get write permission, or choose another folder with storage.root=FOLDER"
        ) from error


def error_reason(error: BaseException) -> str:
    """Return the reason of an error as text, without the errno and the path that Python adds to an OSError."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def sync_folder(path: Path) -> None:
    """Sync the folder `path` with fsync, so that a rename in the folder survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of the file `path` in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
