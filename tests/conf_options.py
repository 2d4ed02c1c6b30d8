"""Read the config groups and options in conf/, so that tests cover a new option without a change of the test."""

import pkgutil
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[1] / "conf"
LAYERS = ("objects", "files", "datasets")  # the keys in which the options of the config group `storage` differ


def options(group: str) -> list[str]:
    """Return the names of all options of a group, sorted."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@cache
def settings(group: str, option: str) -> dict[str, Any]:
    """Return the content of an option's YAML file."""
    loaded = yaml.safe_load((CONF / group / f"{option}.yaml").read_text())
    assert isinstance(loaded, dict)
    return loaded


def target(group: str, option: str) -> Any:
    """Return the class or function in an option's `_target_`."""
    return pkgutil.resolve_name(settings(group, option)["_target_"])


def storages() -> dict[str, dict[str, Any]]:
    """Return the layers of each option of the config group `storage`, as arguments of `Store`."""

    def made(value: Any) -> Any:
        return pkgutil.resolve_name(value["_target_"]) if isinstance(value, dict) else value

    named = {option: settings("storage", option) for option in options("storage")}
    return {option: {name: made(said[name]) for name in LAYERS if name in said} for option, said in named.items()}


def layers(kind: str) -> list[Any]:
    """Return the classes of all layers of one kind (`objects` or `files`), in the order of their names."""
    return sorted({layer[kind] for layer in storages().values()}, key=lambda layer: str(layer.__name__))
