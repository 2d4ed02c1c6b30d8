"""Recognize options that are unchanged from mtx's own YAML files: these are valid, so their classes need no import."""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONFIGS = "mtx.conf"
PRIMARY_CONFIG = "config.yaml"
INTERPOLATION = "${"
WORD = re.compile(r"\w+")
READ_BY_RESOLVERS = ("budget", "score", "seed")  # keys that `mtx.app.resolvers` reads without a word in the YAML file
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of yaml.safe_load, by libyaml where it is there


def is_packaged(group: str, config: Mapping[str, Any], name: str | None = None) -> bool:
    """Return whether the config of a group equals one of the group's packaged options in every value.

    `name` is the name of a component in a group with several components, whose packaged option has the same name.
    """
    if name is not None:
        return name in _packaged(group) and _is_same(config[group][name], _packaged(group)[name])
    for packaged in _packaged(group).values():
        # An option of the package `_global_` has its group as a key, beside top-level keys such as `stage`.
        own = packaged if group in packaged else {group: packaged}
        options = {key: config.get(key) for key in own}
        if _is_same(options, own, any_for=INTERPOLATION) and _is_same(options, _resolved(own, config)):
            return True
    return False


def example_with(key: str) -> str | None:
    """Return the first command in the comments of a packaged option GROUP.OPTION that sets a key, or None."""
    group, _, rest = key.partition(".")
    file = resources.files(CONFIGS) / group / f"{rest.partition('.')[0]}.yaml"
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    return next((line.lstrip("# ") for line in lines if line.startswith("#") and f"{key}=" in line), None)


def _resolved(packaged: Mapping[str, Any], config: Mapping[str, Any]) -> Any:
    """Return packaged keys with their interpolations resolved in this config, or None if one cannot be resolved."""
    text = str(packaged)
    if INTERPOLATION not in text:
        return packaged
    words = {*WORD.findall(text), *READ_BY_RESOLVERS}
    named = {key: value for key, value in config.items() if key in words}  # OmegaConf takes 10 ms for a whole config
    try:
        resolved = OmegaConf.create({**named, **packaged})
        values = {key: resolved[key] for key in packaged}
        return {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in values.items()
        }
    except OmegaConfBaseException:
        return None


@cache
def _packaged(group: str) -> Mapping[str, Mapping[str, Any]]:
    return dict(_options(group))


def _options(group: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    root = resources.files(CONFIGS)
    if (folder := root / group).is_dir():
        for entry in folder.iterdir():
            if entry.name.endswith(".yaml"):
                yield entry.name.removesuffix(".yaml"), _with_bases(root / group, entry.name)
    elif isinstance(found := _read((root / PRIMARY_CONFIG).read_text(encoding="utf-8")).get(group), Mapping):
        yield group, found


def _with_bases(folder: Traversable, name: str) -> Mapping[str, Any]:
    """Return the content of an option, merged over the options of its group that its defaults list names."""
    own = _read((folder / name).read_text(encoding="utf-8"))
    bases = [base for base in own.get("defaults", ()) if isinstance(base, str) and base != "_self_"]
    merged: dict[str, Any] = {}
    for base in bases:
        name, _, package = base.partition("@")  # NAME@KEY puts the option NAME under KEY
        found = _with_bases(folder, f"{name}.yaml")
        merged |= {package: found} if package else found
    return merged | {key: value for key, value in own.items() if key != "defaults"}


def _read(text: str) -> Mapping[str, Any]:
    found = LOADER(text).get_single_data()
    return found if isinstance(found, Mapping) else {}


def _is_same(value: Any, packaged: Any, *, any_for: str | None = None) -> bool:
    """Return whether a value equals a packaged one; a packaged text that contains `any_for` equals every value."""
    if any_for and isinstance(packaged, str) and any_for in packaged:
        return True
    if isinstance(packaged, Mapping):
        return (
            isinstance(value, Mapping)
            and value.keys() == packaged.keys()
            and all(_is_same(item, packaged[key], any_for=any_for) for key, item in value.items())
        )
    if isinstance(packaged, list):
        return (
            isinstance(value, list)
            and len(value) == len(packaged)
            and all(_is_same(item, other, any_for=any_for) for item, other in zip(value, packaged, strict=True))
        )
    return type(value) is type(packaged) and bool(value == packaged)
