"""Convert the file paths in a config or a program to plain strings and tuples."""

import os
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from mtx.errors import ConfigError

FilePath = str | os.PathLike[str]
OneOrMore = Annotated[FilePath | Sequence[FilePath], Field(description="the path of a file, or a list of paths")]
FilePaths = Annotated[
    FilePath | Sequence[FilePath] | Mapping[str, OneOrMore],
    Field(description="the path of a file, a list of paths, or paths for each split"),
]
Paths = str | tuple[str, ...]  # a file, a folder, a pattern, or several of these

SPLITS = ("train", "validation", "test")


def plain_paths(key: str, paths: FilePaths | None) -> Paths | dict[str, Paths] | None:
    """Return paths as strings, and lists of paths as tuples. Raises ConfigError for any other value."""
    if isinstance(paths, Mapping):
        return {str(split): _plain_paths(f"{key}.{split}", path) for split, path in paths.items()}
    return None if paths is None else _plain_paths(key, paths)


def split_paths(key: str, paths: FilePaths | None) -> dict[str, tuple[str, Paths]]:
    """Return the config key and the paths of each split, with the training split first. Raises ConfigError."""
    if paths is None:
        return {}
    if not isinstance(paths, Mapping):
        return {"train": (f"downloader.{key}", _plain_paths(key, paths))}
    unknown = [split for split in paths if split not in SPLITS]
    if unknown or "train" not in paths:
        said = f"it has {unknown[0]!r}" if unknown else "train is missing"
        raise ConfigError(
            f"downloader.{key} must be a path, or paths for the splits {', '.join(SPLITS)}, including train, but {said}"
        )
    return {split: (f"downloader.{key}.{split}", _plain_paths(key, paths[split])) for split in SPLITS if split in paths}


def _plain_paths(key: str, paths: FilePath | Sequence[FilePath]) -> Paths:
    if isinstance(paths, (str, os.PathLike)):
        return os.fspath(paths)
    if isinstance(paths, Sequence) and paths and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return tuple(os.fspath(path) for path in paths)
    raise ConfigError(
        f"downloader.{key} must be the path of a file, a list of paths, or paths for each split, but is {paths!r}"
    )
