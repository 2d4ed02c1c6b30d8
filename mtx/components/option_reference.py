"""Reference of all options and their fields, read from the comments and values of the YAML files.

The effect of a field is the comment above it, its default is its value, and its type comes from the signature of its
component. Types are stored in `option_types.json`, so that `task=options` does not import torch and Lightning.
"""

import json
import pkgutil
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

import yaml

from mtx.components.allowed_targets import TARGET_KEY
from mtx.components.unchanged_packaged_options import CONFIGS, PRIMARY_CONFIG

# The safe dumper, in C if PyYAML was built with it, which takes a tenth of the time.
DUMPER: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
TYPES_FILE = "option_types.json"
NESTED_OPTIONS = "nested_options"  # attribute of a component: by field, the class whose fields its named entries have
FIELD_LINE = re.compile(r'(?P<indent> *)"?(?P<name>[A-Za-z_]\w*)"?:(?P<value>.*)')
UNIT_BY_SUFFIX = {"_tokens": "tokens", "_bytes": "bytes", "_s": "seconds", "_chars": "characters", "_words": "words"}
UNIT_BY_NAME = {
    "seconds": "seconds",
    "steps": "steps",
    "n": "pairs",
    "batch_size": "pairs",
    "language_tokens": "",
}  # fields whose name decides the unit


@dataclass(frozen=True)
class Field:
    """One field of an option.

    Attributes:
        key: key on a command line, such as `sampler.max_tokens`.
        default: default value as YAML text; `???` means that a value is required.
        type: type in words; empty if it is unknown.
        unit: unit, derived from the field's name; empty if there is none.
        effect: comment above the field.
    """

    key: str
    default: str
    type: str
    unit: str
    effect: str


@dataclass(frozen=True)
class Option:
    """One option of a config group.

    Attributes:
        group: name of the group, such as `sampler`; empty for the keys outside of groups.
        name: name of the option, such as `token_budget`.
        purpose: comment at the top of the file, without its commands.
        launches: commands in the comment at the top of the file, as examples.
        fields: fields in the order of the file.
    """

    group: str
    name: str
    purpose: str
    launches: tuple[str, ...]
    fields: tuple[Field, ...]


def all_options(*, resolve_types: bool = False) -> list[Option]:
    """Return the options of all groups, sorted by group and name, after one entry for the keys outside of groups.

    Args:
        resolve_types: whether to read types from the components' signatures, which imports all components, instead of
            from `option_types.json`.
    """
    root = resources.files(CONFIGS)
    known = None
    if not resolve_types:
        known = json.loads((resources.files(__package__) / TYPES_FILE).read_text(encoding="utf-8"))

    def option(group: str, name: str, text: str) -> Option:
        found = _parsed_option(group, name, text, resolve=known is None)
        types = (known or {}).get(f"{group}/{name}", {})
        return (
            found
            if known is None
            else replace(found, fields=tuple(replace(each, type=types.get(each.key, "")) for each in found.fields))
        )

    top = option("", "config", (root / PRIMARY_CONFIG).read_text(encoding="utf-8"))
    groups = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("_"))
    found = [top]
    for group in groups:
        for entry in sorted((root / group).iterdir(), key=lambda entry: entry.name):
            if entry.name.endswith(".yaml"):
                found.append(option(group, entry.name.removesuffix(".yaml"), entry.read_text(encoding="utf-8")))
    return found


def field_types(options: list[Option]) -> dict[str, dict[str, str]]:
    """Return the types of fields by option and key, as in `option_types.json`; unknown types are left out."""
    types = {f"{each.group}/{each.name}": {f.key: f.type for f in each.fields if f.type} for each in options}
    return {name: found for name, found in types.items() if found}


def _parsed_option(group: str, name: str, text: str, *, resolve: bool = True) -> Option:
    lines = text.splitlines()
    header: list[str] = []
    for line in lines:
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            header.append(line[1:])
    package = next((line.split()[-1] for line in lines if line.startswith("# @package")), group)
    launches = [line.strip() for line in header if re.match(r"\s+mtx\b", line)]
    purpose = " ".join(line.strip() for line in header if line.strip() not in launches)
    config = yaml.safe_load(text) or {}
    is_global = package == "_global_" or not group
    return Option(
        group,
        name,
        purpose.strip(),
        tuple(launches),
        tuple(_parsed_fields(package, lines, config, is_global, resolve=resolve)),
    )


def _parsed_fields(
    group: str, lines: list[str], config: Mapping[str, Any], is_global: bool, *, resolve: bool
) -> Iterator[Field]:
    """Yield the fields with their comments; a comment applies to all fields that follow it without an empty line."""
    path: list[tuple[int, str]] = []
    comment: list[str] = []
    is_open = False  # whether the previous line was a comment, too
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
        found = FIELD_LINE.fullmatch(line)
        if found is None:
            continue
        indent, name = len(found["indent"]), found["name"]
        if skipped_below is not None and indent > skipped_below:
            continue
        skipped_below = indent if name == "defaults" else None
        path = [(at, key) for at, key in path if at < indent] + [(indent, name)]
        keys = [key for _, key in path]
        if not group and keys[0] == "hydra":  # settings of folders, logs and the help text, which are left out
            continue
        value = _nested_value(config, keys)
        if name.startswith("_") or name == "defaults" or isinstance(value, Mapping):
            continue
        key = ".".join(keys if is_global else [group, *keys])
        yield Field(
            key, _yaml_text(value), _field_type(config, keys) if resolve else "", _field_unit(name), " ".join(comment)
        )


def _nested_value(config: Any, keys: list[str]) -> Any:
    for key in keys:
        config = config[key]
    return config


def _yaml_text(value: Any) -> str:
    text: str = yaml.dump(value, Dumper=DUMPER, default_flow_style=True, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _field_type(config: Mapping[str, Any], keys: list[str]) -> str:
    """Return the type of a field in words, from the signature of the component to which the field belongs."""
    owner = _nested_value(config, keys[:-1])
    target = owner.get(TARGET_KEY) if isinstance(owner, Mapping) else None
    nested = None
    if not target and len(keys) > 2 and (target := config.get(TARGET_KEY)):
        nested = getattr(pkgutil.resolve_name(target), NESTED_OPTIONS, {}).get(keys[0])
        if nested is None:
            return ""
    if not target or target == "???":
        return ""
    from mtx.components.check_and_build import parameter_annotations
    from mtx.components.checked_options import describe

    names, _ = parameter_annotations(nested or pkgutil.resolve_name(target))
    return describe(names[keys[-1]]) if keys[-1] in names else ""


def _field_unit(name: str) -> str:
    by_suffix = next((unit for ending, unit in UNIT_BY_SUFFIX.items() if name.endswith(ending)), "")
    return UNIT_BY_NAME.get(name, by_suffix)
