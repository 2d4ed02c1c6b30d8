"""Check command-line overrides, and explain which override is wrong if Hydra cannot compose the config."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from mtx.app.corrected_command import is_override
from mtx.app.hydra_internals import (
    command_line,
    group_names,
    main_loader,
    sources_of,
    stored_config,
    unknown_flags,
    wrong_flag_problem,
)
from mtx.app.missing_plug_ins import PLUG_IN_PACKAGES, missing_plug_in_message, needed_plug_in_message
from mtx.app.mistyped_words import several_values_problem, word_problems
from mtx.app.refused_overrides import hydra_group_problem, package_problem, refused_override_message
from mtx.app.unknown_keys import key_problem
from mtx.app.unknown_option import unknown_option_message
from mtx.components.groups import GROUPS
from mtx.errors import ConfigError
from mtx.infra.dal.remote_url_check import checked_url, is_url
from mtx.library_errors import library_reason
from mtx.redaction_and_escaping import redacted_override

CONFIG_MODULE = "mtx.conf"
CONFIG_NAME = "config"

# GROUP=VALUE with a value, or one of several, that Hydra does not read as a name, such as null, 3, 1e3 or nan.
INVALID_OPTION = re.compile(
    r"\+{0,2}([\w/]+)=(?:.*,)?(null|true|false|[-+]?(?:nan|inf)|[-+]?[.\d][-+.\w]*|[\[{].*)(?:,.*)?",
    re.IGNORECASE | re.DOTALL,
)

# Overrides of Hydra at which it may fail with an error of Python; other keys are not composed twice.
HYDRA_OVERRIDE = re.compile(r"[~+]{0,2}hydra([=/]|$|\.sweeper\.params)")

SWEEPER_PARAMS = "hydra.sweeper.params"

MAX_DIGITS = 4300  # Python converts no text with more digits to a number
TOO_MANY_DIGITS = re.compile(rf"\d{{{MAX_DIGITS + 1},}}")


def completed_arguments(arguments: Sequence[str]) -> list[str]:
    """Add `model=own` if only `model._target_` is given, since another class has other keys than the default."""
    keys = {argument.partition("=")[0] for argument in arguments}
    return [*arguments, "model=own"] if "model._target_" in keys and "model" not in keys else list(arguments)


def check_no_secret(arguments: Sequence[str]) -> None:
    """Check that no override contains a credential, since every run stores its overrides.

    Raises:
        ConfigError: an override looks like a credential.
    """
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        for root in value.strip("\"'").split(",") if key == "storage.root" else ():
            if is_url(root):
                checked_url(root.strip("\"' "))
        if (told := redacted_override(argument)) != argument:
            raise ConfigError(
                f"{told!r} contains a credential, at ***. Overrides are stored in the folder of each run, and other "
                "users of this machine can see them. Set credentials in the environment variables or files of the "
                "service's own client, such as HF_TOKEN, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "~/.aws/credentials"
            )


def check_flags(arguments: Sequence[str]) -> None:
    """Check that each argument with a dash is a flag of Hydra, such as -m; overrides have none.

    Raises:
        ConfigError: a flag is unknown, as in `--task=fit`, or has a wrong value, as in `--multirun=1`.
    """
    if (told := wrong_flag_problem(arguments)) is not None:
        raise ConfigError(told)
    if unknown := unknown_flags(arguments):
        with hydra_loader() as loader:
            raise ConfigError("\n".join(word_problems(arguments, unknown, _own_options(loader))))


def check_options(arguments: Sequence[str]) -> None:
    """Check that numbers can be read, and that the value of each group is the name of an option.

    Raises:
        ConfigError: a number has too many digits, or a group's value is not a name, as in `sampler=null`.
    """
    for argument in arguments:
        if (digits := TOO_MANY_DIGITS.search(argument)) is not None:
            key = argument.partition("=")[0]
            raise ConfigError(
                f"{key} has a number of {len(digits[0]):,} digits, but a number has at most {MAX_DIGITS:,}. Set "
                f"{key}=NUMBER with fewer digits"
            )
    asked = [found for argument in arguments if (found := INVALID_OPTION.fullmatch(argument))]
    if asked:
        _check_option_names(asked)
    if of_hydra := [text for text in arguments if HYDRA_OVERRIDE.match(text) and is_override(text)]:
        _check_hydra_overrides(of_hydra)


def _check_option_names(asked: Sequence[re.Match[str]]) -> None:
    with hydra_loader() as loader:
        groups = group_names(loader)
        for group, value in (found.groups() for found in asked):
            if group in groups and not (group in GROUPS and GROUPS[group].is_multiple and value.startswith("[")):
                if value.startswith("["):
                    raise ConfigError(list_problem(group, value))
                if group == "hydra":
                    continue  # is explained later
                options = loader.get_group_options(group, ObjectType.CONFIG)
                raise ConfigError(unknown_option_message(group, value, options))


def _check_hydra_overrides(overrides: Sequence[str]) -> None:
    """Refuse overrides of Hydra's config at which Hydra fails with an error of Python, as at `hydra/launcher=nan`.

    Options of Hydra's groups that are deleted are refused, too: Hydra fails without them, in some cases after the run.
    """
    with hydra_loader() as loader, suppress(HydraException, OmegaConfBaseException):  # which are explained later
        groups = group_names(loader)
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
        if told := [problem for override in parsed if (problem := hydra_group_problem(override, groups, loader))]:
            raise ConfigError("\n".join(told))
        try:
            loader.load_configuration(CONFIG_NAME, list(overrides), run_mode=RunMode.MULTIRUN)
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            if params := [text for text in overrides if SWEEPER_PARAMS in text]:
                raise ConfigError(
                    f"{params[0]}: Hydra reads {SWEEPER_PARAMS} only from config files. Type the values of a sweep as "
                    "overrides: mtx -m KEY=VALUE,VALUE"
                ) from error
            raise ConfigError(
                f"{' '.join(overrides)} cannot be applied to Hydra's config: a group takes the name of an option, and "
                "a key is set below one that has keys. Leave it out, or see all keys with mtx --cfg hydra"
            ) from error


@contextmanager
def hydra_loader(config_dir: str | None = None, search_path: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Provide Hydra's config loader for mtx's configs.

    Inside a running Hydra application, the application stays unchanged.

    Args:
        config_dir: a folder with additional options, as after --config-dir.
        search_path: more such folders or packages, as in `hydra.searchpath`.
    """
    with readable_configs(), main_loader(CONFIG_MODULE, config_dir, search_path) as loader:
        yield loader


