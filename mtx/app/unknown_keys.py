"""Explain an override of a key that the composed config does not have."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf

from mtx.app.corrected_command import command, replaced
from mtx.app.hydra_internals import sources_of, stored_config
from mtx.components.allowed_targets import TARGET_KEY, allowed_target
from mtx.components.check_and_build import parameter_annotations
from mtx.components.groups import GROUPS
from mtx.errors import ConfigError, choices


def key_problem(
    config: Mapping[str, Any],
    groups: set[str],
    override: Override,
    arguments: Sequence[str],
    loader: ConfigLoader,
) -> str | None:
    """Return what is wrong with the override `group.key=value`, and the command that is meant if it is known; or None.

    A key added by `+key` may be new; the check of the component's parameters covers it later.

    Args:
        config: config that the options on the command line give, as plain values.
        groups: names of all config groups.
        override: the override.
        arguments: all arguments of the command.
        loader: config loader, to look for the key in the other options of the group.
    """
    node: Any = config
    parts = override.key_or_group.split(".")
    if override.is_add() and (told := _present_key_problem(config, parts, override, arguments)) is not None:
        return told
    if (told := _list_problem(config, parts)) is not None or override.is_add() or override.is_force_add():
        return told
    for depth, part in enumerate(parts):
        inside = ".".join(parts[:depth])
        if not isinstance(node, Mapping):
            return f"{inside} is a single value without keys, so {override.key_or_group} does not exist"
        if part not in node:
            known = {str(name) for name in node if not str(name).startswith("_")}
            known |= set() if depth else {group for group in groups if not group.startswith("hydra/")}
            if not depth and part in GROUPS and GROUPS[part].is_multiple:
                return f"no option of {part} is chosen, so {override.key_or_group} does not exist. Add {part}=[NAME]"
            where = f"{inside} has no key" if inside else "there is no group or key"
            told = f"{where} {part!r}. There are: {choices(part, known)}"
            meant = _meant(config, override, depth, arguments, loader) if depth and not override.is_delete() else None
            return f"{told}. {meant}" if meant else told
        node = node[part]
    return None


def _present_key_problem(
    config: Mapping[str, Any], parts: Sequence[str], override: Override, arguments: Sequence[str]
) -> str | None:
    """Return how to set a key that `+key` would add, but that the config has; None if it has no such key."""
    node: Any = config
    for part in parts:
        node = node.get(part) if isinstance(node, Mapping) else None
    if node is None or isinstance(override.value(), dict | list):  # Hydra adds to a key without a value
        return None
    text = str(override.input_line)
    return (
        f"{override.key_or_group} has a value already, and + adds only new keys. Type: "
        f"{replaced(arguments, {text: text.lstrip('+')})}"
    )


def _list_problem(config: Mapping[str, Any], parts: Sequence[str]) -> str | None:
    """Return what is wrong with a key inside a list: the items of a list have numbers, and no names."""
    node: Any = config
    for depth, part in enumerate(parts):
        is_item = isinstance(node, list) and part.isdecimal() and int(part) < len(node)
        if isinstance(node, list) and not is_item:
            key = ".".join(parts[:depth])
            return (
                f"{key} is a list of {len(node)} items, so {'.'.join(parts)} does not exist. Set the whole list, as in "
                f"'{key}=[ITEM,ITEM]'"
            )
        node = node[int(part)] if is_item else node.get(part) if isinstance(node, Mapping) else None
    return None


def _meant(
    config: Mapping[str, Any], override: Override, depth: int, arguments: Sequence[str], loader: ConfigLoader
) -> str | None:
    """Return the command with `+`, if the class takes the key, or with an option of the group that has the key."""
    text, parts = str(override.input_line), override.key_or_group.split(".")
    group = parts[0]
    node: Any = config
    for part in parts[:depth]:
        node = node[part]
    if depth == 1 and group in GROUPS and GROUPS[group].is_multiple:
        return _meant_in_component(node, text, arguments)
    if isinstance(node, Mapping) and _takes(node, ".".join(parts[:depth]), parts[depth]):
        name = str(node[TARGET_KEY]).rpartition(".")[2]
        return f"{name} takes it; add it with +: {replaced(arguments, {text: f'+{text}'})}"
    if group == "task" and "task=check" in arguments:
        typed = [(each, each.lstrip("+").partition("=")[0]) for each in arguments]
        kept = [each for each, key in typed if not key.startswith("task.") or key.removeprefix("task.") in node]
        return f"task=check checks no keys of another task. Leave them out: {command(kept)}"
    group = parts[1] if group == "hydra" else group  # groups of mtx choose the launcher and the sweeper of Hydra
    options = [
        name
        for name in _options(loader, group)
        if _may_have_key(loader, group, name, parts) and _has_key(loader, group, name, parts)
    ]
    if not options:
        return None
    kept = [argument for argument in arguments if argument.partition("=")[0] != group]
    told = f"{group}={options[0]} has it" + (f", as have {', '.join(options[1:])}" if options[1:] else "")
    return f"{told}: {replaced(kept, {text: text}, added=[f'{group}={options[0]}'])}"


def _meant_in_component(components: Mapping[str, Any], text: str, arguments: Sequence[str]) -> str | None:
    """Return the command with GROUP.NAME.KEY in place of GROUP.KEY, for a group of which several options are chosen."""
    group, _, key = text.lstrip("+").partition(".")
    first = key.partition("=")[0].partition(".")[0]
    if first == TARGET_KEY:
        return f"Name a component of your own: {replaced(arguments, {text: f'+{group}.own.{key}'})}"
    for name, options in components.items():
        if isinstance(options, Mapping) and (first in options or _takes(options, f"{group}.{name}", first)):
            plus = "" if first in options else "+"
            return f"{name} has it: {replaced(arguments, {text: f'{plus}{group}.{name}.{key}'})}"
    return None


def _takes(options: Mapping[str, Any], key: str, name: str) -> bool:
    """Return whether the class that a component's config names takes an argument of this name from the config."""
    if key in GROUPS and name in GROUPS[key].filled_in:
        return False
    if not isinstance(options.get(TARGET_KEY), str):
        return False
    try:
        names, takes_any = parameter_annotations(allowed_target(options[TARGET_KEY], key))
    except ConfigError:
        return False
    return name in names or takes_any


def _options(loader: ConfigLoader, group: str) -> list[str]:
    return loader.get_group_options(group, ObjectType.CONFIG)


def _may_have_key(loader: ConfigLoader, group: str, option: str, parts: Sequence[str]) -> bool:
    """Return whether the file of an option has the key, or refers to other files; only then a composition can have it.

    A composition takes a tenth of a second, and a group has a dozen options.
    """
    stored = stored_config(f"{group}/{option}", sources_of(loader))
    if stored is None or stored.package != parts[0] or stored.options or stored.configs:
        return True
    return parts[1] in stored.content


def _has_key(loader: ConfigLoader, group: str, option: str, parts: Sequence[str]) -> bool:
    try:
        cfg = loader.load_configuration("config", [f"{group}={option}"], run_mode=RunMode.RUN)
    except HydraException:
        return False
    node: Any = OmegaConf.to_container(cfg, resolve=False)
    for part in parts:
        if not isinstance(node, Mapping) or part not in node:
            return False
        node = node[part]
    return True
