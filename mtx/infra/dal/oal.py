"""Manifests on a shelf: one JSON file, replaced whole.

The original's choice was `shelve`. This keeps its use (a dictionary on disk) and drops what loses data: its file
format depends on the Python at hand, two writers damage it, and its pickles run code when read.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError, choices
from mtx.identity import JSON, plain
from mtx.infra.dal.aside import free_path
from mtx.infra.dal.base import (
    atomic_file,
    checked_name,
    folder,
    is_name,
    path_lock,
    reason,
    remove_leftovers,
    sync_folder,
    writing,
)
from mtx.infra.dal.sealed import SEAL, check_seal, json_bytes
from mtx.infra.dal.upkeep import Damage, Leftover, num_bytes_of

SHELF = "manifests.json"
LOCK = "manifests.lock"  # beside the locks of names, of which none can be this one
RESTORE = "Save what can be read with mtx task=verify repair=true, or restore the file from a copy"
ENTRY = re.compile(rb'^ "', re.MULTILINE)  # begins the entry of a name, and nothing else, in a shelf as it is written


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

    def check(self, *, full: bool) -> list[Damage]:
        """Look at the shelf's bytes. See `ObjectUpkeep`."""
        try:
            shelf = self._load()
            if not shelf or json_bytes(shelf) == (self.location / SHELF).read_bytes():
                return [
                    Damage(SHELF, f"{name!r} is no name for something stored") for name in shelf if not is_name(name)
                ]
        except DamagedError as error:
            return [Damage(SHELF, str(error.__cause__ or error))]
        if self._load() != shelf:  # written to between the two looks
            return self.check(full=full)
        return [Damage(SHELF, "its bytes are not as mtx writes them")]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Put a shelf of all manifests that can be read in the place of a damaged one. See `ObjectUpkeep`."""
        with self._lock():
            if not self.check(full=True):
                return []
            content = (self.location / SHELF).read_bytes()
            place = put_aside(content, SHELF, to)
            self._save(_readable(content))
            return [place]

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a manifest out of the shelf into a file, and say where it is. See `ObjectUpkeep`."""
        place = put_aside(json_bytes(self.read(name)), name, to)
        self.delete(name)
        return place

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left. See `ObjectUpkeep`."""
        return temporaries(self.location, f".{SHELF}.*.tmp", self.location / LOCK)

    def _lock(self) -> AbstractContextManager[None]:
        return path_lock(self.location / LOCK)

    def _load(self) -> dict[str, JSON]:
        path = self.location / SHELF
        try:
            shelf = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise DamagedError(f"the manifests in {path} cannot be read: {reason(error)}. {RESTORE}") from error
        if not isinstance(shelf, dict):
            raise DamagedError(
                f"{path} holds a JSON {type(shelf).__name__}, not an object of manifests by name. {RESTORE}"
            )
        return shelf

    def _save(self, shelf: dict[str, JSON]) -> None:
        path = self.location / SHELF
        remove_leftovers(path)
        with atomic_file(path) as file:
            file.write(json_bytes(shelf))


def put_aside(content: bytes, name: str, to: str | os.PathLike[str]) -> str:
    """Write the content of a manifest into a file of its own in the folder `to`, and say where. Raises StoreError."""
    place = free_path(folder(to), name if name.endswith(".json") else f"{name}.manifest.json")
    with atomic_file(place) as file:
        file.write(content)
    return str(place)


def temporaries(location: Path, pattern: str, lock: Path) -> Iterator[Leftover]:
    """Find the temporary files of writers that were killed; a writer that is alive holds `lock`."""

    def remover(path: Path) -> Callable[[], bool]:
        def remove() -> bool:
            with path_lock(lock, wait=False), writing(path):
                path.unlink(missing_ok=True)
                sync_folder(location)
            return True

        return remove

    for path in sorted(location.glob(pattern)):
        yield Leftover(path, "a write that was stopped", num_bytes_of(path), remover(path))


def _readable(content: bytes) -> dict[str, JSON]:
    """Return the entries of a damaged shelf that are as they were written."""
    starts = [match.start() for match in ENTRY.finditer(content)]
    found: dict[str, JSON] = {}
    for start, end in zip(starts, [*starts, len(content)][1:], strict=True):
        text = content[start:end].strip().removesuffix(b"}") if end == len(content) else content[start:end].strip()
        try:
            entry = json.loads(b"{" + text.rstrip(b",\n ") + b"}")
            ((name, value),) = entry.items()
            if isinstance(value, dict) and SEAL in value:
                check_seal(value, name)
        except (ValueError, RecursionError, DamagedError):
            continue
        if is_name(name) and (not isinstance(value, dict) or value.get("id", name) == name):
            found.setdefault(name, value)
    return found


def json_value(name: str, value: Any) -> JSON:
    """Return `value` in JSON's types. Raises StoreError."""
    try:
        return plain(value)
    except TypeError as error:
        raise StoreError(f"{name} cannot be stored as a manifest, which holds only what JSON has: {error}") from error


def already(name: str, location: object) -> str:
    """Say that `name` is taken."""
    return f"{name} is stored already in {location}; it is kept. Remove it first to store another"


def absent(name: str, location: object, names: list[str]) -> str:
    """Say that `name` is not there, and what is."""
    near = choices(str(name), names).split(", ")[:5]
    return f"nothing is stored as {name!r} in {location}. Stored there: {len(names)} ({', '.join(near)})"
