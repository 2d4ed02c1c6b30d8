"""What a storage backend promises: two protocols, and the names it accepts.

`ObjectLayer` keeps small JSON values (manifests), `FileLayer` keeps payload (rows). A dataset is stored once its
manifest is: payload is written first, so a payload without a manifest is a leftover that nobody reads.
"""

import hashlib
import os
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, TypeAlias, runtime_checkable

import pyarrow as pa
from filelock import FileLock, Timeout

from mtx.errors import InUseError, StoreError
from mtx.identity import JSON
from mtx.infra.dal.rows import Rows

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,150}")

Payload: TypeAlias = Rows | pa.Table | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]


@dataclass(frozen=True)
class PayloadInfo:
    """What was written: number of rows, bytes on disk, and the SHA-256 of those bytes in hex."""

    num_rows: int
    num_bytes: int
    sha256: str


@runtime_checkable
class ObjectLayer(Protocol):
    """Key-value store of JSON values. Safe with several processes; each call is atomic and durable."""

    def create(self, name: str, value: JSON) -> None:
        """Store `value`. Raises AlreadyStoredError where `name` exists; what is there is kept."""

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError."""

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError."""

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""

    def get_all_names(self) -> list[str]:
        """Return all names, sorted."""


@runtime_checkable
class FileLayer(Protocol):
    """Bulk payload by name. A payload appears whole or not at all. Picklable; safe with threads and processes."""

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data`. Raises AlreadyStoredError where `name` exists; what is there is kept."""

    def read(self, name: str) -> Rows:
        """Return the rows. Raises NotStoredError, or DamagedError where the file cannot be read."""

    def delete(self, name: str) -> None:
        """Remove the payload. Raises NotStoredError. Readers that have it open keep what they have."""

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the bytes on disk, in hex, by reading them all. Raises NotStoredError."""

    def num_bytes(self, name: str) -> int:
        """Return the bytes on disk, without reading them. Raises NotStoredError."""

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return a lock, held by one thread of one process at a time, for building what `name` stands for.

        `create` and `delete` take it themselves; a thread that has it may take it again. Entering it raises
        InUseError where another has it and `wait` is False.
        """


def is_name(name: object) -> bool:
    """Tell whether `name` is safe as a file name."""
    return isinstance(name, str) and NAME.fullmatch(name) is not None


def checked_name(name: str) -> str:
    """Return `name` where it is safe as a file name. Raises StoreError."""
    if not is_name(name):
        raise StoreError(
            f"{name!r} is no name for something stored: it needs 1 to 151 of the characters A-Z a-z 0-9 . _ = - "
            "and starts with a letter or a digit"
        )
    return name


def folder(location: str | os.PathLike[str]) -> Path:
    """Create the folder `location` if need be and return it, absolute.

    Folders that are made survive a power failure, as what is stored in them does. Raises StoreError.
    """
    path = Path(location).expanduser().absolute()
    try:
        made = [step for step in (path, *path.parents) if not step.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for step in made:
            sync_folder(step.parent)
    except OSError as error:
        raise StoreError(
            f"the store's folder {path} cannot be made: {reason(error)}. "
            "Choose a folder you can write to, with storage.root=FOLDER"
        ) from error
    return path


@contextmanager
def path_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock file `path`, in a folder made if need be, among all threads and processes that ask for it.

    A thread that has it may take it again. The system frees it when a process dies. Raises StoreError, and
    InUseError where another has it and `wait` is False.
    """
    folder(path.parent)
    lock = FileLock(path, is_singleton=True)  # one object a path, so that taking it twice counts instead of waiting
    try:
        lock.acquire(blocking=wait)
    except Timeout as error:
        raise InUseError(
            f"{path.stem} is in use by another process, which holds the lock {path}. Try again when it is done"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"the lock {path} cannot be taken: {reason(error)}. Nothing stored has changed. "
            "Get permission to write there, or choose another folder with storage.root=FOLDER"
        ) from error
    try:
        yield
    finally:
        lock.release()


def file_lock(location: Path, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
    """Return the lock of `name` among all that use the folder `location`; see `path_lock`."""
    return path_lock(location / "locks" / f"{checked_name(name)}.lock", wait=wait)


class AtomicFile:
    """A binary file that counts and hashes what is written, for writers that never seek.

    `write` raises StoreError where the disk refuses, so that it is never taken for an error of a source that is
    read meanwhile.
    """

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self._path = path
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Write bytes, or anything with the buffer protocol, and return their number."""
        size = memoryview(data).nbytes
        with writing(self._path):
            self._file.write(data)
        self._sha256.update(data)
        self.num_bytes += size
        return size

    def flush(self) -> None:
        """Do nothing: the file is flushed once, at its end."""

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was written so far, in hex."""
        return self._sha256.hexdigest()

    def readable(self) -> bool:
        """Return False."""
        return False

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return False."""
        return False


@contextmanager
def atomic_file(path: Path, *, replace: bool = True) -> Iterator[AtomicFile]:
    """Write `path` so that it appears whole or not at all, also when power fails.

    Yields a file to write to. Temporary name in the same folder, fsync, rename, fsync of the folder. Raises
    StoreError where the disk refuses, and FileExistsError where `path` is there and `replace` is False; other errors
    raised inside pass through, and leave nothing behind.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        with writing(path):
            file = temporary.open("xb")
        try:
            yield AtomicFile(file, path)
            with writing(path):
                file.flush()
                os.fsync(file.fileno())
        finally:
            with suppress(OSError):  # a full disk refuses the buffer's rest once more; the first error tells why
                file.close()
        if replace or not _linked(temporary, path):
            with writing(path):
                temporary.replace(path)
        with writing(path):
            sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _linked(temporary: Path, path: Path) -> bool:
    """Give a file its name, which the system does for one process only; False where it knows no links."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise
    except OSError:
        return False
    return True


def remove_leftovers(path: Path) -> None:
    """Remove what killed writers of `path` left behind. For holders of its lock only."""
    with writing(path):
        for leftover in path.parent.glob(f".{path.name}.*.tmp*"):
            leftover.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into StoreError about `path`."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {reason(error)}. Nothing stored before has changed. "
            "Make room or get permission, or choose another folder with storage.root=FOLDER"
        ) from error


def reason(error: BaseException) -> str:
    """Say what went wrong, without the errno and the path that Python puts around it."""
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def sync_folder(path: Path) -> None:
    """Make a rename in the folder `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
