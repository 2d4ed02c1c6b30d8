"""Check a config against the signatures of its components before any work, and build the components.

A config is a plain dict with resolved interpolations; only `mtx.app` handles Hydra's DictConfig.
`hydra.utils.instantiate` builds the objects after `allowed_target` has checked their targets.
"""

import contextlib
import dataclasses
import functools
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mtx.components.allowed_targets import TARGET_KEY, allowed_target
from mtx.components.groups import GROUPS, KEYS, SHORT_KEYS, group_of
from mtx.components.unchanged_packaged_options import example_with, is_packaged
from mtx.errors import ConfigError, MtxError, choices
from mtx.exhausted_resources import raise_if_exhausted
from mtx.library_errors import first_cause, library_reason

Config = Mapping[str, Any]

__all__ = ["MISSING_VALUE", "PARTIAL_KEY", "TARGET_KEY", "Config", "build", "check_config", "parameter_annotations"]

MISSING_VALUE = "???"
MAX_SEED = 2**32  # numpy takes no larger seed
PARTIAL_KEY = "_partial_"
REFUSALS = (TypeError, ValueError, ImportError)  # errors by which a constructor refuses its arguments
LIGHTNING_GROUPS = ("trainer", "logger")  # classes of Lightning and their plug-ins raise errors of many kinds
# Lightning says `Requirement 'wandb>=0.12' not met`, Python `No module named 'wandb'`, others `pip install wandb`.
MISSING_PACKAGE = re.compile(
    r"""(?:pip3? install (?:-U )?[`'"]?|Requirement ['"]|No module named ['"])([A-Za-z0-9][\w-]*)"""
)
INTERPOLATION = re.compile(r"(\\*)\$\{")


def check_config(config: Config) -> None:
    """Check the options of every component against the signature of its `_target_`.

    Options that are unchanged from mtx's own YAML files are skipped.

    Raises:
        ConfigError: the config is invalid; the message lists every problem with its key.
    """
    groups = [(group, options) for group, options in config.items() if isinstance(options, Mapping)]
    problems = [_required(key) for group, options in groups for key in _missing_keys(group, options)]
    seed = config.get("seed", 0)
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < MAX_SEED:
        problems.append(f"seed must be an integer of at least 0 and below {MAX_SEED}, but is {seed!r}. Set seed=0")
    components = {group for group, options in groups if TARGET_KEY in options}  # includes a user's own groups
    known = KEYS | GROUPS.keys()
    unknown = [key for key in config if key not in known | components]
    problems += [f"there is no group or key {key!r}. There are: {choices(key, known)}" for key in unknown]
    if not problems:
        for group, options in groups:
            if group in GROUPS and GROUPS[group].is_multiple:
                problems += _problems_of_multiple(group, config)
            elif TARGET_KEY in options and not is_packaged(group, config):
                filled_in = GROUPS[group].filled_in if group in GROUPS else frozenset()
                told = _problems(group, options, filled_in)
                problems += [_with_short_keys(text, config) for text in told] if group == "task" else told
    if problems:
        raise ConfigError("\n".join(problems))


def _with_short_keys(problem: str, config: Config) -> str:
    """Return a message about a task's options with `to` instead of `task.to`, where the value was set by `to`."""

    def short(found: re.Match[str]) -> str:
        name = SHORT_KEYS.get(found[1], found[1])
        values = [repr(where.get(key)) for where, key in ((config, name), (config["task"], found[1]))]  # 0 is not false
        return name if name in KEYS and config.get(name) is not None and values[0] == values[1] else found[0]

    return re.sub(r"\btask\.(\w+)", short, problem)


