"""Create downloaders from configs of named sources (mixtures, validation sets), and add the names to their errors."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from mtx.errors import ConfigError, MtxError, choices
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.sacrebleu_test_sets import is_test_set, test_set_options

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # the name becomes part of metric names and of keys on the command line
DOWNLOADER_KEY = re.compile(r"(?<![\w./-])downloader\.(?=\w+\b)")

SourceConfig = Downloader | str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, Any]


def check_name(name: object, key: str, example: str, reserved: tuple[str, ...] = ()) -> None:
    """Raise ConfigError unless `name` is a valid name of a source.

    Args:
        name: the name to check.
        key: the config key that contains the name.
        example: a valid setting, for the error message.
        reserved: names that are not allowed.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in reserved:
        raise ConfigError(
            f"names in {key} must start with a letter and contain only letters, digits, _ and -"
            f"{', and must not be ' + ' or '.join(reserved) if reserved else ''}, but one is {name!r}. "
            f"Choose another name, for example {example}"
        )


def downloader_of(config: SourceConfig, key: str, what: str) -> Downloader:
    """Return the downloader that a config describes: a file, a test set, the options of local files, or a downloader.

    Args:
        config: the config; several files are one source.
        key: the config key, for error messages.
        what: name of the source in error messages, such as `the source 'web'`.

    Raises ConfigError if the config is something else, or if an option is not valid.
    """
    if isinstance(config, Downloader):
        return config
    if is_test_set(config):
        with named_errors(key, what):
            config = test_set_options(str(config))
    elif isinstance(config, (str, os.PathLike, list, tuple)):
        config = {"path": config}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{key} must be a file, options of downloader=local, or a downloader, but is {config!r}. Set +{key}=FILE"
        )
    known = [field.name for field in fields(LocalDownloader)]
    for name in config:
        if name not in known:
            raise ConfigError(
                f"{key}.{name} is not an option of downloader=local. Options: {choices(str(name), known)}"
            )
    with named_errors(key, what):
        return LocalDownloader(**config)


@contextmanager
def named_errors(key: str, what: str) -> Iterator[None]:
    """Return a context manager that adds a source's name to errors, and replaces `downloader.` by the key `key`."""
    try:
        yield
    except MtxError as error:
        raise type(error)(f"{what}: {DOWNLOADER_KEY.sub(f'{key}.', str(error))}") from error
