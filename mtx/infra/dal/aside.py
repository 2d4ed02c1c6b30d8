"""Damaged things are moved out of the way, never deleted: what is in them may be wanted once more."""

import itertools
import os
from pathlib import Path

from mtx.infra.dal.base import folder, sync_folder, writing


def set_aside(path: Path, to: str | os.PathLike[str]) -> Path:
    """Move a file or a folder into the folder `to`, on the same disk, and return where it is now.

    What lies there under the same name is kept: the newcomer gets a number. For holders of its lock only. Raises
    StoreError.
    """
    place = free_path(folder(to), path.name)
    with writing(place):
        path.rename(place)
        sync_folder(place.parent)
        sync_folder(path.parent)
    return place


def free_path(at: Path, name: str) -> Path:
    """Return a path in the folder `at` that is not taken: `name`, or `name` and a number."""
    names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
    return next(path for path in (at / name for name in names) if not os.path.lexists(path))
