"""Paths of local files as a config or a program gives them, brought into one form."""

import os
from collections.abc import Mapping, Sequence

from mtx.errors import ConfigError

FilePath = str | os.PathLike[str]
FilePaths = FilePath | Sequence[FilePath] | Mapping[str, FilePath | Sequence[FilePath]]
Paths = str | tuple[str, ...]  # a file, a folder, a pattern, or a list of them

SPLITS = ("train", "validation", "test")


def plain_paths(key: str, paths: FilePaths | None) -> Paths | dict[str, Paths] | None:
    """Return paths as str, lists as tuples. Raises ConfigError where they are something else."""
    if isinstance(paths, Mapping):
        return {str(split): _plain(f"{key}.{split}", path) for split, path in paths.items()}
    return None if paths is None else _plain(key, paths)


def splits_of(key: str, paths: FilePaths | None) -> dict[str, tuple[str, Paths]]:
    """Return each split's config key and paths, training first. Raises ConfigError."""
    if paths is None:
        return {}
    if not isinstance(paths, Mapping):
        return {"train": (f"downloader.{key}", _plain(key, paths))}
    unknown = [split for split in paths if split not in SPLITS]
    if unknown or "train" not in paths:
        said = f"has {unknown[0]!r}" if unknown else "has no train"
        raise ConfigError(
            f"downloader.{key} names a file, or one for each of {', '.join(SPLITS)}, with train; but it {said}"
        )
    return {split: (f"downloader.{key}.{split}", _plain(key, paths[split])) for split in SPLITS if split in paths}


def _plain(key: str, paths: FilePath | Sequence[FilePath]) -> Paths:
    if isinstance(paths, (str, os.PathLike)):
        return os.fspath(paths)
    if isinstance(paths, Sequence) and paths and all(isinstance(path, (str, os.PathLike)) for path in paths):
        return tuple(os.fspath(path) for path in paths)
    raise ConfigError(
        f"downloader.{key} is the path of a file, a list of them, or one for each split, but is {paths!r}"
    )
