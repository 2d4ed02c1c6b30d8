"""The callbacks of `trainer.callbacks`: checked before any work, since Lightning would fail after the preparation."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl

from mtx.components.allowed_targets import TARGET_KEY
from mtx.components.check_and_build import build
from mtx.errors import ConfigError

KEY = "trainer.callbacks"
EXAMPLE = f'Set "{KEY}=[{{_target_: mtx.training.callbacks.DataCosts}}]", or {KEY}=null for those of task=fit'


def build_callbacks(value: Any) -> list[pl.Callback]:
    """Build the callbacks that the option `trainer.callbacks` describes: null, one callback, or a list of them.

    Raises:
        ConfigError: the value is no list of callbacks, a target is not allowed, or a callback cannot be built.
    """
    if value is None:
        return []
    is_one = isinstance(value, Mapping) and TARGET_KEY in value
    if not is_one and not isinstance(value, list | tuple):
        raise ConfigError(f"{KEY} is a list of callbacks, each with a _target_, or null, but is {value!r}. {EXAMPLE}")
    listed = [(KEY, value)] if is_one else [(f"{KEY}[{i}]", each) for i, each in enumerate(value)]
    for key, each in listed:
        if not isinstance(each, Mapping) or TARGET_KEY not in each:
            raise ConfigError(f"{key} is a callback with a _target_, but is {each!r}. {EXAMPLE}")
    built = [(key, build({key: each}, key)) for key, each in listed]
    for key, callback in built:
        if not isinstance(callback, pl.Callback):
            raise ConfigError(f"{key} is a {type(callback).__name__}, which is no callback of Lightning. {EXAMPLE}")
    return [callback for _, callback in built]