def build(config: Config, group: str, **extra: Any) -> Any:
    """Build the component that `config[group]` describes.

    A value of `extra` is passed under its name if the component has such a parameter and the config leaves it out or
    null.

    Raises:
        ConfigError: a target is not allowed, or the component cannot be built.
    """
    options = config[group]
    names, _ = parameter_annotations(allowed_target(options[TARGET_KEY], group))
    given = {name: value for name, value in extra.items() if name in names and options.get(name) is None}
    _check_targets(group, options)
    # Hydra builds a partial first. Plain values and `extra` are passed afterwards: Hydra needs up to 1 ms for each
    # plain value, and would convert objects in `extra`, such as a Store or a Planner, to its own containers.
    kept = {name: value for name, value in options.items() if name not in given}
    is_called = all(name == TARGET_KEY or not str(name).startswith("_") for name in kept)  # without words to Hydra
    plain = {
        name: _copied(value) for name, value in kept.items() if is_called and name != TARGET_KEY and _is_plain(value)
    }
    built = {name: _as_it_is(value) for name, value in kept.items() if name not in plain}
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    try:
        make = instantiate({**built, PARTIAL_KEY: True}, _convert_="all")
        if options.get(PARTIAL_KEY):
            return functools.partial(make, **given) if given else make
        return make(**plain, **given)
    except Exception as error:
        cause = first_cause(error) if isinstance(error, InstantiationException) else error
        raise_if_exhausted(cause)
        if isinstance(cause, MtxError):
            raise cause from cause.__cause__  # an error that is its own cause would make each search of causes endless
        if cause is error and not isinstance(error, REFUSALS) and group.partition(".")[0] not in LIGHTNING_GROUPS:
            raise
        raise _construction_error(group, options, cause, _refused_keys(group, _as_it_is(kept), given)) from error


def _refused_keys(group: str, options: Config, given: Config) -> list[str]:
    """Return the keys without which a component of Lightning can be built, since its errors name no key."""
    from hydra.utils import instantiate

    found: list[str] = []
    for name in options if group.partition(".")[0] in LIGHTNING_GROUPS else ():
        rest = {key: value for key, value in options.items() if key != name}
        if name in (TARGET_KEY, PARTIAL_KEY) or options[name] is None:
            continue
        with contextlib.suppress(Exception):
            instantiate({**rest, PARTIAL_KEY: True}, _convert_="all")(**given)
            found.append(name)
    return found


def _construction_error(group: str, options: Config, error: BaseException, refused: Sequence[str]) -> ConfigError:
    """Return the error of mtx for an error that a component's constructor has raised, or another library.

    Args:
        group: key of the component.
        options: its options.
        error: what the constructor raised.
        refused: keys of `options` without which the component can be built.
    """
    name = str(options[TARGET_KEY]).rpartition(".")[2]
    if isinstance(error, ImportError):
        package = _missing_package(error)
        other = ", or set logger=csv" if group.partition(".")[0] == "logger" else ""
        return ConfigError(f"{group} needs the package {package} for {name}: pip install {package}{other}")
    reason = f"{group} cannot be built: {options[TARGET_KEY]} refuses its options: {library_reason(error)}"
    named = [f"{group}.{name}, which is {options[name]!r}" for name in refused]
    return ConfigError(f"{reason}. Change {' or '.join(named) or f'the options of {group}'}")


def _missing_package(error: ImportError) -> str:
    """Return the name of the package that an ImportError misses."""
    said = str(error)
    found = MISSING_PACKAGE.search(said)
    return found[1] if found else (error.name or "").partition(".")[0] or said


def build_multiple(config: Config, group: str, **extra: Any) -> dict[str, Any]:
    """Build all components of a group from which several options can be chosen, by name; see `build` for `extra`.

    Raises:
        ConfigError: a target is not allowed, or a component cannot be built.
    """
    found = config.get(group) or {}
    return {name: build({f"{group}.{name}": options}, f"{group}.{name}", **extra) for name, options in found.items()}


def _problems_of_multiple(group: str, config: Config) -> list[str]:
    problems = []
    for name, options in config[group].items():
        if name == TARGET_KEY:
            problems.append(
                f"{group} has a {TARGET_KEY} of its own, but each of its components has a name. Begin the YAML file "
                f"with # @package {group}.NAME, or type +{group}.own.{TARGET_KEY}={options}"
            )
        elif TARGET_KEY in config[group]:
            continue  # the arguments of that component
        elif not isinstance(options, Mapping) or TARGET_KEY not in options:
            problems.append(
                f"{group}.{name} must be {GROUPS[group].noun}, but has no {TARGET_KEY}. Choose packaged options with "
                f"{group}=[NAME], or name a class with +{group}.{name}.{TARGET_KEY}=MODULE.CLASS"
            )
        elif not is_packaged(group, config, name):
            problems += _problems(f"{group}.{name}", options, frozenset())
    return problems


def _check_targets(key: str, options: Config) -> None:
    """Check the targets of all components nested in a component, at any depth. Raises ConfigError."""
    for name, value in options.items():
        for inner, inner_options in _nested_components(f"{key}.{name}", value):
            allowed_target(inner_options[TARGET_KEY], inner)
            _check_targets(inner, inner_options)


