"""Sources that a config gives by name, as those of a mixture or validation sets: made, and named in their errors."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from mtx.errors import ConfigError, MtxError, choices
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.local import LocalDownloader

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # goes into names of metrics, and into keys on the command line
DOWNLOADER_KEY = re.compile(r"(?<![\w./-])downloader\.(?=\w+\b)")

SourceConfig = Downloader | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any]


def check_name(name: object, key: str, example: str, reserved: tuple[str, ...] = ()) -> None:
    """Raise ConfigError unless `name`, given under `key`, is a name; `example` is a good setting."""
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in reserved:
        raise ConfigError(
            f"the names in {key} begin with a letter and go on with letters, digits, _ and -"
            f"{', and are none of ' + ', '.join(reserved) if reserved else ''}, but one is {name!r}. "
            f"Choose another, as {example}"
        )


def downloader_of(config: SourceConfig, key: str, what: str) -> Downloader:
    """Make a downloader of what a config may say: a file, the settings of local files, or a downloader.

    Args:
        config: one of those; several files are one source.
        key: where it stands in the config.
        what: the source, for messages, as `the source 'web'`.

    Raises ConfigError where it is something else, or where a setting will not do.
    """
    if isinstance(config, Downloader):
        return config
    if isinstance(config, (str, os.PathLike, list, tuple)):
        config = {"path": config}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{key} is a file, the settings of local files, or a downloader, but is {config!r}. Set +{key}=FILE"
        )
    known = [field.name for field in fields(LocalDownloader)]
    for name in config:
        if name not in known:
            raise ConfigError(f"{key}.{name} is no setting of local files. They take: {choices(str(name), known)}")
    with named_errors(key, what):
        return LocalDownloader(**config)


@contextmanager
def named_errors(key: str, what: str) -> Iterator[None]:
    """Let errors of a source say which one it is, and its own keys to change."""
    try:
        yield
    except MtxError as error:
        raise type(error)(f"{what}: {DOWNLOADER_KEY.sub(f'{key}.', str(error))}") from error