def search_path_of(overrides: Sequence[str]) -> list[str]:
    """Return the value of the override `hydra.searchpath`; an empty list without it."""
    for text in overrides:
        if text.lstrip("+").startswith("hydra.searchpath=") and is_override(text):
            value = OverridesParser.create().parse_override(text).value()
            return [str(part) for part in value] if isinstance(value, list) else [str(value)]
    return []


@contextmanager
def readable_configs() -> Iterator[None]:
    """Convert errors about config files in the body of the `with` statement to ConfigError."""
    try:
        yield
    except MissingConfigException as error:
        raise ConfigError(missing_option_message(error)) from error
    except (OSError, YAMLError) as error:  # includes an option name that is too long for a file name
        raise ConfigError(unreadable_config_message(error)) from error


def missing_option_message(error: MissingConfigException) -> str:
    """Return a message that a config group has no option of a name, with its options or the plug-in that it needs."""
    if (told := missing_plug_in_message(error)) is not None:
        return told
    group, _, name = str(error.missing_cfg_file or "").rpartition("/")
    options = error.options
    if group and options is None:  # of a group that takes several options
        with main_loader(CONFIG_MODULE, None) as loader:
            options = loader.get_group_options(group, ObjectType.CONFIG)
    if group and options:
        return unknown_option_message(group, name, options)
    if name:
        return (
            f"there is no config {name!r}. --config-name takes the name of a YAML file in the folder of --config-dir, "
            "without .yaml"
        )
    return unreadable_config_message(error)


def unreadable_config_message(error: Exception) -> str:
    """Return a message that a config file cannot be read, with the reason."""
    return f"a config file cannot be read: {library_reason(error)}. Correct the file, or leave out --config-dir"


def composition_error_message(
    error: Exception, arguments: Sequence[str], *, loader: ConfigLoader | None = None, in_sweep: bool = False
) -> str:
    """Return a message that lists every wrong override with its choices, and the corrected command where it is known.

    If no override is found to be wrong, return the first line of Hydra's error.

    Args:
        error: error of Hydra.
        arguments: command line, or the overrides of a job.
        loader: config loader with the options of the user; None: one that reads `--config-dir` of `arguments`.
        in_sweep: whether the overrides may have several values.
    """
    said = command_line(arguments)
    if loader is None:
        with hydra_loader(said.config_dir, search_path_of(said.overrides)) as own:
            return composition_error_message(error, arguments, loader=own, in_sweep=in_sweep)
    groups = group_names(loader)
    wrong = [text for text in said.overrides if not is_override(text)]
    problems = word_problems(arguments, wrong, _own_options(loader)) if wrong else []
    parser = OverridesParser.create(config_loader=loader)  # which `glob(*)` needs
    parsed = parser.parse_overrides([text for text in said.overrides if text not in wrong])
    complete = [o for o in parsed if not (problems and str(o.input_line).endswith("="))]  # not `task=` of `task= fit`
    problems += [problem for override in complete if (problem := option_problem(loader, groups, override))]
    if not problems and not (said.multirun or in_sweep or starts_sweep(parsed, loader)):
        several = [one for one in parsed if one.is_sweep_override()]
        problems += [several_values_problem(o, arguments, is_group=o.key_or_group in groups) for o in several]
    if not problems:
        problems = _key_problems(loader, groups, parsed, arguments)
    if not problems and isinstance(error, MissingConfigException):
        return missing_option_message(error)
    return "\n".join(problems) or refused_override_message(error, parsed, groups, loader)


