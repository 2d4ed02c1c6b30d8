"""Store manifests in a bucket: one JSON object for each dataset (`ObjectLayer`).

A dataset's manifest is written last, and names the dataset's payload by SHA-256. A dataset counts as stored once its
manifest exists. A lock in the cache folder ensures that processes with the same cache folder build each dataset only
once. Machines with different cache folders do not coordinate. If two machines build the same dataset, both do the work,
the first manifest stays, and both read the payload that it names.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

from mtx.components.identity import JSON
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError
from mtx.infra.dal.maintenance_protocols import Damage, Leftover
from mtx.infra.dal.manifest_digest import VERIFY_HINT
from mtx.infra.dal.oal import already_stored_message, json_value, not_stored_message
from mtx.infra.dal.protocols import NAME_PATTERN, checked_name
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.library_errors import library_reason

SUFFIX = ".json"


class RemoteObjectLayer:
    """Object layer (`ObjectLayer`) that stores each JSON value in one object `location/NAME.json`.

    Args:
        location: URL of a folder in the bucket, without credentials.
    """

    def __init__(self, *, location: str) -> None:
        self.location = RemoteFolder(location)

    def create(self, name: str, value: Any) -> None:
        """Store `value` under `name`.

        Raises AlreadyStoredError if `name` is stored, and StoreError if JSON cannot represent `value`.
        """
        content = json.dumps(json_value(checked_name(name), value), indent=1, sort_keys=True).encode()
        if not self.location.create(name + SUFFIX, content):
            raise AlreadyStoredError(already_stored_message(name, self.location))

    def read(self, name: str) -> JSON:
        """Return the value of `name`. Raises NotStoredError, DamagedError, or StoreError."""
        value = self.find(name)
        if value is None:
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        return value

    def find(self, name: str) -> JSON | None:
        """Return the value of `name`, or None if it is not stored; without a listing. Raises as `read`."""
        content = self.location.read(checked_name(name) + SUFFIX)
        if content is None:
            return None
        try:
            value: JSON = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise DamagedError(
                f"the manifest of {name} in {self.location} is not valid JSON: {library_reason(error)}. {VERIFY_HINT}"
            ) from error
        return value

    def delete(self, name: str) -> None:
        """Delete the value of `name`. Raises NotStoredError if `name` is not stored, and StoreError."""
        if not self.location.delete(checked_name(name) + SUFFIX):
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))

    def exists(self, name: str) -> bool:
        """Return whether a value is stored under `name`. Raises StoreError if the bucket cannot be read."""
        return self.location.exists(checked_name(name) + SUFFIX)

    def get_all_names(self) -> list[str]:
        """Return all stored names, sorted. Raises StoreError if the bucket cannot be read."""
        names = (file.key.removesuffix(SUFFIX) for file in self.location.files() if file.key.endswith(SUFFIX))
        return sorted(name for name in names if NAME_PATTERN.fullmatch(name))

    def check(self, *, full: bool) -> list[Damage]:
        """Return an empty list, because no file holds several manifests. See `ObjectMaintenance`."""
        return []

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Return an empty list and change nothing, because `check` finds no damage. See `ObjectMaintenance`."""
        return []

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the manifest `name` into the bucket folder `.damaged` and return its new location."""
        if not self.exists(name):
            raise NotStoredError(not_stored_message(name, self.location, self.get_all_names()))
        place = f".damaged/{name}{SUFFIX}"
        self.location.move(name + SUFFIX, place)
        return f"{self.location}/{place}"

    def leftovers(self) -> Iterator[Leftover]:
        """Return an empty iterator, because a bucket never contains incomplete objects. See `ObjectMaintenance`."""
        return iter(())
