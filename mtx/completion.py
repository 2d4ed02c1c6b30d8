"""Shell completion: what may follow on a command line, read from the YAML files alone.

Hydra's own completion composes the whole config for each press of the key, which takes longer than people like to wait.
Its scripts for bash, zsh and fish are used as they are; their question is answered here, before Hydra is imported.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

CONFIG_MODULE = "mtx.conf"
SEPARATORS = {"query=bash": " ", "query=zsh": " ", "query=fish": "\n"}  # by what the shells' scripts ask
PLAIN = re.compile(r"[\w.,=+/@-]+")  # shells expand what they are given: nothing else goes to them
CHOOSES = re.compile(r"override\s+/(\w+)")  # in the defaults list of an experiment
ELSEWHERE = frozenset({"experiment", "launcher", "sweeper"})  # groups whose options set keys of others
MOST_PATHS = 100


def answer(arguments: Sequence[str]) -> str | None:
    """Return what a shell's script that calls mtx with `arguments` wants to read; None where Hydra has to answer."""
    if len(arguments) != 2 or arguments[0] not in ("-sc", "--shell-completion") or arguments[1] not in SEPARATORS:
        return None
    found = suggestions(os.environ.get("COMP_LINE", ""))
    return None if found is None else SEPARATORS[arguments[1]].join(found)


def suggestions(line: str) -> list[str] | None:
    """Return what the last word of a command line may become, sorted; None for Hydra's own settings and for `~`.

    Groups, with their options also behind a comma; keys of the options that are chosen by the words before, by an
    experiment, or by default; true and false; and for other values the files that are there.
    """
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    sign, body = re.fullmatch(r"(\+{0,2})(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]  # matches anything
    if body.startswith(("hydra", "~")):
        return None
    if body.startswith("-"):
        return []
    configs = _Configs(words)
    found = _values(configs, body) if "=" in body else _keys(configs, body)
    return sorted(sign + one for one in found if PLAIN.fullmatch(one))


class _Configs:
    """The config files, as far as completion looks into them."""

    def __init__(self, words: Sequence[str]) -> None:
        folders = [Path(after) for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
        self._roots: list[Traversable] = [*(folder for folder in folders if folder.is_dir()), files(CONFIG_MODULE)]
        self.groups = sorted({entry.name for root in self._roots for entry in root.iterdir() if _is_group(entry)})
        self._main = self._read("config")
        self._chosen = {key: str(option) for key, option in _pairs(self._main.get("defaults"))}
        said = dict(word.lstrip("+").split("=", 1) for word in words if "=" in word)
        for name in ("experiment", *self.groups):
            if name in said and name in self.groups:
                self._chosen[name] = said[name].partition(",")[0]
            if name == "experiment":
                chosen = _pairs(self._read(f"experiment/{self._chosen.get(name)}").get("defaults"))
                self._chosen |= {one[1]: str(option) for key, option in chosen if (one := CHOOSES.match(key))}

    def options(self, group: str) -> set[str]:
        """Return the names of a group's options."""
        entries = [entry for root in self._roots if (root / group).is_dir() for entry in (root / group).iterdir()]
        return {entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")}

    def keys(self, path: str) -> Mapping[str, Any]:
        """Return what is under a key such as `budget` or `downloader.sources`; of the empty one, what is at the top."""
        names = path.split(".") if path else []
        if names and names[0] in ELSEWHERE:
            return {}
        if names and names[0] in self.groups:
            node: Any = self._option(names[0], self._chosen.get(names[0], ""))
            names = names[1:]
        else:
            node = {key: value for key, value in self._main.items() if key not in ("defaults", "hydra")}
        for name in names:
            node = node.get(name) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) else {}

    def _option(self, group: str, option: str) -> dict[str, Any]:
        """Return the keys of an option, with those of the options of its group that it is made from."""
        read = self._read(f"{group}/{option}")
        parents = [name for name in read.pop("defaults", None) or [] if isinstance(name, str) and name != "_self_"]
        merged: dict[str, Any] = {}
        for parent in parents:
            merged |= self._option(group, parent) if parent != option else {}
        return merged | read

    def _read(self, name: str) -> dict[str, Any]:
        """Return a config file's content; nothing where it is missing or cannot be read."""
        for root in self._roots:
            try:
                read = yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            return {str(key): value for key, value in read.items()} if isinstance(read, dict) else {}
        return {}


def _keys(configs: _Configs, body: str) -> Iterator[str]:
    parent, dot, begun = body.rpartition(".")
    if not dot:
        yield from (f"{group}=" for group in configs.groups if group.startswith(begun))
        yield from (f"{group}." for group in configs.groups if group.startswith(begun) and configs.keys(group))
    for name, value in configs.keys(parent).items():
        if str(name).startswith(begun or tuple("abcdefghijklmnopqrstuvwxyz")):  # `_target_` where `_` was typed
            yield f"{parent}{dot}{name}{'.' if isinstance(value, Mapping) and value else '='}"


def _values(configs: _Configs, body: str) -> Iterator[str]:
    key, _, value = body.partition("=")
    before, comma, begun = value.rpartition(",")
    if key in configs.groups:
        found = configs.options(key).difference(before.split(","))
    elif isinstance(configs.keys(key.rpartition(".")[0]).get(key.rpartition(".")[2]), bool):
        found = {"true", "false"}
    else:
        found = set(_paths(begun))
    yield from (f"{key}={before}{comma}{one}" for one in found if one.startswith(begun))


def _paths(begun: str) -> Iterator[str]:
    folder, name = os.path.split(begun)
    try:
        entries = sorted(os.scandir(folder or "."), key=lambda entry: entry.name) if begun else []
    except (OSError, ValueError):
        return
    for entry in [entry for entry in entries if entry.name.startswith(name)][:MOST_PATHS]:
        yield begun.removesuffix(name) + entry.name + ("/" if entry.is_dir() else "")


def _pairs(defaults: Any) -> Iterator[tuple[str, Any]]:
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, dict):
            yield from ((str(key), option) for key, option in entry.items())


def _is_group(entry: Traversable) -> bool:
    return entry.name.isidentifier() and entry.is_dir() and any(one.name.endswith(".yaml") for one in entry.iterdir())
