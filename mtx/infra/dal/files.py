"""Manifests as one JSON file each: for folders on a network, where SQLite's journal does not work."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.identity import JSON
from mtx.infra.dal.aside import set_aside
from mtx.infra.dal.base import (
    atomic_file,
    checked_name,
    file_lock,
    folder,
    is_name,
    reason,
    remove_leftovers,
    sync_folder,
    writing,
)
from mtx.infra.dal.oal import absent, already, json_value
from mtx.infra.dal.sealed import VERIFY, json_bytes, read_json
from mtx.infra.dal.upkeep import Damage, Leftover, num_bytes_of

SUFFIX = ".json"


class JSONFileObjectLayer:
    """Key-value store of JSON values (`ObjectLayer`) in `location/manifests/NAME.json`.

    A file is written whole, synced, and then linked under its name, which the file system allows one writer only;
    where it knows no links, a lock does that. Writers of one name take turns by a lock file in `location/locks`.
    Picklable; safe with threads and processes, also on several machines that mount the same folder.

    Args:
        location: the folder; made when something is first written.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value`. Raises AlreadyStoredError, and StoreError where it is nothing that JSON has."""
        path = self._path(name)
        content = json_bytes(json_value(name, value))
        with file_lock(self.location, name):
            folder(path.parent)
            if self.exists(name):
                raise AlreadyStoredError(already(name, self.location))
            remove_leftovers(path)
            try:
                with atomic_file(path, replace=False) as file:
                    file.write(content)
            except FileExistsError as error:  # stored from another machine, whose file could not be seen yet
                raise AlreadyStoredError(already(name, self.location)) from error

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError, or DamagedError."""
        path = self._path(name)
        try:
            return read_json(path, f"the manifest of {name}")
        except FileNotFoundError as error:
            raise NotStoredError(absent(name, self.location, self.get_all_names())) from error
        except OSError as error:
            raise DamagedError(f"the manifest of {name}, {path}, cannot be read: {reason(error)}. {VERIFY}") from error

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError."""
        path = self._path(name)
        if path.exists():  # before the lock, so that nothing is made where nothing was stored
            with file_lock(self.location, name), writing(path):
                try:
                    path.unlink()
                    sync_folder(path.parent)
                    return
                except FileNotFoundError:
                    pass
        raise NotStoredError(absent(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        path = self._path(name)
        if path.exists():
            return True
        try:
            with os.scandir(path.parent):  # opening a folder lets go of what a network file system remembers of it
                return path.exists()
        except OSError:
            return False

    def get_all_names(self) -> list[str]:
        """Return all names, sorted."""
        files = (path.name for path in self._folder.glob(f"*{SUFFIX}"))
        return sorted(name for name in (file.removesuffix(SUFFIX) for file in files) if is_name(name))

    def check(self, *, full: bool) -> list[Damage]:
        """Look at what lies among the manifests and is none; each of them is looked at when it is read."""
        strange = (path for path in sorted(self._folder.glob("*")) if not path.name.startswith("."))
        return [
            Damage(path.name, f"{path} is not named as a manifest is")
            for path in strange
            if path.suffix != SUFFIX or not is_name(path.name.removesuffix(SUFFIX))
        ]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Set files aside that are no manifests. See `ObjectUpkeep`."""
        return [str(set_aside(self._folder / damage.name, to)) for damage in self.check(full=True)]

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a manifest into the folder `to`, and say where it is now. See `ObjectUpkeep`."""
        with file_lock(self.location, name):
            return str(set_aside(self._path(name), to))

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left. See `ObjectUpkeep`."""
        for path in sorted(self._folder.glob(f".*{SUFFIX}.*.tmp")):
            name = path.name[1:].rsplit(".", 3)[0]  # .NAME.json.RANDOM.tmp
            if is_name(name):
                yield Leftover(path, "a write that was stopped", num_bytes_of(path), self._remover(path, name))

    def _remover(self, path: Path, name: str) -> Callable[[], bool]:
        def remove() -> bool:
            with file_lock(self.location, name, wait=False), writing(path):
                path.unlink(missing_ok=True)
            return True

        return remove

    @property
    def _folder(self) -> Path:
        return self.location / "manifests"

    def _path(self, name: str) -> Path:
        return self._folder / f"{checked_name(name)}{SUFFIX}"
