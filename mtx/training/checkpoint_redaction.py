"""Hide the secrets among the hyperparameters of a model, in checkpoints and for loggers: people share both."""

import argparse
import copy
import dataclasses
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from operator import is_
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import Strategy
from pytorch_lightning.utilities.parsing import AttributeDict

from mtx.redaction_and_escaping import json_redactor

HYPERPARAMETER_KEYS = (
    pl.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY,
    pl.LightningDataModule.CHECKPOINT_HYPER_PARAMS_KEY,
)


def redact_checkpoints(trainer: pl.Trainer, config: Mapping[str, Any]) -> None:
    """Hide secrets in the hyperparameters of each checkpoint that a Trainer saves, by wrapping its strategy.

    Each checkpoint passes through `save_checkpoint` of the strategy, also one with weights alone, for which Lightning
    calls no callback. The strategy writes it by a plugin or, as FSDP and DeepSpeed do, by itself. A run that resumes
    builds its model from the config, so it needs no hyperparameters of the checkpoint.

    Args:
        trainer: the Trainer.
        config: the config of the run, whose secrets are hidden wherever they stand.
    """
    trainer.strategy.save_checkpoint = _RedactedSave(trainer.strategy, config)  # type: ignore[method-assign]


class _RedactedSave:
    """`Strategy.save_checkpoint` for checkpoints without secrets. Picklable, for strategies that spawn processes."""

    def __init__(self, strategy: Strategy, config: Mapping[str, Any]) -> None:
        self._strategy = strategy
        self._config = config

    def __call__(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        found = {key: hidden(checkpoint[key], self._config) for key in HYPERPARAMETER_KEYS if key in checkpoint}
        save = type(self._strategy).save_checkpoint
        save(self._strategy, {**checkpoint, **found}, filepath, storage_options=storage_options)


def redact_for_loggers(model: pl.LightningModule, config: Mapping[str, Any]) -> None:
    """Hide secrets in the hyperparameters that Lightning gives to loggers."""
    if given := model.hparams_initial:
        model._hparams_initial = AttributeDict(hidden(dict(given), config))  # type: ignore[assignment]  # undeclared


def hidden(hyperparameters: Any, config: Mapping[str, Any]) -> Any:
    """Return hyperparameters with `***` in place of secrets; a value without secrets is returned as it is.

    Mappings, lists, tuples, namespaces and dataclasses are searched; other objects stay as they are.

    Args:
        hyperparameters: the values by name.
        config: the config of the run, whose secrets are hidden, too.
    """
    return _hidden(hyperparameters, "", json_redactor(config))


def _hidden(value: Any, key: str, hide: Callable[[Any], Any]) -> Any:
    if isinstance(value, str):
        told = hide({key: value})[key]
        return value if told == value else told
    if isinstance(value, Mapping):
        found = _readable(value)
        made = {name: _hidden(item, str(name), hide) for name, item in found.items()}
        return value if all(made[name] is item for name, item in found.items()) else made
    if isinstance(value, list | tuple) or type(value).__name__ == "ListConfig":  # a list of OmegaConf
        old = list(value)
        new = [_hidden(item, key, hide) for item in old]
        return value if all(map(is_, old, new)) else tuple(new) if isinstance(value, tuple) else new
    is_dataclass = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if is_dataclass or isinstance(value, argparse.Namespace | types.SimpleNamespace):
        fields = getattr(value, "__dict__", {})
        if (shown := _hidden(fields, key, hide)) is not fields:
            value = copy.copy(value)
            value.__dict__.update(shown)
    return value


def _readable(values: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the values of a mapping without those that cannot be read, such as `???` in a config of OmegaConf."""
    found = {}
    for name in values:
        with suppress(Exception):  # any error of a resolver
            found[name] = values[name]
    return found
