"""All jobs of a grid, composed and checked before the first one starts.

Hydra composes a config in about 80 ms. Here jobs that choose the same options of groups share one composition, and
what one job's config was found to be is not looked at again for the next, so that hundreds are checked in a second.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.errors import ConfigError, MtxError
from mtx.experiment.sweep.job import config_hash
from mtx.overrides import explain, groups_of

MOST_CHECKED = 500  # jobs; of larger grids as many are taken, evenly
MOST_SHOWN = 3  # jobs named for one and the same problem
PARTS = ("storage", "downloader", "filter", "tokenizer", "sampler")  # made without reading anything
NOWHERE = Path("\0")  # no job's folder is in any text


@dataclass(frozen=True)
class GridJob:
    """One job of a grid: its number, its overrides, and the hash of its config; None where only the job can tell."""

    num: int
    overrides: tuple[str, ...]
    config_hash: str | None


def grid_jobs(
    grid: Sequence[Sequence[str]], *, loader: ConfigLoader, config_name: str, done: Mapping[str, str]
) -> tuple[GridJob, ...]:
    """Return the jobs of `grid`, whose rows are overrides, after a check of those that are not `done`.

    Raises ConfigError that lists every problem with the jobs that have it.
    """
    composer = _Composer(loader, config_name)
    step = max(1, -(-len(grid) // MOST_CHECKED))
    if step > 1:
        print(f"{len(grid):,} jobs: one of {step} is checked before the first starts, the others as they start")
    checker = _Checker()
    jobs = []
    problems: dict[str, list[Sequence[str]]] = {}
    for num, overrides in enumerate(grid):
        if num % step:
            jobs.append(GridJob(num, tuple(overrides), None))
            continue
        hashed = None
        try:
            config = composer.config(overrides)
            if config is not None:
                hashed = config_hash(config, NOWHERE)
                if hashed not in done:
                    checker.check(config)
        except MtxError as error:
            problems.setdefault(str(error), []).append(overrides)
        jobs.append(GridJob(num, tuple(overrides), hashed))
    if problems:
        raise ConfigError(_told(problems, len(grid)))
    return tuple(jobs)


class _Composer:
    """Composes jobs; those with the same options of groups by one composition."""

    def __init__(self, loader: ConfigLoader, config_name: str) -> None:
        self._loader = loader
        self._config_name = config_name
        self._parser = OverridesParser.create(config_loader=loader)
        self._groups = groups_of(loader)
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def config(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        """Return a job's config as plain values; None where it depends on the run. Raises ConfigError."""
        try:
            parsed = self._parser.parse_overrides(list(overrides))
            cfg = copy.deepcopy(self._base(tuple(str(o.input_line) for o in parsed if self._is_choice(o))))
            ConfigLoaderImpl._apply_overrides_to_config([o for o in parsed if not self._is_choice(o)], cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(explain(error, overrides)) from error
        try:
            return cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
        except OmegaConfBaseException as error:
            if "hydra" in str(error).lower():  # such as ${hydra:job.num}
                return None
            raise ConfigError(f"{error.full_key}: {error.msg}") from error

    def _is_choice(self, override: Override) -> bool:
        return override.key_or_group in self._groups or override.package is not None

    def _base(self, chosen: tuple[str, ...]) -> DictConfig:
        if chosen not in self._bases:
            cfg = self._loader.load_configuration(self._config_name, overrides=list(chosen), run_mode=RunMode.RUN)
            OmegaConf.set_struct(cfg, False)
            del cfg["hydra"]
            OmegaConf.set_struct(cfg, True)
            self._bases[chosen] = cfg
        return self._bases[chosen]


class _Checker:
    """Checks configs, each group's options once."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}  # what was wrong with a group's options, or nothing

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise ConfigError that lists every problem, as the job itself would."""
        from mtx.experiment.config import build, check
        from mtx.experiment.run import datamodule_of

        parts: dict[str, Any] = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
        problems = [self._problem("", parts, lambda: check(parts))]
        for group, options in config.items():
            if isinstance(options, Mapping):
                one = {group: options}
                problems.append(self._problem(group, options, partial(check, one)))
                if group in PARTS and not problems[-1]:
                    problems.append(self._problem(f"{group} made", options, partial(build, one, group)))
        found = [problem for problem in problems if problem]
        if not found:
            whole = {key: config[key] for key in (*PARTS, "datamodule", "seed")}
            datamodule = {"datamodule": config["datamodule"], "seed": config["seed"]}
            found = [self._problem("data module", datamodule, partial(datamodule_of, whole))]
        if any(found):
            raise ConfigError("\n".join(found))

    def _problem(self, group: str, options: Mapping[str, Any], look: Callable[[], object]) -> str:
        key = group + json.dumps(options, sort_keys=True, default=str)
        if key not in self._found:
            try:
                look()
                self._found[key] = ""
            except MtxError as error:
                self._found[key] = str(error)
        return self._found[key]


def _told(problems: Mapping[str, Sequence[Sequence[str]]], num_jobs: int) -> str:
    num_wrong = sum(len(jobs) for jobs in problems.values())
    lines = [f"{num_wrong} of {num_jobs} jobs cannot run, so none was started:"]
    for problem, jobs in problems.items():
        lines += [f"  {' '.join(job)}" for job in jobs[:MOST_SHOWN]]
        if len(jobs) > MOST_SHOWN:
            lines.append(f"  and {len(jobs) - MOST_SHOWN} more")
        lines += [f"    {line}" for line in problem.splitlines()]
    return "\n".join(lines)
