"""Convert Hydra's config to plain values, without a user's own variables."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from omegaconf import Container, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.app.omegaconf_messages import group_value_message, omegaconf_message
from mtx.components.check_and_build import TARGET_KEY
from mtx.components.groups import GROUPS, KEYS
from mtx.errors import ConfigError

REQUIRED_KEYS = ("seed", "budget", *(name for name, group in GROUPS.items() if not group.is_multiple))


def plain_config(cfg: DictConfig, *, also: str = "") -> dict[str, Any]:
    """Return a config as plain values, with all interpolations resolved.

    A top-level key that is no key of mtx is a variable of the user if an interpolation refers to it, as in
    `+my_lr=0.1 'model.learning_rate=${my_lr}'`. It is left out, since its value is where it is used. Another unknown
    key stays, and the check of the config reports it.

    Args:
        cfg: config of a job.
        also: more text that may refer to variables, such as the overrides of Hydra's own options.

    Raises:
        ConfigError: an interpolation cannot be resolved.
    """
    with told_interpolations():
        config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    for group in (name for name in REQUIRED_KEYS if name in GROUPS and name in config):
        if not isinstance(config[group], dict):
            raise ConfigError(group_value_message(group, config[group]))
    if deleted := [key for key in REQUIRED_KEYS if not _is_there(key, config)]:
        raise ConfigError(
            f"a run needs {', '.join(deleted)}, but the config has no such key. Leave out ~{deleted[0]}"
            + (f", or choose an option with {deleted[0]}=NAME" if deleted[0] in GROUPS else "")
        )
    own = [key for key in config if key not in KEYS | GROUPS.keys() and not _is_component(config[key])]
    if own:
        text = f"{OmegaConf.to_yaml(cfg, resolve=False)}\n{also}"
        used = {key for key in own if re.search(r"\$\{[^}]*(?<![\w.])" + re.escape(key) + r"(?!\w)", text)}
        config = {key: value for key, value in config.items() if key not in used}
    return config


def plain_values(cfg: DictConfig, key: str) -> Any:
    """Return the value of a key as plain values, with all interpolations resolved in the whole config.

    Raises:
        ConfigError: an interpolation cannot be resolved.
    """
    with told_interpolations():
        value = cfg[key]
        return OmegaConf.to_container(value, resolve=True) if isinstance(value, Container) else value


@contextmanager
def told_interpolations() -> Iterator[None]:
    """Convert errors of OmegaConf in the body of the `with` statement to ConfigError, with the key."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise ConfigError(omegaconf_message(error)) from error


def _is_there(key: str, config: dict[str, Any]) -> bool:
    """Return whether a required key is there; a group that was deleted may still have keys of an experiment."""
    return _is_component(config.get(key)) if key in GROUPS else key in config


def _is_component(value: Any) -> bool:
    return isinstance(value, dict) and TARGET_KEY in value
