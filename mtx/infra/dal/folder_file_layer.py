"""The base class of file layers that store each payload in one file of a folder.

The base class provides the checks of names, the locks, and writes after which a file is either complete or absent.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.atomic_file import convert_disk_errors, make_folder, remove_leftovers, sha256_of
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Leftover, num_bytes_of
from mtx.infra.dal.oal import already_stored_message, not_stored_message
from mtx.infra.dal.protocols import Payload, PayloadInfo, checked_name, is_name
from mtx.infra.dal.quarantine import quarantine
from mtx.infra.dal.tilde_expansion import expanded_path

if TYPE_CHECKING:
    import pyarrow as pa

    from mtx.infra.dal.arrow_rows import Rows


class FolderFileLayer(ABC):
    """Base class of file layers (`FileLayer`) that store a payload in the file `location/NAME` plus a suffix.

    Subclasses define how a file is written and opened. Instances are picklable, and safe to use from several threads
    and processes. Processes exclude one another by lock files in `location/locks`. Reading works without write
    permission.

    Args:
        location: the folder that contains all payloads; the first write creates the folder.
    """

    SUFFIX: ClassVar[str]

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = expanded_path(location).absolute()

    def create(self, name: str, data: Payload) -> PayloadInfo:
        """Write the payload `data` to a new file, batch by batch.

        Raises AlreadyStoredError if `name` is stored, and StoreError if the disk refuses the write.
        """
        from mtx.infra.dal.arrow_rows import batches_of

        path = self._path(name)
        with self.lock(name):
            if path.exists():
                raise AlreadyStoredError(already_stored_message(name, self.location))
            make_folder(self.location)
            remove_leftovers(path)
            schema, batches = batches_of(data)
            return self._write(path, schema, batches)

    def read(self, name: str) -> "Rows":
        """Return the rows of the payload `name`. Raises NotStoredError, or DamagedError if the file cannot be read."""
        path = self._stored_path(name)
        try:
            return self._open(path)
        except DamagedError:
            self._stored_path(name)  # raises NotStoredError if another process has removed the file meanwhile
            raise

    def delete(self, name: str) -> None:
        """Delete the payload `name`. Processes that have the file open can continue to read the rows.

        Raises NotStoredError if `name` is not stored, and StoreError if the disk refuses the deletion.
        """
        path = self._stored_path(name)
        with self.lock(name), convert_disk_errors(path):
            for part in self._parts(path):
                part.unlink(missing_ok=True)

    def exists(self, name: str) -> bool:
        """Return whether the payload `name` is stored."""
        return self._path(name).exists()

    def sha256(self, name: str) -> str:
        """Return the SHA-256 of the payload's file in hex, computed from all bytes on disk. Raises NotStoredError."""
        with self._stored_file(name) as path:
            return sha256_of(path)

    def num_bytes(self, name: str) -> int:
        """Return the size of the payload's file in bytes, without reading the file. Raises NotStoredError."""
        with self._stored_file(name) as path:
            return path.stat().st_size

    def written(self, name: str) -> float:
        """Return the time at which the payload's file was written, in seconds since 1970. Raises NotStoredError."""
        with self._stored_file(name) as path:
            return path.stat().st_mtime

    def lock(self, name: str, *, wait: bool = True) -> AbstractContextManager[None]:
        """Return the lock for building the payload `name`. A thread that holds the lock can acquire the lock again.

        See `FileLayer.lock`.
        """
        return file_lock(self.location, name, wait=wait)

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the payload `name` into the folder `to` and return its new path. See `FileMaintenance`."""
        with self.lock(name):
            places = [quarantine(path, to) for path in self._parts(self._stored_path(name)) if path.exists()]
        return str(places[0])

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Yield the temporary files of killed processes, and the payloads without a manifest. See `FileMaintenance`."""
        for path in sorted(self.location.glob("*")):
            temporary = path.name.startswith(".") and path.name.endswith(".tmp")
            stem = path.name[1:].rsplit(".", 2)[0] if temporary else path.name  # .NAME.SUFFIX.RANDOM.tmp
            name = self._name_of(stem)
            if name is None or (not temporary and has_manifest(name)):
                continue
            reason = "an interrupted write" if temporary else "rows without a manifest"
            yield Leftover(path, reason, num_bytes_of(path), self._remover(path, name, has_manifest, temporary))

    def _remover(
        self, path: Path, name: str, has_manifest: Callable[[str], bool], temporary: bool
    ) -> Callable[[], bool]:
        def remove() -> bool:
            with self.lock(name, wait=False), convert_disk_errors(path):
                if not temporary and has_manifest(name):  # another process has stored the manifest since the listing
                    return False
                path.unlink(missing_ok=True)
            return True

        return remove

    @abstractmethod
    def _write(self, path: Path, schema: "pa.Schema", batches: "Iterator[pa.RecordBatch]") -> PayloadInfo:
        """Write the record batches to the file `path` with `atomic_file`. The caller holds the lock of the payload."""

    @abstractmethod
    def _open(self, path: Path) -> "Rows":
        """Return the rows of the file `path`. Raises DamagedError if the file cannot be read."""

    def _parts(self, path: Path) -> list[Path]:
        """Return the paths of all files that `_write` creates for `path`: the payload file and its companion files."""
        return [path]

    def _name_of(self, file_name: str) -> str | None:
        """Return the name of the payload that owns the file `file_name`, or None if no payload owns the file."""
        name = file_name.removesuffix(self.SUFFIX)
        return name if name != file_name and is_name(name) else None

    def _path(self, name: str) -> Path:
        return self.location / f"{checked_name(name)}{self.SUFFIX}"

    @contextmanager
    def _stored_file(self, name: str) -> Iterator[Path]:
        """Return the path of a payload, which another process may remove meanwhile. Raises NotStoredError."""
        try:
            yield self._stored_path(name)
        except FileNotFoundError:
            self._stored_path(name)
            raise

    def _stored_path(self, name: str) -> Path:
        path = self._path(name)
        if not path.exists():
            stored = [other.name.removesuffix(self.SUFFIX) for other in self.location.glob(f"[!.]*{self.SUFFIX}")]
            raise NotStoredError(not_stored_message(name, self.location, stored))
        return path
