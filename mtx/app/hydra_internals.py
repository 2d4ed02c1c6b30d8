"""Functions of Hydra that have no public API: the only module that imports from `hydra._internal`.

The functions are tested with the version of Hydra that pyproject.toml requires.
"""

import copy
import threading
from argparse import Action, ArgumentError, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository, IConfigRepository
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.default_element import ConfigDefault, GroupDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.types import Override
from hydra.errors import ConfigCompositionException
from hydra.types import TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.app.corrected_command import shell_word
from mtx.library_errors import innermost_frame

LOCK = threading.RLock()  # Hydra has one application in a process, which `main_loader` replaces for a time
BASIC_LAUNCHER = f"{BasicLauncher.__module__}.{BasicLauncher.__qualname__}"
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"


def command_line(arguments: Sequence[str]) -> Namespace:
    """Parse a command line with Hydra's parser; the result has `overrides`, `multirun`, `config_dir` and so on."""
    return get_args_parser().parse_known_args(list(arguments))[0]


def grid_of(overrides: Sequence[Override]) -> list[list[str]]:
    """Return the overrides of each job of a grid, in order.

    Raises:
        HydraException: a sweep override is not a list of values.
    """
    return BasicSweeper.split_arguments(list(overrides), None)[0]


@contextmanager
def omegaconf_errors_as_hydra_errors() -> Iterator[None]:
    """Convert errors of OmegaConf that are neither its own nor Hydra's to errors of Hydra.

    They are about a key inside a list, such as `steps.first=1`, and about a number that no float can hold.
    """
    try:
        yield
    except (TypeError, ValueError, OverflowError) as error:
        frame = innermost_frame(error)
        module = "" if frame is None else frame.tb_frame.f_globals["__name__"]
        if not module.startswith("omegaconf.") or isinstance(error, OmegaConfBaseException):
            raise
        if isinstance(error, OverflowError):
            raise ConfigCompositionException("a number is too large") from error
        told = "the items of a list have numbers, not names: set the whole list, as in KEY=[ITEM,ITEM]"
        raise ConfigCompositionException(told) from error


def apply_overrides(overrides: Sequence[Override], cfg: DictConfig) -> None:
    """Apply overrides of values to `cfg`: set, add or delete keys. Raises the errors of Hydra."""
    with omegaconf_errors_as_hydra_errors():
        ConfigLoaderImpl._apply_overrides_to_config(list(overrides), cfg)


@contextmanager
def main_loader(config_module: str, config_dir: str | None, search_path: Sequence[str] = ()) -> Iterator[ConfigLoader]:
    """Provide a config loader for a package's configs.

    Inside a running Hydra application, the application stays unchanged. Threads, such as those of an Optuna study with
    `n_jobs`, wait for each other.

    Args:
        config_module: name of the package that contains the configs.
        config_dir: folder with additional options, as after --config-dir.
        search_path: more places of options, as in `hydra.searchpath`.
    """
    with LOCK:
        shared = GlobalHydra.instance()
        outer, shared.hydra = shared.hydra, None
        try:
            yield extended_loader(_application(config_module, config_dir).config_loader, search_path)
        finally:
            GlobalHydra.instance().hydra = outer


def extended_loader(loader: ConfigLoader, search_path: Sequence[str]) -> ConfigLoader:
    """Return a loader that also finds the options in `search_path`, as `hydra.searchpath` lists them."""
    if not search_path:
        return loader
    places = copy.deepcopy(loader.get_search_path())
    schema = places.get_path().pop()  # Hydra requires it to be the last
    for place in search_path:
        places.append("hydra.searchpath in command-line", place)
    places.get_path().append(schema)
    return ConfigLoaderImpl(places)


def wrong_flag_problem(arguments: Sequence[str]) -> str | None:
    """Return what is wrong with the value of a flag of Hydra, such as `--multirun=1`; None if nothing is."""
    parser = get_args_parser()
    flags = {name: action for action in parser._actions for name in action.option_strings}
    for text in arguments:  # `-mx`: argparse of Python 3.13 reads -m, and drops the rest
        action = flags.get(text[:2])
        is_short = action is not None and action.nargs == 0 and text[1:2] != "-"
        if action is not None and is_short and any(f"-{letter}" not in flags for letter in text[1:]):
            return _no_value(action)
    parser.exit_on_error = False
    parser.error = _raise_ambiguous  # type: ignore[method-assign]  # which would print and exit
    try:
        parser.parse_known_args(list(arguments))
    except ArgumentError as error:
        if error.argument_name is None:
            known = {text: _flags_of(text, flags) for text in arguments}
            text = next(text for text in arguments if len(known[text]) > 1)
            return f"{text.partition('=')[0]} may be one of {', '.join(known[text])}. Write the flag in full"
        action = flags[error.argument_name.partition("/")[0]]
        if action.nargs == 0:
            return _no_value(action)
        flag = action.option_strings[0]
        choices = tuple(map(str, action.choices or ()))
        rule = f"one of {', '.join(choices)}" if choices else "a value"
        return f"{flag} takes {rule}, as in: mtx {flag} {choices[0] if choices else 'VALUE'}"
    return _unusable_flag_problem(command_line(arguments))


