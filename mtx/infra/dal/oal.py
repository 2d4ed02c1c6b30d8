"""Store all manifests in one JSON file, the shelf. Each change replaces the whole file.

The original design used Python's `shelve`. This layer also works as a dictionary on disk, but avoids three defects of
`shelve`. The file format of `shelve` depends on the Python installation, two simultaneous writers damage the file, and
reading pickles can run code.
"""

import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mtx.components.identity import JSON, plain_value
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError, choices
from mtx.exhausted_resources import raise_if_exhausted
from mtx.infra.dal.atomic_file import (
    atomic_file,
    convert_disk_errors,
    make_folder,
    remove_leftovers,
    sync_folder,
)
from mtx.infra.dal.locks import path_lock
from mtx.infra.dal.maintenance_protocols import Damage, Leftover, num_bytes_of
from mtx.infra.dal.manifest_digest import DIGEST_KEY, check_digest, json_bytes
from mtx.infra.dal.protocols import checked_name, is_name
from mtx.infra.dal.quarantine import free_path
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.library_errors import library_reason

SHELF_FILE = "manifests.json"
LOCK_FILE = "manifests.lock"  # in `location`; the locks of single names are in `location/locks`
RESTORE_HINT = (
    "Run mtx task=verify full=true repair=true to keep the manifests that can be read, or restore the file from a copy"
)
ENTRY_START = re.compile(
    rb'^ "', re.MULTILINE
)  # matches the start of each entry, and nothing else, in a shelf that mtx wrote