def starts_sweep(overrides: Sequence[Override], loader: ConfigLoader) -> bool:
    """Return whether an experiment among the overrides starts a sweep by itself, so that -m is not needed."""
    names = [override.value() for override in overrides if override.key_or_group == "experiment"]
    found = [stored_config(f"experiment/{name}", sources_of(loader)) for name in names if isinstance(name, str)]
    settings = [each.content.get("hydra") for each in found if each is not None]
    return any(isinstance(hydra, dict) and hydra.get("mode") == RunMode.MULTIRUN.name for hydra in settings)


def _own_options(loader: ConfigLoader) -> dict[str, list[str]]:
    """Return the option names of each group of mtx."""
    names = [name for name in group_names(loader) if "/" not in name]
    return {name: loader.get_group_options(name, ObjectType.CONFIG) for name in names}


def option_problem(loader: ConfigLoader, groups: set[str], override: Override) -> str | None:
    """Return what is wrong with the override `group=option`, or None."""
    key = override.key_or_group
    if (told := hydra_group_problem(override, groups, loader)) is not None or key not in groups:
        return told
    options = loader.get_group_options(key, ObjectType.CONFIG)
    if override.value_type == ValueType.INTERVAL_SWEEP:
        return f"{key} takes names of options, but is an interval. Its options: {', '.join(options)}"
    chosen = None if override.is_sweep_override() else override.value()
    for value in override.sweep_string_iterator() if override.is_sweep_override() else [chosen]:
        names = value if isinstance(value, list) else str(value).strip("[]").split(",") if value is not None else []
        for name in (str(one).strip(" '\"") for one in names):
            if (name or value == "") and name not in options:
                if (needed := PLUG_IN_PACKAGES.get(f"{key}/{name}")) is not None:
                    return needed_plug_in_message(key, name, needed)
                return unknown_option_message(key, name, options)
    return None


def list_problem(group: str, typed: str) -> str:
    """Return what is wrong with the `typed` list of options of one group, and how to use several."""
    options = [name for part in typed.strip("[] ").split(",") if (name := part.strip("'\" "))]
    own = (
        ". To apply several filters in turn, choose filter=selection filter@filter.before=NAME, or let apply() of a "
        "filter of your own call theirs, as in docs/extending.md"
        if group == "filter"
        else ""
    )
    sweep = f", or compare them in a sweep: -m {group}={','.join(options)}" if len(options) > 1 else ""
    chosen = options[0] if options else "NAME"
    return f"{group} takes one option, but is a list. Choose one, such as {group}={chosen}{sweep}{own}"


def _key_problems(
    loader: ConfigLoader, groups: set[str], parsed: Sequence[Override], arguments: Sequence[str]
) -> list[str]:
    """Return what is wrong with the overrides of keys, in the config that the chosen options give."""
    of_groups = [o for o in parsed if o.key_or_group in groups]
    chosen = [str(o.input_line) for o in of_groups if not o.is_sweep_override() and not o.is_delete()]
    keys = [o for o in parsed if o.key_or_group not in groups and not o.is_hydra_override()]
    targets = [str(o.input_line) for o in keys if o.key_or_group.endswith("._target_") and not o.is_sweep_override()]
    try:
        cfg = loader.load_configuration(CONFIG_NAME, [*chosen, *targets], run_mode=RunMode.RUN)
    except HydraException:
        try:
            cfg = loader.load_configuration(CONFIG_NAME, chosen, run_mode=RunMode.RUN)
        except HydraException:
            return [package_problem(o) for o in parsed if o.package is not None and not o.is_add()]
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=False))
    of_hydra = {"hydra": config.pop("hydra")}
    problems = [problem for o in keys if (problem := key_problem(config, groups, o, arguments, loader))]
    others = [o for o in parsed if o.is_hydra_override() and o.key_or_group not in groups]
    return problems + [told for o in others if (told := key_problem(of_hydra, groups, o, arguments, loader))]