def _as_it_is(value: Any) -> Any:
    """Return a value that Hydra passes on unchanged even if it contains the characters of an interpolation.

    Interpolations are escaped twice, since `instantiate` resolves the config twice.
    """
    if isinstance(value, str):
        return INTERPOLATION.sub(r"\1\1\\${", INTERPOLATION.sub(r"\1\1\\${", value))
    if isinstance(value, Mapping):
        return {name: _as_it_is(item) for name, item in value.items()}
    return [_as_it_is(item) for item in value] if isinstance(value, list | tuple) else value


def _is_plain(value: Any) -> bool:
    """Return whether Hydra would pass a value on as it is: it holds no component, no key for Hydra, and no object."""
    if isinstance(value, Mapping):
        return all(not str(key).startswith("_") and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or (type(value) in (str, int, float, bool) and value != MISSING_VALUE)


def _copied(value: Any) -> Any:
    """Return a plain value in containers of its own, which a component may change; tuples become lists."""
    if isinstance(value, Mapping):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def _required(key: str) -> str:
    example = example_with(key)
    return f"{key} is required" + (f", as in: {example}" if example else f": set {key}=VALUE")


def _missing_keys(key: str, value: Any) -> Iterator[str]:
    if value == MISSING_VALUE:
        yield key
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _missing_keys(f"{key}.{name}", item)


def _nested_components(key: str, value: Any) -> Iterator[tuple[str, Config]]:
    """Yield the components nested in a value, with their keys, without the components nested in those."""
    if isinstance(value, Mapping):
        if TARGET_KEY in value:
            yield key, value
        else:
            for name, item in value.items():
                yield from _nested_components(f"{key}.{name}", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from _nested_components(f"{key}[{i}]", item)


def _problems(key: str, options: Config, filled_in: frozenset[str]) -> list[str]:
    """Return the problems of one component's config, including nested components: target, keys, values."""
    try:
        target = allowed_target(options[TARGET_KEY], key)
    except ConfigError as error:
        return [str(error)]
    from mtx.components.checked_options import problem_of

    group = group_of(key)
    is_completed = group is not None and group.is_completed
    names, takes_any = parameter_annotations(target)
    problems = []
    for name, value in options.items():
        if name in (TARGET_KEY, PARTIAL_KEY) or (value is None and name in names and is_completed):
            continue
        if name in filled_in or (name not in names and not takes_any):
            problems.append(
                f"{key}.{name} is not a key of {options[TARGET_KEY].rpartition('.')[2]}. "
                f"Its keys: {choices(name, set(names) - filled_in)}. "
                f"If an experiment sets it, remove it with ~{key}.{name}"
            )
        elif components := list(_nested_components(f"{key}.{name}", value)):
            for inner, inner_options in components:
                problems += _problems(inner, inner_options, frozenset())
        elif problem := problem_of(f"{key}.{name}", names.get(name, Any), value):
            problems.append(problem)
    if not options.get(PARTIAL_KEY):
        needed = _required_parameters(target) - set(options) - filled_in
        if not is_completed:
            problems += [f"{key}.{name} is required: set +{key}.{name}=VALUE" for name in sorted(needed)]
    return problems


def _signature(target: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        if dataclasses.is_dataclass(target) and "__pydantic_fields__" not in vars(target):
            # For a subclass of a pydantic dataclass, inspect.signature returns the signature of the base class.
            own = inspect.signature(target.__init__).parameters
            return {name: parameter for name, parameter in own.items() if name != "self"}
        return inspect.signature(target).parameters
    except ValueError:  # a builtin without a signature
        return {}


def parameter_annotations(target: Callable[..., Any]) -> tuple[dict[str, Any], bool]:
    """Return the annotations of the parameters that can be passed by name, and whether any name is accepted."""
    found = _signature(target)
    try:
        hints = typing.get_type_hints(_annotated(target), include_extras=True)
    except (NameError, TypeError):  # annotations that exist only for type checkers
        hints = {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {name: hints.get(name, Any) for name, found_ in found.items() if found_.kind in named}
    return names, not found or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in found.values())


def _annotated(target: Callable[..., Any]) -> Any:
    """Return the object that holds the parameters' annotations: a dataclass or function itself, else `__init__`."""
    if not isinstance(target, type) or dataclasses.is_dataclass(target):
        return target
    return target.__init__  # type: ignore[misc]


def _required_parameters(target: Callable[..., Any]) -> set[str]:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {name for name, p in _signature(target).items() if p.kind in named and p.default is p.empty}
