"""Manifests on a shelf: one JSON file, replaced whole.

The original's choice was `shelve`. This keeps its use (a dictionary on disk) and drops what loses data: its file
format depends on the Python at hand, two writers damage it, and its pickles run code when read.
"""

import json
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError, choices
from mtx.identity import JSON, plain
from mtx.infra.dal.base import atomic_file, checked_name, path_lock, reason, remove_leftovers

SHELF = "manifests.json"
LOCK = "manifests.lock"  # beside the locks of names, of which none can be this one


class ObjectAccessLayer:
    """Key-value store of JSON values (`ObjectLayer`) in one file, `location/manifests.json`.

    Readers see the last whole file; writers take turns by a lock. Each write rewrites the file, which suits
    thousands of manifests; for more, see `SQLiteObjectLayer`. Picklable; safe with threads and processes.

    Args:
        location: the folder; made when something is first written.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = Path(location).expanduser().absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value`. Raises AlreadyStoredError, and StoreError where it is nothing that JSON has."""
        entry = json_value(checked_name(name), value)
        with self._lock():
            shelf = self._load()
            if name in shelf:
                raise AlreadyStoredError(already(name, self.location))
            self._save({**shelf, name: entry})

    def read(self, name: str) -> JSON:
        """Return the value. Raises NotStoredError."""
        shelf = self._load()
        if checked_name(name) not in shelf:
            raise NotStoredError(absent(name, self.location, list(shelf)))
        return shelf[name]

    def delete(self, name: str) -> None:
        """Forget the value. Raises NotStoredError."""
        self.read(name)  # before the lock, so that nothing is made where nothing was stored
        with self._lock():
            shelf = self._load()
            if name not in shelf:
                raise NotStoredError(absent(name, self.location, list(shelf)))
            self._save({key: value for key, value in shelf.items() if key != name})

    def exists(self, name: str) -> bool:
        """Tell whether `name` is stored."""
        return checked_name(name) in self._load()

    def get_all_names(self) -> list[str]:
        """Return all names, sorted."""
        return sorted(self._load())

    def _lock(self) -> AbstractContextManager[None]:
        return path_lock(self.location / LOCK)

    def _load(self) -> dict[str, JSON]:
        path = self.location / SHELF
        try:
            shelf = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise DamagedError(
                f"the manifests in {path} cannot be read: {reason(error)}. "
                "Restore the file from a copy, or choose another folder with storage.root=FOLDER"
            ) from error
        if not isinstance(shelf, dict):
            raise DamagedError(
                f"{path} holds a JSON {type(shelf).__name__}, not an object of manifests by name. "
                "Restore the file from a copy, or choose another folder with storage.root=FOLDER"
            )
        return shelf

    def _save(self, shelf: dict[str, JSON]) -> None:
        path = self.location / SHELF
        remove_leftovers(path)
        with atomic_file(path) as file:
            file.write(json.dumps(shelf, indent=1, sort_keys=True).encode())


def json_value(name: str, value: Any) -> JSON:
    """Return `value` in JSON's types. Raises StoreError."""
    try:
        return plain(value)
    except TypeError as error:
        raise StoreError(f"{name} cannot be stored as a manifest, which holds only what JSON has: {error}") from error


def already(name: str, location: Path) -> str:
    """Say that `name` is taken."""
    return f"{name} is stored already in {location}; it is kept. Remove it first to store another"


def absent(name: str, location: Path, names: list[str]) -> str:
    """Say that `name` is not there, and what is."""
    near = choices(str(name), names).split(", ")[:5]
    return f"nothing is stored as {name!r} in {location}. Stored there: {len(names)} ({', '.join(near)})"
