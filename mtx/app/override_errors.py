"""Check command-line overrides, and explain which override is wrong if Hydra cannot compose the config."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from mtx.app.hydra_internals import command_line, group_names, main_loader
from mtx.errors import ConfigError, choices
from mtx.infra.dal.url import checked_url, is_url
from mtx.redaction import redacted_override

CONFIG_MODULE = "mtx.conf"
CONFIG_NAME = "config"

# GROUP=VALUE with a value, or one of several, that Hydra does not read as a name, such as null or 3.
INVALID_OPTION = re.compile(
    r"\+{0,2}(\w+)=(?:.*,)?(null|true|false|[-+.\d]+|[\[{].*)(?:,.*)?", re.IGNORECASE | re.DOTALL
)

# How to install the Hydra plug-in that an option of mtx needs.
PLUG_IN_PACKAGES = {
    "hydra/launcher/joblib": "pip install 'mtx[joblib]'",
    "hydra/launcher/submitit_local": "pip install 'mtx[submitit]'",
    "hydra/launcher/submitit_slurm": "pip install 'mtx[submitit]'",
    "hydra/launcher/ray": "pip install 'mtx[ray]', in its own environment, since it needs an older cloudpickle",
    "hydra/sweeper/optuna": (
        "pip install 'mtx[optuna]', and then pip install --no-deps hydra-optuna-sweeper==1.3.0, whose version pin "
        "excludes the Optuna that works"
    ),
}


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


def check_options(arguments: Sequence[str]) -> None:
    """Check that the value of each group is the name of an option.

    Raises:
        ConfigError: a group's value is not a name, as in `sampler=null`.
    """
    asked = [found for argument in arguments if (found := INVALID_OPTION.fullmatch(argument))]
    if not asked:
        return
    with hydra_loader() as loader:
        groups = group_names(loader)
        for group, value in (found.groups() for found in asked):
            if group in groups:
                if value.startswith("["):
                    raise ConfigError(list_problem(group, value))
                options = loader.get_group_options(group, ObjectType.CONFIG)
                raise ConfigError(f"{group} has no option {value!r}. Its options: {choices(value, options)}")


@contextmanager
def hydra_loader(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Provide Hydra's config loader for mtx's configs.

    Inside a running Hydra application, the application stays unchanged.

    `config_dir` is a folder with additional options, as after --config-dir.
    """
    with readable_configs(), main_loader(CONFIG_MODULE, config_dir) as loader:
        yield loader


@contextmanager
def readable_configs() -> Iterator[None]:
    """Convert errors about config files in the body of the `with` statement to ConfigError."""
    try:
        yield
    except MissingConfigException as error:
        raise ConfigError(missing_plug_in_message(error) or unreadable_config_message(error)) from error
    except (OSError, YAMLError) as error:  # includes an option name that is too long for a file name
        raise ConfigError(unreadable_config_message(error)) from error


def missing_plug_in_message(error: Exception) -> str | None:
    """Return how to install the Hydra plug-in that an option needs, or None if the error has another cause."""
    wanted = str(getattr(error, "missing_cfg_file", ""))
    if (needed := PLUG_IN_PACKAGES.get(wanted)) is None:
        return None
    return f"{wanted.removeprefix('hydra/').replace('/', '=')} needs a Hydra plug-in that is not installed: {needed}"


def unreadable_config_message(error: Exception) -> str:
    """Return a message that a config file cannot be read, with the reason."""
    return f"a config file cannot be read: {' '.join(str(error).split())}. Correct the file, or leave out --config-dir"


def composition_error_message(error: Exception, arguments: Sequence[str]) -> str:
    """Return a message that lists every wrong override with its choices.

    If no override is found to be wrong, return the first line of Hydra's error.
    """
    said = command_line(arguments)
    problems: list[str] = []
    parsed: list[Override] = []
    for text in said.overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as parse_error:
            problems.append(
                f"{text!r} is not an override. Type GROUP=OPTION or GROUP.KEY=VALUE, and put a value with special "
                f"characters in quotes ({_first_line(parse_error)})"
            )
    with hydra_loader(said.config_dir) as loader:
        groups = group_names(loader)
        problems += [problem for override in parsed if (problem := option_problem(loader, groups, override))]
        if not problems:
            chosen = [str(o.input_line) for o in parsed if o.key_or_group in groups and not o.is_sweep_override()]
            cfg = hydra.compose(CONFIG_NAME, overrides=chosen)
            problems += [p for o in parsed if o.key_or_group not in groups and (p := _key_problem(cfg, groups, o))]
    return "\n".join(problems) or _first_line(error)


def option_problem(loader: ConfigLoader, groups: set[str], override: Override) -> str | None:
    """Return what is wrong with the override `group=option`, or None."""
    key = override.key_or_group
    if key not in groups or override.is_hydra_override():
        return None
    options = loader.get_group_options(key, ObjectType.CONFIG)
    for name in override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]:
        if name is not None and isinstance(name, str) and name.strip("'\"") not in options:
            return f"{key} has no option {name!r}. Its options: {choices(name, options)}"
    return None


def list_problem(group: str, typed: str) -> str:
    """Return what is wrong with the `typed` list of options of one group, and how to use several."""
    options = [name for part in typed.strip("[] ").split(",") if (name := part.strip("'\" "))]
    own = (
        ". To apply several filters in turn, let apply() of a filter of your own call theirs, as in docs/extending.md"
        if group == "filter"
        else ""
    )
    sweep = f", or compare them in a sweep: -m {group}={','.join(options)}" if len(options) > 1 else ""
    chosen = options[0] if options else "NAME"
    return f"{group} takes one option, but is a list. Choose one, such as {group}={chosen}{sweep}{own}"


def _key_problem(cfg: DictConfig, groups: set[str], override: Override) -> str | None:
    """Return what is wrong with the override `group.key=value`, or None.

    A key added by `+key` may be new; the check of the component's parameters covers it later.
    """
    if override.is_add() or override.is_force_add() or override.is_hydra_override():
        return None
    node: Any = OmegaConf.to_container(cfg, resolve=False)
    parts = override.key_or_group.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, Mapping):
            return (
                f"{'.'.join(parts[:depth])} is a single value without keys, so {override.key_or_group} does not exist"
            )
        if part not in node:
            inside = ".".join(parts[:depth])
            known = {str(name) for name in node if not str(name).startswith("_")}
            known |= set() if depth else {group for group in groups if not group.startswith("hydra/")}
            where = f"{inside} has no key" if inside else "there is no group or key"
            return f"{where} {part!r}. There are: {choices(part, known)}"
        node = node[part]
    return None


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