def _unusable_flag_problem(typed: Namespace) -> str | None:
    """Return which flag cannot be used on this command line: a folder that does not exist, or --resolve alone."""
    if typed.config_dir is not None and not Path(typed.config_dir).is_dir():
        return (
            f"--config-dir takes a folder with your own options, but {typed.config_dir!r} is no folder. Create it, or "
            "leave out --config-dir"
        )
    is_folder = (
        typed.config_path is not None and "://" not in typed.config_path
    )  # else a package, such as pkg://PACKAGE
    if is_folder and (told := _config_path_problem(Path(typed.config_path), typed.config_name or "config")):
        return told
    if typed.resolve and not (typed.cfg or typed.help):
        return "--resolve is used together with --cfg or --help, as in: mtx --cfg job --resolve"
    return None


def _config_path_problem(folder: Path, name: str) -> str | None:
    if not folder.is_dir():
        problem = f"{str(folder)!r} is no folder"
    elif not folder.is_absolute():  # Hydra would look for it beside the module of mtx
        return f"--config-path takes an absolute path. Type: mtx --config-path {shell_word(str(folder.absolute()))}"
    elif not any((folder / f"{name.removesuffix(end)}{end}").is_file() for end in (".yaml", ".yml")):
        problem = f"{str(folder)!r} has no {name.removesuffix('.yaml')}.yaml"
    else:
        return None
    return (
        f"--config-path takes a folder that replaces all configs of mtx, but {problem}. To add options of your own, "
        "type --config-dir FOLDER"
    )


def _no_value(flag: Action) -> str:
    return f"{flag.option_strings[0]} takes no value. Write {flag.option_strings[0]} alone"


def _flags_of(text: str, flags: Iterable[str]) -> list[str]:
    """Return the long flags for which an argument may be short."""
    return [flag for flag in flags if text.startswith("--") and flag.startswith(text.partition("=")[0])]


def _raise_ambiguous(message: str) -> NoReturn:
    raise ArgumentError(None, message)


def unknown_flags(arguments: Sequence[str]) -> list[str]:
    """Return the arguments that begin with a dash and are no flag of Hydra."""
    return [text for text in get_args_parser().parse_known_args(list(arguments))[1] if text.startswith("-")]


def run_single(job: TaskFunction, config_module: str, config_name: str, overrides: Sequence[str]) -> None:
    """Run one job like `hydra.main`, with one composition of the config instead of two.

    `hydra.main` composes the config once more to learn whether it asks for a sweep. Use run_single only for overrides
    that cannot ask for one.
    """
    try:
        _application(config_module).run(config_name, job, [*overrides, "hydra.mode=RUN"])
    finally:
        GlobalHydra.instance().clear()


def _application(config_module: str, config_dir: str | None = None) -> Hydra:
    search_path = create_config_search_path(f"pkg://{config_module}")
    if config_dir is not None:
        before_schema = SearchPathQuery(provider="schema")
        search_path.prepend("command-line", f"file://{Path(config_dir).absolute()}", anchor=before_schema)
    return Hydra.create_main_hydra2("mtx", search_path)


def group_names(loader: ConfigLoader) -> set[str]:
    """Return the names of all config groups, including Hydra's: `sampler`, `hydra/launcher`."""
    assert isinstance(loader, ConfigLoaderImpl)
    return set(_groups(loader.repository))  # ConfigLoader.list_groups takes 20 times as long


def _groups(repository: IConfigRepository, parent: str = "") -> Iterable[str]:
    for name in repository.get_group_options(parent, ObjectType.GROUP):
        group = f"{parent}/{name}" if parent else name
        if not group.startswith("__"):
            yield group
            yield from _groups(repository, group)


@dataclass(frozen=True)
class StoredConfig:
    """A config file before it is composed.

    Attributes:
        package: where its keys go, such as `_global_`.
        content: its keys and values, without the defaults list; interpolations are not resolved.
        options: the options that its defaults list chooses by name: group → option.
        configs: other configs of its defaults list.
    """

    package: str
    content: Mapping[str, Any]
    options: Mapping[str, str]
    configs: tuple[str, ...]


def sources_of(loader: ConfigLoader) -> list[dict[str, str]]:
    """Return where a loader looks for configs, as in the key `hydra.runtime.config_sources`."""
    return [
        {"provider": source.provider, "schema": source.scheme(), "path": source.path} for source in loader.get_sources()
    ]


def stored_config(path: str, sources: Iterable[Mapping[str, str]]) -> StoredConfig | None:
    """Return a config file, or None if there is none.

    Args:
        path: group and name, such as `task/fit`.
        sources: where Hydra looks for configs: the key `hydra.runtime.config_sources`.
    """
    found = _repository(sources).load_config(path)
    if found is None:
        return None
    content = OmegaConf.to_container(found.config, resolve=False)
    defaults = found.defaults_list or []
    options = [each for each in defaults if isinstance(each, GroupDefault) and isinstance(each.value, str)]
    return StoredConfig(
        found.header.get("package") or path.rpartition("/")[0].replace("/", "."),
        cast(dict[str, Any], content) if isinstance(content, dict) else {},
        {str(each.group): str(each.value) for each in options},
        tuple(str(each.path) for each in defaults if isinstance(each, ConfigDefault) and each.path != "_self_"),
    )


def option_names(group: str, sources: Iterable[Mapping[str, str]]) -> list[str]:
    """Return the names of the options of a group.

    Args:
        group: name of the group, such as `task`.
        sources: as for `stored_config`.
    """
    return _repository(sources).get_group_options(group, ObjectType.CONFIG)


def _repository(sources: Iterable[Mapping[str, str]]) -> ConfigRepository:
    places = ConfigSearchPathImpl()
    for source in sources:
        places.append(source["provider"], f"{source['schema']}://{source['path']}")
    return ConfigRepository(places)
