"""Build the data module from a config that another Hydra application, hydra-zen or a program has composed."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

import mtx
from mtx.app.plain_config import plain_values, told_interpolations
from mtx.errors import ConfigError


def datamodule_from_config(config: Mapping[str, Any] | DictConfig) -> "mtx.TranslationDataModule":
    """Return the data module that the groups in `config` describe, ready for `trainer.fit(model, dm)`.

    Args:
        config: the groups `storage`, `downloader`, `normalise`, `filter`, `tokenizer`, `sampler` and `datamodule`, the
            key `seed`, and optionally `engine` and `score`. Other keys are not read.

    Example: `datamodule_from_config(cfg)` in a function under `@hydra.main`, whose config has
    `hydra.searchpath: [pkg://mtx.conf]` and `translation_data` in its defaults list.

    Raises:
        ConfigError: a group is missing, or its options are invalid. The check runs before any work.
    """
    from mtx.components.check_and_build import TARGET_KEY, check_config
    from mtx.experiment.run_context import DATA_GROUPS, datamodule_of
    from mtx.training.datamodule import TranslationDataModule

    cfg = config if isinstance(config, DictConfig) else OmegaConf.create(dict(config))
    with told_interpolations():
        missing = [key for key in (*DATA_GROUPS, "seed") if cfg.get(key) is None]
    if missing:
        present = ", ".join(str(key) for key in cfg) or "none"
        raise ConfigError(
            f"a config of a data module has the groups {', '.join(DATA_GROUPS)} and the key seed, but this one lacks "
            f"{', '.join(missing)}; present: {present}. Add `translation_data` to the defaults list, and "
            "`hydra.searchpath: [pkg://mtx.conf]`; for `translation_data@data`, give cfg.data"
        )
    read = {key: plain_values(cfg, key) for key in (*DATA_GROUPS, "engine", "score", "seed") if key in cfg}
    for group in DATA_GROUPS:
        if not isinstance(read[group], Mapping) or TARGET_KEY not in read[group]:
            raise ConfigError(
                f"{group} is an option of mtx's group, with the key {TARGET_KEY}, but is {read[group]!r}. If the "
                f"application has a group {group!r} of its own, use `translation_data@data` and give cfg.data"
            )
    check_config(read)
    datamodule = datamodule_of(read)
    assert isinstance(datamodule, TranslationDataModule)
    return datamodule
