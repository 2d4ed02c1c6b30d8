"""Store each manifest in one JSON file. Use this layer on network folders, where SQLite's journal does not work."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mtx.components.identity import JSON
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import (
    atomic_file,
    convert_disk_errors,
    make_folder,
    remove_leftovers,
    sync_folder,
)
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.maintenance_protocols import Damage, Leftover, num_bytes_of
from mtx.infra.dal.manifest_digest import VERIFY_HINT, json_bytes, read_json
from mtx.infra.dal.oal import already_stored_message, json_value, not_stored_message
from mtx.infra.dal.protocols import checked_name, is_name
from mtx.infra.dal.quarantine import quarantine
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

SUFFIX = ".json"


class JSONFileObjectLayer:
    """Object layer (`ObjectLayer`) that stores each JSON value in the file `location/manifests/NAME.json`.

    A writer writes and syncs a temporary file, then links the file to its final name. The file system lets only one
    writer create the link. If the file system has no hard links, a lock replaces the link. Writers of the same name
    exclude one another by a lock file in `location/locks`. Instances are picklable. Threads, processes, and machines
    that mount the same folder can use the layer at the same time.

    Args:
        location: the folder that contains the manifests; the first write creates the folder.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = expanded_path(location).absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value` under `name`.

        Raises AlreadyStoredError if `name` is stored, and StoreError if JSON cannot represent `value`.
        """
        path = self._path(name)
        content = json_bytes(json_value(name, value))
        with file_lock(self.location, name):
            make_folder(path.parent)
            if self.exists(name):
                raise AlreadyStoredError(already_stored_message(name, self.location))
            remove_leftovers(path)
            try:
                with atomic_file(path, replace=False) as file:
                    file.write(content)
            except FileExistsError as error:  # another machine stored `name`, and `exists` did not see the file yet
                raise AlreadyStoredError(already_stored_message(name, self.location)) from error

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError, or DamagedError if the file cannot be read."""
        path = self._path(name)
        try:
            return read_json(path, f"the manifest of {name}")
        except FileNotFoundError as error:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names())) from error
        except OSError as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"the manifest of {name} in {path} cannot be read: {library_reason(error)}. {VERIFY_HINT}"
            ) from error

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored."""
        path = self._path(name)
        if path.exists():  # checked before the lock, because the lock would create the folder
            with file_lock(self.location, name), convert_disk_errors(path):
                try:
                    path.unlink()
                    sync_folder(path.parent)
                    return
                except FileNotFoundError:
                    pass
        raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`."""
        path = self._path(name)
        if path.exists():
            return True
        try:
            with os.scandir(path.parent):  # opening the folder makes a network file system refresh its cached listing
                return path.exists()
        except OSError:
            return False

    def get_all_names(self) -> list[str]:
        """Return the names of all manifests, sorted."""
        files = (path.name for path in self._folder.glob(f"*{SUFFIX}"))
        return sorted(name for name in (file.removesuffix(SUFFIX) for file in files) if is_name(name))

    def check(self, *, full: bool) -> list[Damage]:
        """Return a `Damage` for each file in the manifest folder whose name is not the name of a manifest.

        The content of a manifest is checked when the manifest is read.
        """
        strange = (path for path in sorted(self._folder.glob("*")) if not path.name.startswith("."))
        return [
            Damage(path.name, f"{path} does not have the name of a manifest, which is NAME{SUFFIX}")
            for path in strange
            if path.suffix != SUFFIX or not is_name(path.name.removesuffix(SUFFIX))
        ]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Move files that are not manifests out of the manifest folder, into `to`. See `ObjectMaintenance`."""
        return [str(quarantine(self._folder / damage.name, to)) for damage in self.check(full=True)]

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the manifest `name` into the folder `to` and return its new path. See `ObjectMaintenance`."""
        with file_lock(self.location, name):
            return str(quarantine(self._path(name), to))

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary files of killed processes. See `ObjectMaintenance`."""
        for path in sorted(self._folder.glob(f".*{SUFFIX}.*.tmp")):
            name = path.name[1:].rsplit(".", 3)[0]  # .NAME.json.RANDOM.tmp
            if is_name(name):
                yield Leftover(path, "an interrupted write", num_bytes_of(path), self._remover(path, name))

    def _remover(self, path: Path, name: str) -> Callable[[], bool]:
        def remove() -> bool:
            with file_lock(self.location, name, wait=False), convert_disk_errors(path):
                path.unlink(missing_ok=True)
            return True

        return remove

    @property
    def _folder(self) -> Path:
        return self.location / "manifests"

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked_name(name)}{SUFFIX}"
