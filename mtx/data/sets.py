"""Sets beside the corpus: validation sets with names, and text to translate.

They take the corpus's way with its tokenizer, but nothing is filtered: raw → encoded.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from mtx.data.dataset import SPLITS
from mtx.errors import ConfigError
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources import named
from mtx.infra.dataset.sources.named import SourceConfig as SetConfig

__all__ = ["KEY", "PREDICT", "RESERVED", "SetConfig", "named_errors", "named_sets"]

KEY = "datamodule.validation_sets"
PREDICT = "predict"  # stands for the text to translate, where splits are named
RESERVED = (*SPLITS, PREDICT)


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


def named_errors(name: str) -> AbstractContextManager[None]:
    """Let errors of a set's source say which set it is, and its own keys to change."""
    return named.named_errors(f"{KEY}.{name}", _called(name))


def _downloader(name: str, config: SetConfig) -> Downloader:
    named.check_name(name, KEY, f"+{KEY}.newstest=FILE", reserved=RESERVED)
    return named.downloader_of(config, f"{KEY}.{name}", _called(name))


def _called(name: str) -> str:
    return f"the validation set {name!r}"
