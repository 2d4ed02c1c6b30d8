"""Shell completion: suggest groups, options, keys and values for a command line, from the YAML files alone.

Hydra's own completion composes the whole config at each key press, which is slow. The shells still use Hydra's scripts
for bash, zsh and fish; mtx answers their calls before Hydra is imported.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from mtx.app.packaged_config_folder import packaged_config_folder
from mtx.components.groups import GROUPS

SEPARATORS = {"query=bash": " ", "query=zsh": " ", "query=fish": "\n"}  # by the argument that the shell's script passes
SAFE_WORD = re.compile(r"[\w.,=+/@-]+")  # suggestions with other characters are left out, since shells expand them
CHOSEN_GROUP = re.compile(r"override\s+/(\w+)")  # entry in the defaults list of an experiment
GROUPS_OF_OVERRIDES = frozenset({"experiment", "launcher", "sweeper"})  # groups whose options set keys of other groups
MAX_PATHS = 100


def answer(arguments: Sequence[str]) -> str | None:
    """Return the answer to a shell script that calls mtx with `arguments`, or None if Hydra has to answer."""
    if len(arguments) != 2 or arguments[0] not in ("-sc", "--shell-completion") or arguments[1] not in SEPARATORS:
        return None
    found = suggestions(os.environ.get("COMP_LINE", ""))
    return None if found is None else SEPARATORS[arguments[1]].join(found)


def suggestions(line: str) -> list[str] | None:
    """Return the completions of the last word of a command line, sorted; None for Hydra's own settings and for `~`.

    Names are groups with their options, also after a comma, and keys of the options that the command line, an
    experiment or the defaults choose. Values are true and false, or else existing files.
    """
    words = line.split()[1:]
    word = "" if line.endswith(" ") or not words else words.pop()
    sign, body = re.fullmatch(r"(\+{0,2})(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]  # matches anything
    if body.startswith(("hydra", "~")):
        return None
    if body.startswith("-"):
        return []
    configs = _ConfigFiles(words)
    found = _values(configs, body) if "=" in body else _keys(configs, body)
    return sorted(sign + one for one in found if SAFE_WORD.fullmatch(one))


class _ConfigFiles:
    """The config files that completion reads."""

    def __init__(self, words: Sequence[str]) -> None:
        folders = [Path(after) for word, after in pairwise(words) if word in ("--config-dir", "-cd")]
        self._roots = [*(folder for folder in folders if folder.is_dir()), packaged_config_folder()]
        self.groups = sorted({entry.name for root in self._roots for entry in root.iterdir() if _is_group(entry)})
        self._main = self._read("config")
        self._chosen = {key: str(option) for key, option in _default_options(self._main.get("defaults"))}
        said = dict(word.strip("'\"").lstrip("+").split("=", 1) for word in words if "=" in word)
        for name in ("experiment", *self.groups):
            if name in said and name in self.groups:
                is_list = name in GROUPS and GROUPS[name].is_multiple
                self._chosen[name] = said[name] if is_list else said[name].partition(",")[0]
            if name == "experiment":
                chosen = _default_options(self._read(f"experiment/{self._chosen.get(name)}").get("defaults"))
                self._chosen |= {one[1]: str(option) for key, option in chosen if (one := CHOSEN_GROUP.match(key))}

    def options(self, group: str) -> set[str]:
        """Return the names of a group's options."""
        entries = [entry for root in self._roots if (root / group).is_dir() for entry in (root / group).iterdir()]
        return {entry.name.removesuffix(".yaml") for entry in entries if entry.name.endswith(".yaml")}

    def keys(self, path: str) -> Mapping[str, Any]:
        """Return the keys below a key such as `budget` or `downloader.sources`; an empty `path` gives the top level."""
        names = path.split(".") if path else []
        if names and names[0] in GROUPS_OF_OVERRIDES:
            return {}
        if names and names[0] in GROUPS and GROUPS[names[0]].is_multiple:
            chosen = [name for name in self._chosen.get(names[0], "").strip("[]").split(",") if name]
            node: Any = {name: self._option(names[0], name) for name in chosen}
            names = names[1:]
        elif names and names[0] in self.groups:
            node = self._option(names[0], self._chosen.get(names[0], ""))
            names = names[1:]
        else:
            node = {key: value for key, value in self._main.items() if key not in ("defaults", "hydra")}
        for name in names:
            node = node.get(name) if isinstance(node, Mapping) else None
        return node if isinstance(node, Mapping) else {}

    def _option(self, group: str, option: str) -> dict[str, Any]:
        """Return the keys of an option, including those of the options in its defaults list."""
        read = self._read(f"{group}/{option}")
        parents = [name for name in read.pop("defaults", None) or [] if isinstance(name, str) and name != "_self_"]
        merged: dict[str, Any] = {}
        for parent in parents:
            merged |= self._option(group, parent) if parent != option else {}
        return merged | read

    def _read(self, name: str) -> dict[str, Any]:
        """Return the content of a config file, or an empty dict if the file is missing or unreadable."""
        for root in self._roots:
            try:
                read = yaml.safe_load((root / f"{name}.yaml").read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError):
                continue
            return {str(key): value for key, value in read.items()} if isinstance(read, dict) else {}
        return {}


def _keys(configs: _ConfigFiles, body: str) -> Iterator[str]:
    parent, dot, begun = body.rpartition(".")
    if not dot:
        yield from (f"{group}=" for group in configs.groups if group.startswith(begun))
        yield from (f"{group}." for group in configs.groups if group.startswith(begun) and configs.keys(group))
    for name, value in configs.keys(parent).items():
        if str(name).startswith(begun or tuple("abcdefghijklmnopqrstuvwxyz")):  # `_target_` only after a typed `_`
            yield f"{parent}{dot}{name}{'.' if isinstance(value, Mapping) and value else '='}"


def _values(configs: _ConfigFiles, body: str) -> Iterator[str]:
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
    for entry in [entry for entry in entries if entry.name.startswith(name)][:MAX_PATHS]:
        yield begun.removesuffix(name) + entry.name + ("/" if entry.is_dir() else "")


def _default_options(defaults: Any) -> Iterator[tuple[str, Any]]:
    for entry in defaults if isinstance(defaults, list) else []:
        if isinstance(entry, dict):
            yield from ((str(key), option) for key, option in entry.items())


def _is_group(entry: Path) -> bool:
    return entry.name.isidentifier() and entry.is_dir() and any(one.name.endswith(".yaml") for one in entry.iterdir())
