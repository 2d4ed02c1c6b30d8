"""What layers offer to `task=verify` and `task=gc`, beside what runs need of them: to look after what lies there.

A layer without these can be used, but only so far be looked after as its other methods allow.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Damage:
    """Something that is not as it was written: its name, or the file's where it concerns more than one; and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Leftover:
    """Something that nothing refers to.

    Attributes:
        path: where it lies; an address in a remote store.
        reason: why nothing needs it.
        num_bytes: what it takes.
        remove: takes the lock of what it belongs to, looks whether that is still so, and removes it. Returns whether
            it did; raises InUseError where another process is at work there, and StoreError.
    """

    path: Path | str
    reason: str
    num_bytes: int
    remove: Callable[[], bool]


@runtime_checkable
class ObjectUpkeep(Protocol):
    """An `ObjectLayer` that can be looked after."""

    def check(self, *, full: bool) -> list[Damage]:
        """Look at the files that keep the manifests, down to the last byte where `full`. Changes nothing."""

    def repair(self, to: str | os.PathLike[str]) -> list[str]:
        """Set files aside, in the folder `to`, that concern more than one manifest and cannot be read.

        Keeps all manifests that can. Returns where what was set aside is now. Raises StoreError.
        """

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a manifest, whatever is in it, into the folder `to`, and say where it is now. Raises StoreError."""

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left."""


@runtime_checkable
class FileUpkeep(Protocol):
    """A `FileLayer` that can be looked after."""

    def set_aside(self, name: str, to: str | os.PathLike[str]) -> str:
        """Move a payload, whatever is in it, into the folder `to`, and say where it is now. Raises StoreError."""

    def leftovers(self, has_manifest: Callable[[str], bool]) -> Iterator[Leftover]:
        """Find what killed writers left, and payload whose name has no manifest."""


@runtime_checkable
class BundleUpkeep(Protocol):
    """A `BundleLayer` that can be looked after."""

    def leftovers(self) -> Iterator[Leftover]:
        """Find what killed writers left."""


def remove_all(path: Path) -> None:
    """Remove a file, a link, or a folder with what is in it, if it is there. Links are not followed. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def num_bytes_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder; 0 where it is gone. Links are not followed."""
    try:
        if path.is_dir() and not path.is_symlink():
            return sum(num_bytes_of(child) for child in path.iterdir())
        return path.lstat().st_size
    except FileNotFoundError:  # removed meanwhile
        return 0
