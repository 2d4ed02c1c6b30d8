"""What layers that keep one file a payload share: names, locks, and that a file appears whole or not at all."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mtx.errors import AlreadyStoredError, NotStoredError
from mtx.infra.dal.base import (
    Payload,
    PayloadInfo,
    checked_name,
    file_lock,
    folder,
    remove_leftovers,
    sha256_of,
    writing,
)
from mtx.infra.dal.oal import absent, already
from mtx.infra.dal.rows import Rows, batches_of


class FolderFileLayer(ABC):
    """Payload by name (`FileLayer`) in `location/NAME` and a suffix.

    Subclasses say how a file is written and opened. Picklable; safe with threads and processes, which take turns
    by lock files in `location/locks`. Reading needs no permission to write.

    Args:
        location: the folder; made when something is first written.
    """

    SUFFIX: ClassVar[str]

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write `data` as it comes. Raises AlreadyStoredError, or StoreError where the disk refuses."""
        path = self._path(name)
        with self.lock(name):
            if path.exists():
                raise AlreadyStoredError(already(name, self.location))
            folder(self.location)
            remove_leftovers(path)
            schema, batches = batches_of(data)
            return self._write(path, schema, batches)

    def read(self, name: str) -> Rows:
        """Return the rows. Raises NotStoredError, or DamagedError where the file cannot be read."""
        return self._open(self._stored(name))

    def delete(self, name: str) -> None:
        """Remove the payload; readers that have it open keep what they have. Raises NotStoredError, or StoreError."""
        path = self._stored(name)
        with self.lock(name), writing(path):
            self._remove(path)

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return self._path(name).exists()

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the bytes on disk, in hex, by reading them all. Raises NotStoredError."""
        return sha256_of(self._stored(name))

    def num_bytes(self, name: str) -> int:
        """Return the bytes on disk, without reading them. Raises NotStoredError."""
        return self._stored(name).stat().st_size

    def lock(self, name: str) -> AbstractContextManager[None]:
        """Return the lock for building `name`; a thread that has it may take it again."""
        return file_lock(self.location, name)

    @abstractmethod
    def _write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> PayloadInfo:
        """Write `path` by `atomic_file`. The lock is held."""

    @abstractmethod
    def _open(self, path: Path) -> Rows:
        """Open `path`. Raises DamagedError."""

    def _remove(self, path: Path) -> None:
        """Remove what `_write` made. The lock is held."""
        path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.location / f"{checked_name(name)}{self.SUFFIX}"

    def _stored(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            stored = [other.name.removesuffix(self.SUFFIX) for other in self.location.glob(f"[!.]*{self.SUFFIX}")]
            raise NotStoredError(absent(name, self.location, stored))
        return path
