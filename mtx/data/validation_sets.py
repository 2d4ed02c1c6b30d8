"""Datasets in addition to the corpus: named validation sets (`datamodule.validation_sets`) and the text to translate.

These datasets are normalised and encoded with the tokenizer of the corpus, but not split and not filtered.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from mtx.data.dataset import SPLITS
from mtx.errors import ConfigError
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources import named_sources as source_config
from mtx.infra.dataset.sources.named_sources import SourceConfig as SetConfig

__all__ = ["CONFIG_KEY", "PREDICT_NAME", "RESERVED_NAMES", "SetConfig", "named_errors", "validation_downloaders"]

CONFIG_KEY = "datamodule.validation_sets"
PREDICT_NAME = "predict"  # the name of the text to translate, used like the name of a split
RESERVED_NAMES = (*SPLITS, PREDICT_NAME)


def validation_downloaders(configs: Mapping[str, SetConfig] | None) -> dict[str, Downloader]:
    """Return the downloader of each validation set.

    Args:
        configs: by name of the validation set: a file, the settings of a `LocalDownloader`, or a downloader.

    Raises:
        ConfigError: a name or a setting is not valid.
    """
    if configs is not None and not isinstance(configs, Mapping):
        raise ConfigError(
            f"{CONFIG_KEY} is a file, or settings, for each name, such as {{newstest: FILE}}, but is {configs!r}"
        )
    return {name: _downloader(name, config) for name, config in (configs or {}).items()}


def named_errors(name: str) -> AbstractContextManager[None]:
    """Return a context that adds the name and the config key of a validation set to errors of its source."""
    return source_config.named_errors(f"{CONFIG_KEY}.{name}", _set_label(name))


def _downloader(name: str, config: SetConfig) -> Downloader:
    source_config.check_name(name, CONFIG_KEY, f"+{CONFIG_KEY}.newstest=FILE", reserved=RESERVED_NAMES)
    return source_config.downloader_of(config, f"{CONFIG_KEY}.{name}", _set_label(name))


def _set_label(name: str) -> str:
    return f"the validation set {name!r}"
