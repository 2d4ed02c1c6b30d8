"""What layers that keep one file a payload share: names, locks, and that a file appears whole or not at all."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ClassVar

import pyarrow as pa

from mtx.errors import AlreadyStoredError, NotStoredError
from mtx.infra.dal.aside import set_aside
from mtx.infra.dal.base import (
    Payload,
    PayloadInfo,
    checked_name,
    file_lock,
    folder,
    is_name,
    remove_leftovers,
    sha256_of,
    writing,
)
from mtx.infra.dal.oal import absent, already
from mtx.infra.dal.rows import Rows, batches_of
from mtx.infra.dal.upkeep import Leftover, num_bytes_of


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
            for part in self._parts(path):
                part.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return self._path(name).exists()

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the bytes on disk, in hex, by reading them all. Raises NotStoredError."""
        return sha256_of(self._stored(name))

    def num_bytes(self, name: str) -> int:
        """Return the bytes on disk, without reading them. Raises NotStoredError."""
        return self._stored(name).stat().st_size

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building `name`; a thread that has it may take it again. See `FileLayer.lock`."""
        return file_lock(self.location, name, wait=wait)

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a payload into the folder `to`, and say where it is now. See `FileUpkeep`."""
        with self.lock(name):
            places = [set_aside(path, to) for path in self._parts(self._stored(name)) if path.exists()]
        return str(places[0])

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Find what killed writers left, and payload without a manifest. See `FileUpkeep`."""
        for path in sorted(self.location.glob("*")):
            temporary = path.name.startswith(".") and path.name.endswith(".tmp")
            stem = path.name[1:].rsplit(".", 2)[0] if temporary else path.name  # .NAME.SUFFIX.RANDOM.tmp
            name = self._name_of(stem)
            if name is None or (not temporary and has_manifest(name)):
                continue
            reason = "a write that was stopped" if temporary else "rows without a manifest"
            yield Leftover(path, reason, num_bytes_of(path), self._remover(path, name, has_manifest, temporary))

    def _remover(
        self, path: Path, name: str, has_manifest: Callable[[str], bool], temporary: bool
    ) -> Callable[[], bool]:
        def remove() -> bool:
            with self.lock(name, wait=False), writing(path):
                if not temporary and has_manifest(name):  # built meanwhile
                    return False
                path.unlink(missing_ok=True)
            return True

        return remove

    @abstractmethod
    def _write(self, path: Path, schema: pa.Schema, batches: Iterator[pa.RecordBatch]) -> PayloadInfo:
        """Write `path` by `atomic_file`. The lock is held."""

    @abstractmethod
    def _open(self, path: Path) -> Rows:
        """Open `path`. Raises DamagedError."""

    def _parts(self, path: Path) -> list[Path]:
        """Return the files that `_write` made for `path`: itself, and those beside it."""
        return [path]

    def _name_of(self, file_name: str) -> str | None:
        """Return the name of the payload that a file of `_parts` belongs to; None where it is no such file."""
        name = file_name.removesuffix(self.SUFFIX)
        return name if name != file_name and is_name(name) else None

    def _path(self, name: str) -> Path:
        return self.location / f"{checked_name(name)}{self.SUFFIX}"

    def _stored(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            stored = [other.name.removesuffix(self.SUFFIX) for other in self.location.glob(f"[!.]*{self.SUFFIX}")]
            raise NotStoredError(absent(name, self.location, stored))
        return path
