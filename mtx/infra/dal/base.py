"""What a storage backend promises: two protocols, and the names it accepts.

`ObjectLayer` keeps small JSON values (manifests), `FileLayer` keeps payload (rows). A dataset is stored once its
manifest is: payload is written first, so a payload without a manifest is a leftover that nobody reads.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol, cast, runtime_checkable

import pyarrow as pa
from filelock import FileLock

from mtx.errors import StoreError
from mtx.identity import JSON
from mtx.infra.dal.rows import Rows

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,150}")

Payload = Rows | pa.Table | Iterable[pa.RecordBatch] | Iterable[Mapping[str, Any]]


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
    """Bulk payload by name. A payload appears whole or not at all; writers of one name hold its lock."""

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data`. Raises AlreadyStoredError where `name` exists; what is there is kept."""

    def read(self, name: str) -> Rows:
        """Return the rows. Raises NotStoredError, or DamagedError where the file cannot be read."""

    def delete(self, name: str) -> None:
        """Remove the payload. Raises NotStoredError. Readers that have it open keep what they have."""

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""

    def lock(self, name: str) -> AbstractContextManager[Any]:
        """Return a lock, held by one process at a time, for building what `name` stands for."""


def checked_name(name: str) -> str:
    """Return `name` where it is safe as a file name. Raises StoreError."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise StoreError(
            f"{name!r} is no name for something stored: it needs 1 to 151 of the characters A-Z a-z 0-9 . _ = - "
            "and starts with a letter or a digit"
        )
    return name


def folder(location: str | os.PathLike[str]) -> Path:
    """Create the folder `location` if need be and return it, absolute. Raises StoreError."""
    path = Path(location).expanduser().absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"the store's folder {path} cannot be made: {error.strerror}. "
            "Choose a folder you can write to, with storage.root=FOLDER"
        ) from error
    return path


def file_lock(location: Path, name: str) -> FileLock:
    """Return the lock of `name` among processes that share the folder `location`."""
    return FileLock(folder(location / "locks") / f"{checked_name(name)}.lock")


class _Digest:
    """A binary file that hashes what passes through, for writers that never seek."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self.num_bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        self._sha256.update(data)
        size = memoryview(data).nbytes
        self.num_bytes += size
        self._file.write(data)
        return size

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


@contextmanager
def atomic_file(path: Path) -> Iterator[_Digest]:
    """Write `path` so that it appears whole or not at all, also when power fails.

    Yields a file to write to. Temporary name in the same folder, fsync, rename, fsync of the folder. Raises
    StoreError where the disk refuses.
    """
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp", delete=False) as file:
            temporary = file.name
            sink = _Digest(cast(IO[bytes], file))
            yield sink
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. Nothing stored before has changed. "
            "Make room or get permission, or choose another folder with storage.root=FOLDER"
        ) from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def sync_folder(path: Path) -> None:
    """Make a rename in the folder `path` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
