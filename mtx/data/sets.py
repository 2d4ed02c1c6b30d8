"""Sets beside the corpus: validation sets with names, and text to translate.

They take the corpus's way with its tokenizer, but nothing is filtered: raw → encoded.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from mtx.data.dataset import SPLITS
from mtx.errors import ConfigError, MtxError, choices
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.local import LocalDownloader

KEY = "datamodule.validation_sets"
PREDICT = "predict"  # stands for the text to translate, where splits are named
RESERVED = (*SPLITS, PREDICT)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")  # goes into names of metrics, and into keys on the command line
DOWNLOADER_KEY = re.compile(r"(?<![\w./-])downloader\.(?=\w+\b)")

SetConfig = Downloader | str | os.PathLike[str] | Mapping[str, Any]


def named_sets(configs: Mapping[str, SetConfig] | None) -> dict[str, Downloader]:
    """Make the downloader of each validation set.

    Args:
        configs: by name: a file, the settings of a `LocalDownloader`, or a downloader.

    Raises ConfigError for a name or a setting that will not do.
    """
    if configs is not None and not isinstance(configs, Mapping):
        raise ConfigError(
            f"{KEY} is a file, or settings, for each name, such as {{newstest: FILE}}, but is {configs!r}"
        )
    return {name: _downloader(name, config) for name, config in (configs or {}).items()}


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Let errors of a set's source say which set it is, and its own keys to change."""
    try:
        yield
    except MtxError as error:
        told = DOWNLOADER_KEY.sub(f"{KEY}.{name}.", str(error))
        raise type(error)(f"the validation set {name!r}: {told}") from error


def _downloader(name: str, config: SetConfig) -> Downloader:
    if not isinstance(name, str) or not NAME.fullmatch(name) or name in RESERVED:
        raise ConfigError(
            f"the names in {KEY} begin with a letter and go on with letters, digits, _ and -, and are none of "
            f"{', '.join(RESERVED)}, but one is {name!r}. Choose another, as +{KEY}.newstest=FILE"
        )
    if isinstance(config, Downloader):
        return config
    if isinstance(config, (str, os.PathLike)):
        config = {"path": config}
    if not isinstance(config, Mapping):
        raise ConfigError(
            f"{KEY}.{name} is a file, the settings of local files, or a downloader, but is {config!r}. "
            f"Set +{KEY}.{name}=FILE"
        )
    known = [field.name for field in fields(LocalDownloader)]
    for key in config:
        if key not in known:
            raise ConfigError(f"{KEY}.{name}.{key} is no setting of local files. They take: {choices(str(key), known)}")
    with named_errors(name):
        return LocalDownloader(**config)
