"""Protocols of the maintenance methods that storage layers offer to `task=verify` and `task=gc`.

A layer that lacks these methods still works in runs. `task=verify` and `task=gc` then check and clean up only what the
layer's other methods allow.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Damage:
    """Stored data that has changed since mtx wrote the data.

    Attributes:
        name: name of the damaged entry, or of the damaged file if the file holds several entries.
        reason: description of the damage.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Leftover:
    """A file, folder or object in the store that no manifest refers to.

    Attributes:
        path: location of the leftover; a URL for a remote store.
        reason: why the leftover is not needed.
        num_bytes: size of the leftover in bytes.
        remove: function that locks the owner of the leftover, checks that the leftover is still not needed, and removes
            the leftover. Returns whether it removed the leftover. Raises InUseError if another process holds the lock,
            and StoreError.
    """

    path: Path | str
    reason: str
    num_bytes: int
    remove: Callable[[], bool]


@runtime_checkable
class ObjectMaintenance(Protocol):
    """The maintenance methods of an object layer (`ObjectLayer`), for `task=verify` and `task=gc`."""

    def check(self, *, full: bool) -> list[Damage]:
        """Return the damage found in the files that store the manifests, without changing any file.

        Args:
            full: True: check every byte. False: do only the quick checks.
        """

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Move damaged files that hold several manifests into the folder `to`, and keep the manifests that can be read.

        Returns the new locations of the damaged files. Raises StoreError if the disk refuses the repair.
        """

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the manifest `name`, even if damaged, into the folder `to`, and return its new location.

        Raises StoreError.
        """

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary files of processes that were killed while they wrote."""


@runtime_checkable
class FileMaintenance(Protocol):
    """The maintenance methods of a file layer (`FileLayer`), for `task=verify` and `task=gc`."""

    def quarantine(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move the payload `name`, even if damaged, into the folder `to`, and return its new location.

        Raises StoreError.
        """

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Yield the temporary files of killed processes, and each payload that has no manifest.

        Args:
            has_manifest: function that returns whether a manifest is stored under a name.
        """


@runtime_checkable
class ArtifactMaintenance(Protocol):
    """The maintenance methods of an artifact layer (`ArtifactLayer`), for `task=gc`."""

    def leftovers(self) -> Iterator[Leftover]:
        """Yield the temporary folders of processes that were killed while they built an artifact."""


@runtime_checkable
class WriteTimes(Protocol):
    """A layer that knows when it wrote what it stores."""

    def written(self, name: str) -> float:
        """Return the time at which `name` was written, in seconds since 1970. Raises NotStoredError."""


def remove_all(path: Path) -> None:
    """Remove a file, a symbolic link, or a folder with its content; do nothing if `path` does not exist.

    Symbolic links are not followed. Raises OSError if the disk refuses the removal.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def num_bytes_of(path: Path) -> int:
    """Return the size in bytes of a file, or of all files in a folder; 0 if `path` does not exist.

    Symbolic links are not followed.
    """
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(num_bytes_of(child) for child in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:  # another process has removed the file
        return 0
