"""What every option of every group is for, and every field of it: read from the YAML files, which explain themselves.

A field's effect is the comment above it, its default the value, its type what its component's signature says.
"""

import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

import yaml

from mtx.experiment.config import TARGET, parameters, words

CONFIGS = "mtx.conf"
PRIMARY = "config.yaml"
FIELD = re.compile(r"(?P<indent> *)(?P<name>[A-Za-z_]\w*):(?P<value>.*)")
UNITS = {"_tokens": "tokens", "_bytes": "bytes", "_s": "seconds", "_chars": "characters", "_words": "words"}
WHOLE = {"seconds": "seconds", "steps": "steps", "n": "pairs", "batch_size": "pairs"}  # names that are their unit


@dataclass(frozen=True)
class Field:
    """One field of an option.

    Attributes:
        key: what a command line says: `sampler.max_tokens`.
        default: as YAML writes it; `???`: has to be given.
        type: in words; empty where nothing says it.
        unit: by the field's name; empty without one.
        effect: what the comment says.
    """

    key: str
    default: str
    type: str
    unit: str
    effect: str


@dataclass(frozen=True)
class Option:
    """One option of a group.

    Attributes:
        group: such as `sampler`; empty for what stands at the top of the config.
        name: such as `token_budget`.
        purpose: what it is for.
        launches: commands that show it.
        fields: in the file's order.
    """

    group: str
    name: str
    purpose: str
    launches: tuple[str, ...]
    fields: tuple[Field, ...]


def all_options() -> list[Option]:
    """Read the options of all groups, by group and name, and first what stands at the top."""
    root = resources.files(CONFIGS)
    top = _option("", "config", (root / PRIMARY).read_text(encoding="utf-8"))
    groups = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    found = [top]
    for group in groups:
        for entry in sorted((root / group).iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".yaml"):
                found.append(_option(group, entry.name.removesuffix(".yaml"), entry.read_text(encoding="utf-8")))
    return found


def _option(group: str, name: str, text: str) -> Option:
    lines = text.splitlines()
    header: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            header.append(line[1:])
    launches = [line.strip() for line in header if re.match(r"\s+mtx\b", line)]
    purpose = " ".join(line.strip() for line in header if line.strip() not in launches)
    config = yaml.safe_load(text) or {}
    is_global = "# @package _global_" in text or not group
    return Option(group, name, purpose.strip(), tuple(launches), tuple(_fields(group, lines, config, is_global)))


def _fields(group: str, lines: list[str], config: Mapping[str, Any], is_global: bool) -> Iterator[Field]:
    """Find the fields with their comments; a comment explains all that follow it without a gap."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    is_open = False  # the comment goes on
    skipped_below: int | None = None  # inside the defaults list
    for line in lines:
        stripped = line.strip()
        if stripped.startswith("#"):
            comment = [*comment, stripped[1:].strip()] if is_open else [stripped[1:].strip()]
            is_open = True
            continue
        if not stripped:
            comment, is_open = [], False
            continue
        is_open = False
        found = FIELD.fullmatch(line)
        if found is None:
            continue
        indent, name = len(found["indent"]), found["name"]
        if skipped_below is not None and indent > skipped_below:
            continue
        skipped_below = indent if name == "defaults" else None
        path = [(at, key) for at, key in path if at < indent] + [(indent, name)]
        keys = [key for _, key in path]
        value = _at(config, keys)
        if name.startswith("_") or name == "defaults" or isinstance(value, Mapping):
            continue
        if not group and keys[0] == "hydra":  # mtx's own choices of folders and of the help text
            continue
        key = ".".join(keys if is_global else [group, *keys])
        yield Field(key, _written(value), _type(config, keys), _unit(name), " ".join(comment))


def _at(config: Any, keys: list[str]) -> Any:
    for key in keys:
        config = config[key]
    return config


def _written(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _type(config: Mapping[str, Any], keys: list[str]) -> str:
    """Return the type of a field in words, by the signature of the component that it belongs to."""
    owner = _at(config, keys[:-1])
    target = owner.get(TARGET) if isinstance(owner, Mapping) else None
    if not target or target == "???":
        return ""
    names, _ = parameters(pkgutil.resolve_name(target))
    return words(names[keys[-1]]) if keys[-1] in names else ""


def _unit(name: str) -> str:
    return WHOLE.get(name) or next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")
