"""Move damaged files and folders out of the store.

Damaged data are moved and not deleted, because a user may still need their content.
"""

import itertools
import os
from pathlib import Path

from mtx.infra.dal.atomic_file import convert_disk_errors, make_folder, sync_folder


def quarantine(path: Path, to: str | os.PathLike[str]) -> Path:
    """Move the file or folder `path` into the folder `to` on the same disk, and return the new path.

    If `to` already contains an entry of the same name, the moved file or folder gets a number as suffix. The caller
    must hold the lock of `path`. Raises StoreError if the disk refuses the move.
    """
    place = free_path(make_folder(to), path.name)
    with convert_disk_errors(place):
        path.rename(place)
        sync_folder(place.parent)
        sync_folder(path.parent)
    return place


def free_path(at: Path, name: str) -> Path:
    """Return a path in the folder `at` that does not exist: `name`, or `name` with a number as suffix."""
    names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
    return next(path for path in (at / name for name in names) if not os.path.lexists(path))
