"""Convert the arguments of a sweep to a form that Hydra accepts, and back to the typed form."""

import re
from argparse import Namespace
from collections.abc import Sequence
from urllib.parse import quote, unquote

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from mtx.app.hydra_internals import command_line, group_names
from mtx.app.override_errors import CONFIG_NAME, hydra_loader, search_path_of

EXPERIMENT = "experiment"
MAY_CHOOSE_OPTIONS = re.compile(
    r"\+?(hydra\.mode|experiment)=|[\w/]+=.*,|[\w/]+=\w+\("
)  # arguments that may choose options that differ between jobs
OF_GROUP = re.compile(r"[+~]{0,2}(?!hydra\.)\w+\..+", re.DOTALL)  # an override of a key in a group
FOR_JOBS = re.compile(r"[^=]+=choice\(mtx:(.*)\)")


def hydra_arguments(arguments: Sequence[str]) -> list[str]:
    """Return a command line in the form that Hydra accepts; commands that are not sweeps stay unchanged.

    In `sampler=random,bucket sampler.batch_size=8`, the key `batch_size` is meant for the samplers of the jobs, but
    Hydra looks it up in the default sampler. Hydra does not check overrides that vary between jobs. So this function
    writes the override as a choice of one value, which contains the typed override; `as_typed` restores it.

    Raises:
        ConfigError: a config file cannot be read.
        HydraException: an override cannot be parsed.
    """
    said = command_line(arguments)
    asks = (said.help, said.hydra_help, said.cfg, said.info, said.shell_completion, said.run)
    may_vary = any(MAY_CHOOSE_OPTIONS.match(text) for text in said.overrides)
    if any(asks) or not may_vary or not any(map(OF_GROUP.fullmatch, said.overrides)):
        return list(arguments)
    with hydra_loader(said.config_dir, search_path_of(said.overrides)) as loader:
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(said.overrides)
        varied = _varied_groups(loader, said, parsed)
    of_jobs = {
        str(one.input_line)
        for one in parsed
        if one.key_or_group.partition(".")[0] in varied
        and OF_GROUP.fullmatch(str(one.input_line))
        and not one.is_sweep_override()
    }
    return [_for_jobs(text) if text in of_jobs else text for text in arguments]


def as_typed(argument: str) -> str:
    """Return the typed form of an argument that `hydra_arguments` returned."""
    found = FOR_JOBS.fullmatch(argument)
    return unquote(found[1]) if found else argument


def _for_jobs(text: str) -> str:
    """Return an override as a choice of one value, in characters that Hydra's grammar accepts anywhere."""
    return f"{text.lstrip('+~').partition('=')[0]}=choice(mtx:{quote(text, safe='').replace('~', '%7E')})"


def _varied_groups(loader: ConfigLoader, said: Namespace, parsed: Sequence[Override]) -> set[str]:
    """Return the groups whose options differ between jobs; an empty set if the command is not a sweep."""
    groups = group_names(loader)
    choices = [one for one in parsed if one.key_or_group in groups or one.package is not None]
    first = [str(one.input_line) for one in parsed if one in choices or one.is_hydra_override()]
    name = said.config_name or CONFIG_NAME
    cfg = loader.load_configuration(name, first, run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False)
    if cfg.hydra.mode != RunMode.MULTIRUN and not said.multirun:
        return set()
    varied = {one.key_or_group for one in choices if one.is_sweep_override()}
    varied |= groups.intersection(map(str, cfg.hydra.sweeper.get("params") or ()))
    return groups if EXPERIMENT in varied else varied  # an experiment may choose options of any group
