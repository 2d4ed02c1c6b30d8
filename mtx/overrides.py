"""Config from overrides, and what is wrong with them where Hydra cannot compose it."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import IConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from mtx.errors import ConfigError, choices
from mtx.infra.dal.address import checked_url, is_url
from mtx.shown import redacted_override

CONFIG_MODULE = "mtx.conf"
CONFIG_NAME = "config"

# A value of a group, or one of several, that Hydra reads as something else than a name.
NO_NAME = re.compile(r"\+{0,2}(\w+)=(?:.*,)?(null|true|false|[-+.\d]+|[\[{].*)(?:,.*)?", re.IGNORECASE | re.DOTALL)

# What to do where Hydra's plug-in for one of our options is missing.
PLUG_INS = {
    "hydra/launcher/joblib": "pip install 'mtx[joblib]'",
    "hydra/launcher/submitit_local": "pip install 'mtx[submitit]'",
    "hydra/launcher/submitit_slurm": "pip install 'mtx[submitit]'",
    "hydra/launcher/ray": "pip install 'mtx[ray]', in an environment of its own, as it takes an older cloudpickle",
    "hydra/sweeper/optuna": (
        "pip install 'mtx[optuna]', and then pip install --no-deps hydra-optuna-sweeper==1.3.0, whose pin keeps out "
        "the Optuna that works"
    ),
}


def completed(arguments: Sequence[str]) -> list[str]:
    """Add `model=own` where only `model._target_` is given: another class does not take the reference model's keys."""
    keys = {argument.partition("=")[0] for argument in arguments}
    return [*arguments, "model=own"] if "model._target_" in keys and "model" not in keys else list(arguments)


def check_no_secret(arguments: Sequence[str]) -> None:
    """Raise ConfigError where an override holds what looks like a credential: overrides are kept with every run."""
    for argument in arguments:
        key, _, value = argument.lstrip("+").partition("=")
        for root in value.strip("\"'").split(",") if key == "storage.root" else ():
            if is_url(root):
                checked_url(root.strip("\"' "))
        if (told := redacted_override(argument)) != argument:
            raise ConfigError(
                f"{told!r} holds a credential, at ***. Overrides are written into the folder of each run and seen by "
                "other users of this machine, so credentials are given elsewhere: in the variables and files of the "
                "service's own client, such as HF_TOKEN, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
                "~/.aws/credentials"
            )


def check_options(arguments: Sequence[str]) -> None:
    """Raise ConfigError where a group is given something that is no name of an option, such as `sampler=null`."""
    asked = [found for argument in arguments if (found := NO_NAME.fullmatch(argument))]
    if not asked:
        return
    with hydra_loader() as loader:
        groups = groups_of(loader)
        for group, value in (found.groups() for found in asked):
            if group in groups:
                options = loader.get_group_options(group, ObjectType.CONFIG)
                raise ConfigError(f"{group} has no option {value!r}. Its options: {choices(value, options)}")


@contextmanager
def hydra_loader(config_dir: str | None = None) -> Iterator[ConfigLoader]:
    """Give Hydra's config loader over mtx's configs, also inside a Hydra application, which goes on undisturbed.

    `config_dir` is a folder with more options, as after --config-dir.
    """
    shared = GlobalHydra.instance()
    outer, shared.hydra = shared.hydra, None
    try:
        search_path = create_config_search_path(f"pkg://{CONFIG_MODULE}")
        if config_dir is not None:
            before_schema = SearchPathQuery(provider="schema")
            search_path.prepend("command-line", f"file://{Path(config_dir).absolute()}", anchor=before_schema)
        yield Hydra.create_main_hydra2("mtx", search_path).config_loader
    except MissingConfigException as error:
        raise ConfigError(missing_plug_in(error) or unreadable(error)) from error
    except (OSError, YAMLError) as error:  # a file's own fault, or an option's name that is too long for a file's
        raise ConfigError(unreadable(error)) from error
    finally:
        GlobalHydra.instance().hydra = outer


def missing_plug_in(error: Exception) -> str | None:
    """Say what to install where an option needs a plug-in of Hydra that is not there; None: something else is wrong."""
    wanted = str(getattr(error, "missing_cfg_file", ""))
    if (needed := PLUG_INS.get(wanted)) is None:
        return None
    return (
        f"{wanted.removeprefix('hydra/').replace('/', '=')} needs a plug-in of Hydra, which is not installed: {needed}"
    )


def unreadable(error: Exception) -> str:
    """Say that a config file cannot be read."""
    return f"a config file cannot be read: {' '.join(str(error).split())}. Correct it, or leave out --config-dir"


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Return one message that names every wrong key and its choices; else what Hydra says, without its trace."""
    command_line, _ = get_args_parser().parse_known_args(arguments)
    problems: list[str] = []
    parsed: list[Override] = []
    for text in command_line.overrides:
        try:
            parsed += OverridesParser.create().parse_overrides([text])
        except HydraException as parse_error:
            problems.append(
                f"{text!r} is no override, which is GROUP=OPTION or GROUP.KEY=VALUE, with a value that has special "
                f"characters in quotes ({_first_line(parse_error)})"
            )
    with hydra_loader(command_line.config_dir) as loader:
        groups = groups_of(loader)
        problems += [problem for override in parsed if (problem := wrong_option(loader, groups, override))]
        if not problems:
            chosen = [str(o.input_line) for o in parsed if o.key_or_group in groups and not o.is_sweep_override()]
            cfg = hydra.compose(CONFIG_NAME, overrides=chosen)
            problems += [p for o in parsed if o.key_or_group not in groups and (p := _wrong_key(cfg, groups, o))]
    return "\n".join(problems) or _first_line(error)


def groups_of(loader: ConfigLoader) -> set[str]:
    """Return the names of all config groups, Hydra's own too: `sampler`, `hydra/launcher`."""
    assert isinstance(loader, ConfigLoaderImpl)
    return set(_groups(loader.repository))  # ConfigLoader.list_groups says the same, in 20 times the time


def _groups(repository: IConfigRepository, parent: str = "") -> Iterable[str]:
    for name in repository.get_group_options(parent, ObjectType.GROUP):
        group = f"{parent}/{name}" if parent else name
        if not group.startswith("__"):
            yield group
            yield from _groups(repository, group)


def wrong_option(loader: ConfigLoader, groups: set[str], override: Override) -> str | None:
    """Say what is wrong with `group=option`."""
    key = override.key_or_group
    if key not in groups or override.is_hydra_override():
        return None
    options = loader.get_group_options(key, ObjectType.CONFIG)
    for name in override.sweep_string_iterator() if override.is_sweep_override() else [override.value()]:
        if name is not None and isinstance(name, str) and name.strip("'\"") not in options:
            return f"{key} has no option {name!r}. Its options: {choices(name, options)}"
    return None


def _wrong_key(cfg: DictConfig, groups: set[str], override: Override) -> str | None:
    """Say what is wrong with `group.key=value`; `+key` may be new, and is checked against what takes it later."""
    if override.is_add() or override.is_force_add() or override.is_hydra_override():
        return None
    node: Any = OmegaConf.to_container(cfg, resolve=False)
    parts = override.key_or_group.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, Mapping):
            return f"{'.'.join(parts[:depth])} holds one value, so there is no {override.key_or_group}"
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
