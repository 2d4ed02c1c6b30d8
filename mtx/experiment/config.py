"""From a config to objects, after a check that finds every mistake before any work begins.

Here a config is a plain dict, its interpolations resolved; the one place that sees Hydra's own type is `mtx.app`.
Hydra's `instantiate` turns every argument into its own containers, which a Store or a Planner does not survive, so
`build` makes objects itself, from the same keys: `_target_`, `_partial_`.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, Union

from mtx.errors import ConfigError, MtxError, choices
from mtx.experiment.targets import BASES, TARGET, located

Config = Mapping[str, Any]

__all__ = [
    "BASES",
    "FILLED_IN",
    "KNOWN",
    "MISSING",
    "PARTIAL",
    "TARGET",
    "Config",
    "build",
    "check",
    "parameters",
    "words",
]

MISSING = "???"
PARTIAL = "_partial_"

# What may stand at the top of a config; the last two belong to task=show.
KNOWN = frozenset({*BASES, "trainer", "logger", "task", "experiment", "seed", "ckpt", "sweep", "stage", "split"}) | {
    *("full", "repair"),  # of task=verify
    *("yes", "orphans"),  # of task=gc
    *("only", "to"),  # of task=options
    *("runs", "to"),  # of task=compare
    *("dataset", "to", "from", "format", "overwrite"),  # of task=export and task=import
}
# Parameters that mtx fills in while building. A config may not set those of the data module and the task.
FILLED_IN = {
    "datamodule": frozenset({"storage", "downloader", "filter", "tokenizer", "sampler", "seed"}),
    "task": frozenset({"run"}),
}
# Groups whose parameters are filled in from the data, where a config leaves them out or null.
FROM_DATA = frozenset({"model"})


def check(config: Config) -> None:
    """Bind every component's config to the signature of what it names, and make those that are cheap to make.

    Raises ConfigError that lists every problem, each with its key.
    """
    groups = [(group, options) for group, options in config.items() if isinstance(options, Mapping)]
    problems = [f"{key} is required: set {key}=VALUE" for group, options in groups for key in _missing(group, options)]
    seed = config.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        problems.append(f"seed is an integer of at least 0, but is {seed!r}")
    components = {group for group, options in groups if TARGET in options}  # also those of a user's own groups
    unknown = [key for key in config if key not in KNOWN | components]
    problems += [f"there is no group or key {key!r}. There are: {choices(key, KNOWN)}" for key in unknown]
    if not problems:
        for group, options in groups:
            if TARGET in options:
                problems += _problems(group, options, FILLED_IN.get(group, frozenset()))
    if problems:
        raise ConfigError("\n".join(problems))


def build(config: Config, group: str, **extra: Any) -> Any:
    """Make the component that `config[group]` describes.

    `extra` values go in under their names, where the component takes them by name and the config leaves them out or
    null. Raises ConfigError.
    """
    options = config[group]
    names, _ = parameters(located(options[TARGET], group))
    given = {name: value for name, value in extra.items() if name in names and options.get(name) is None}
    return _made({**options, **given}, group)


def _made(value: Any, key: str) -> Any:
    """Make what a config value describes: objects where it names a `_target_`, else the value."""
    if isinstance(value, Mapping):
        items = {name: _made(item, f"{key}.{name}") for name, item in value.items() if name not in (TARGET, PARTIAL)}
        if TARGET not in value:
            return items
        target = located(value[TARGET], key)
        if value.get(PARTIAL):
            return functools.partial(target, **items)
        try:
            return target(**items)
        except MtxError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{key} cannot be made: {value[TARGET]} says: {error}") from error
    if isinstance(value, list):
        return [_made(item, f"{key}[{i}]") for i, item in enumerate(value)]
    return value


def _missing(key: str, value: Any) -> Iterator[str]:
    if value == MISSING:
        yield key
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _missing(f"{key}.{name}", item)


def _components(key: str, value: Any) -> Iterator[tuple[str, Config]]:
    """Find what is to be made inside a value, at any depth, each with its key; not what stands inside of those."""
    if isinstance(value, Mapping):
        if TARGET in value:
            yield key, value
        else:
            for name, item in value.items():
                yield from _components(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _components(f"{key}[{i}]", item)


def _problems(key: str, options: Config, filled_in: frozenset[str]) -> list[str]:
    """List what is wrong with one component's config: its target, its keys, its values, nested ones too."""
    try:
        target = located(options[TARGET], key)
    except ConfigError as error:
        return [str(error)]
    names, takes_any = parameters(target)
    problems = []
    for name, value in options.items():
        if name in (TARGET, PARTIAL) or (value is None and name in names and key in FROM_DATA):
            continue
        if name in filled_in or (name not in names and not takes_any):
            problems.append(
                f"{key}.{name} is no setting of {options[TARGET].rpartition('.')[2]}. "
                f"It takes: {choices(name, set(names) - filled_in)}. "
                f"Where a recipe sets it, ~{key}.{name} leaves it out"
            )
        elif components := list(_components(f"{key}.{name}", value)):
            for inner, inner_options in components:
                problems += _problems(inner, inner_options, frozenset())
        elif name in names and not _fits(value, names[name]):
            problems.append(f"{key}.{name} is {words(names[name])}, but is {value!r}")
    if not options.get(PARTIAL):
        needed = _required(target) - set(options) - filled_in
        if key not in FROM_DATA:
            problems += [f"{key}.{name} is required: set +{key}.{name}=VALUE" for name in sorted(needed)]
    return problems


def _signature(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(target).parameters
    except ValueError:  # a builtin that tells nothing
        return {}


def parameters(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return the annotations of the parameters that can be given by name, and whether any name is taken."""
    found = _signature(target)
    try:
        hints = typing.get_type_hints(target.__init__ if isinstance(target, type) else target)  # type: ignore[misc]
    except (NameError, TypeError):  # annotations for type checkers only
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {name: hints.get(name, Any) for name, found_ in found.items() if found_.kind in named}
    return names, not found or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found.values())


def _required(target: Callable[..., Any]) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, p in _signature(target).items() if p.kind in named and p.default is p.empty}


def _fits(value: Any, annotation: Any) -> bool:
    """Tell whether a config value may stand where `annotation` is wanted; what is no plain type takes anything."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (None, type(None)):
        return value is None
    if annotation is bool or annotation is str:
        return isinstance(value, annotation)
    if annotation is int or annotation is float:
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping)
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return isinstance(value, (list, tuple))
    return True


def words(annotation: Any) -> str:
    """Describe an annotation for people: `an integer or null`."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    simple = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}
    if annotation in simple:
        return simple[annotation]
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join(words(argument) for argument in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return "a list"
    return str(getattr(annotation, "__name__", annotation))
