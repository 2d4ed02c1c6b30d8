"""Paths that begin with `~`, for the home folder of a user."""

import os
from collections.abc import Sequence
from pathlib import Path


def expanded_path(path: str | os.PathLike[str]) -> Path:
    """Return a path with `~` or `~USER` at its start replaced by the home folder.

    If there is no such user, `~USER` is the name of a file or folder, as it is for a shell.
    """
    return Path(os.path.expanduser(path))  # noqa: PTH111  # Path.expanduser raises an error without such a user


def expanded_paths(paths: str | Sequence[str]) -> list[Path]:
    """Return one or several paths, each as `expanded_path` does."""
    return [expanded_path(path) for path in ([paths] if isinstance(paths, str) else paths)]
