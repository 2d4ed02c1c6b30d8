"""Checks `trainer.callbacks` before any work: Lightning would fail with an error of its own, after the preparation."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from mtx.components.allowed_targets import TARGET_KEY
from mtx.errors import ConfigError

KEY = "trainer.callbacks"
EXAMPLE = f'Set "{KEY}=[{{_target_: mtx.training.callbacks.DataCosts}}]", or {KEY}=null for those of task=fit'


def check_callbacks(value: Any) -> None:
    """Check the option `trainer.callbacks`: null, one callback, or a list of them. Raises ConfigError."""
    if value is None or _is_component(value):
        return
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{KEY} is a list of callbacks, each with a _target_, or null, but is {value!r}. {EXAMPLE}")
    for number, item in enumerate(value):
        if not _is_component(item):
            raise ConfigError(f"{KEY}[{number}] is a callback with a _target_, but is {item!r}. {EXAMPLE}")


def check_built_callbacks(callbacks: list[Any]) -> None:
    """Check that the objects that the option names are callbacks of Lightning. Raises ConfigError."""
    for item in callbacks:
        if not isinstance(item, pl.Callback):
            raise ConfigError(f"{KEY} has a {type(item).__name__}, which is no callback of Lightning. {EXAMPLE}")


def _is_component(value: Any) -> bool:
    return isinstance(value, pl.Callback) or (isinstance(value, Mapping) and TARGET_KEY in value)