class ObjectAccessLayer:
    """Object layer (`ObjectLayer`) that stores all JSON values in one file, `location/manifests.json`.

    Readers see the last complete version of the file. Writers exclude one another by a lock. Each write rewrites the
    whole file, which is fast enough for thousands of manifests; for more manifests, use `SQLiteObjectLayer`. Instances
    are picklable, and safe to use from several threads and processes.

    Args:
        location: the folder that contains the file; the first write creates the folder.
    """

    def __init__(self, *, location: str | os.PathLike[str]) -> None:
        self.location = expanded_path(location).absolute()

    def create(self, name: str, value: Any) -> None:
        """Store `value` under `name`.

        Raises AlreadyStoredError if `name` is stored, and StoreError if JSON cannot represent `value`.
        """
        entry = json_value(checked_name(name), value)
        with self._lock():
            shelf = self._load()
            if name in shelf:
                raise AlreadyStoredError(already_stored_message(name, self.location))
            self._save({**shelf, name: entry})

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError if `name` is not stored."""
        shelf = self._load()
        if checked_name(name) not in shelf:
            raise NotStoredError(not_stored_message(name, self.location, list(shelf)))
        return shelf[name]

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored."""
        self.read(name)  # raises NotStoredError before the lock, because the lock would create the folder
        with self._lock():
            shelf = self._load()
            if name not in shelf:
                raise NotStoredError(not_stored_message(name, self.location, list(shelf)))
            self._save({key: value for key, value in shelf.items() if key != name})

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`."""
        return checked_name(name) in self._load()

    def get_all_names(self) -> list[str]:
        """Return all stored names, sorted."""
        return sorted(self._load())

    def check(self, *, full: bool) -> list[Damage]:
        """Return a `Damage` if the bytes of `manifests.json` are damaged, and for each invalid name.

        See `ObjectMaintenance`.
        """
        try:
            shelf = self._load()
            if not shelf or json_bytes(shelf) == (self.location / SHELF_FILE).read_bytes():
                return [
                    Damage(SHELF_FILE, f"{name!r} is not a valid name in a store")
                    for name in shelf
                    if not is_name(name)
                ]
        except DamagedError as error:
            return [Damage(SHELF_FILE, library_reason(error.__cause__ or error))]
        if self._load() != shelf:  # another process wrote the file during the check
            return self.check(full=full)
        return [Damage(SHELF_FILE, "its bytes are not as mtx writes them")]

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Replace a damaged `manifests.json` by one with all manifests that can be read. See `ObjectMaintenance`."""
        with self._lock():
            if not self.check(full=True):
                return []
            content = (self.location / SHELF_FILE).read_bytes()
            place = quarantine_content(content, SHELF_FILE, to)
            self._save(_readable_entries(content))
            return [place]

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the manifest `name` out of `manifests.json` into a separate file, and return the path of the file.

        See `ObjectMaintenance`.
        """
        place = quarantine_content(json_bytes(self.read(name)), name, to)
        self.delete(name)
        return place

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary files of killed processes. See `ObjectMaintenance`."""
        return temporary_leftovers(self.location, f".{SHELF_FILE}.*.tmp", self.location / LOCK_FILE)

    def _lock(self) -> AbstractContextManager[None]:
        return path_lock(self.location / LOCK_FILE)

    def _load(self) -> dict[str, JSON]:
        path = self.location / SHELF_FILE
        try:
            shelf = json.loads(path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise_if_exhausted(error)
            raise DamagedError(
                f"the manifests in {path} cannot be read: {library_reason(error)}. {RESTORE_HINT}"
            ) from error
        if not isinstance(shelf, dict):
            raise DamagedError(
                f"{path} must contain a JSON object of manifests by name, but contains a {type(shelf).__name__}. "
                f"{RESTORE_HINT}"
            )
        return shelf

    def _save(self, shelf: dict[str, JSON]) -> None:
        path = self.location / SHELF_FILE
        remove_leftovers(path)
        with atomic_file(path) as file:
            file.write(json_bytes(shelf))


def quarantine_content(content: bytes, name: str, to: str | os.PathLike[str]) -> str:
    """Write the content of a manifest to a new file in the folder `to` and return its path. Raises StoreError."""
    place = free_path(make_folder(to), name if name.endswith(".json") else f"{name}.manifest.json")
    with atomic_file(place) as file:
        file.write(content)
    return str(place)


def temporary_leftovers(location: Path, pattern: str, lock: Path) -> Iterator[Leftover]:
    """Yield the temporary files of killed processes.

    Args:
        location: folder to search.
        pattern: glob pattern of the temporary files.
        lock: path of the lock that every running writer holds. Removing a leftover acquires the lock first.
    """

    def remover(path: Path) -> Callable[[], bool]:
        def remove() -> bool:
            with path_lock(lock, wait=False), convert_disk_errors(path):
                path.unlink(missing_ok=True)
                sync_folder(location)
            return True

        return remove

    for path in sorted(location.glob(pattern)):
        yield Leftover(path, "an interrupted write", num_bytes_of(path), remover(path))


def _readable_entries(content: bytes) -> dict[str, JSON]:
    """Return the undamaged entries of a damaged `manifests.json`, by name."""
    starts = [match.start() for match in ENTRY_START.finditer(content)]
    found: dict[str, JSON] = {}
    for start, end in zip(starts, [*starts, len(content)][1:], strict=True):
        text = content[start:end].strip().removesuffix(b"}") if end == len(content) else content[start:end].strip()
        try:
            entry = json.loads(b"{" + text.rstrip(b",\n ") + b"}")
            ((name, value),) = entry.items()
            if isinstance(value, dict) and DIGEST_KEY in value:
                check_digest(value, name)
        except (ValueError, RecursionError, DamagedError):
            continue
        if is_name(name) and (not isinstance(value, dict) or value.get("id", name) == name):
            found.setdefault(name, value)
    return found


def json_value(name: str, value: Any) -> JSON:
    """Return `value` as plain JSON values. Raises StoreError if JSON cannot represent `value`."""
    try:
        return plain_value(value)
    except TypeError as error:
        raise StoreError(
            f"{name} cannot be stored as a manifest, because JSON cannot represent a value in it: "
            f"{library_reason(error)}"
        ) from error


def already_stored_message(name: str, location: object) -> str:
    """Return the error message for a `name` that is already stored in `location`."""
    return f"{name} is stored already in {location}; it is kept. Remove it first to replace it"


def not_stored_message(name: str, location: object, names: list[str]) -> str:
    """Return the error message for a `name` that is not stored.

    It lists up to five stored names, the most similar first.
    """
    near = choices(str(name), names).split(", ")[:5]
    return f"nothing is stored as {name!r} in {location}. Stored there: {len(names)} ({', '.join(near)})"
