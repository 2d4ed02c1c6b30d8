"""Compose and check all jobs of a grid before the first job starts.

Hydra composes a config in about 80 ms. Here, jobs with the same group options share one composition, and a check that
has run for one job is not repeated for the next. So hundreds of jobs are checked in a second.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.app.experiment_task_keys import without_keys_of_another_task
from mtx.app.hydra_internals import apply_overrides, group_names
from mtx.app.override_errors import composition_error_message
from mtx.app.plain_config import plain_config
from mtx.errors import ConfigError, MtxError
from mtx.sweep.job import config_hash

MAX_CHECKED_JOBS = 500  # jobs; of a larger grid, this many evenly spaced jobs are checked
MAX_NAMED_JOBS = 3  # jobs that an error message lists for one problem
ABSENT_FOLDER = Path("\0")  # a path that no config value contains, since the job's folder is not known yet


@dataclass(frozen=True)
class GridJob:
    """One job of a grid.

    Attributes:
        num: number of the job, from 0.
        overrides: overrides of the job.
        config_hash: hash of the job's config; None if the job was not composed, or its config depends on the run.
    """

    num: int
    overrides: tuple[str, ...]
    config_hash: str | None


def grid_jobs(
    grid: Sequence[Sequence[str]], *, loader: ConfigLoader, config_name: str, done: Mapping[str, str]
) -> tuple[GridJob, ...]:
    """Compose and check the jobs of `grid`, and return them.

    Args:
        grid: overrides of each job.
        loader: config loader of Hydra.
        config_name: name of the primary config.
        done: config hash → folder name of completed jobs, which are not checked.

    Raises:
        ConfigError: a job's config is invalid; the message lists every problem with the jobs that have it.
    """
    composer = JobComposer(loader, config_name)
    step = max(1, -(-len(grid) // MAX_CHECKED_JOBS))
    if step > 1:
        print(f"{len(grid):,} jobs: 1 of {step} is checked before the first job starts, the others when they start")
    checker = _ConfigChecker()
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
                hashed = config_hash(config, ABSENT_FOLDER)
                if hashed not in done:
                    checker.check(config)
        except MtxError as error:
            problems.setdefault(str(error), []).append(overrides)
        jobs.append(GridJob(num, tuple(overrides), hashed))
    if problems:
        raise ConfigError(_error_message(problems, len(grid)))
    return tuple(jobs)


class JobComposer:
    """Composes the configs of jobs; jobs with the same group options share one composition.

    Args:
        loader: config loader of Hydra.
        config_name: name of the primary config.
        in_sweep: whether an override may have several values in the command line that error messages explain.
    """

    def __init__(self, loader: ConfigLoader, config_name: str, *, in_sweep: bool = True) -> None:
        self._loader = loader
        self._in_sweep = in_sweep
        self._config_name = config_name
        self._parser = OverridesParser.create(config_loader=loader)
        self._groups = group_names(loader)
        self._bases: dict[tuple[str, ...], tuple[DictConfig, dict[str, Any]]] = {}

    def config(self, overrides: Sequence[str]) -> dict[str, Any] | None:
        """Return a job's config as plain values, or None if the config depends on the run.

        Raises:
            ConfigError: an override is invalid, or the config cannot be composed.
        """
        try:
            parsed = self._parser.parse_overrides(list(overrides))
            base, runtime = self._base_config(tuple(str(o.input_line) for o in parsed if self._is_choice(o)))
            cfg = copy.deepcopy(base)
            apply_overrides([o for o in parsed if not self._is_choice(o)], cfg)
        except (HydraException, OmegaConfBaseException) as error:
            message = composition_error_message(error, overrides, loader=self._loader, in_sweep=self._in_sweep)
            raise ConfigError(message) from error
        try:
            return without_keys_of_another_task(plain_config(cfg), runtime, overrides)
        except ConfigError as error:
            if "hydra" in str(error).lower():  # the config uses a value of the run, such as ${hydra:job.num}
                return None
            raise

    def _is_choice(self, override: Override) -> bool:
        return override.key_or_group in self._groups or override.package is not None

    def _base_config(self, chosen: tuple[str, ...]) -> tuple[DictConfig, dict[str, Any]]:
        """Return the config with some options chosen, and what Hydra has composed it from: `hydra.runtime`."""
        if chosen not in self._bases:
            cfg = self._loader.load_configuration(self._config_name, overrides=list(chosen), run_mode=RunMode.RUN)
            runtime = cast(dict[str, Any], OmegaConf.to_container(cfg.hydra.runtime))
            OmegaConf.set_struct(cfg, False)
            del cfg["hydra"]
            OmegaConf.set_struct(cfg, True)
            self._bases[chosen] = cfg, runtime
        return self._bases[chosen]


class _ConfigChecker:
    """Checks configs; equal options of a group are checked only once."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}  # group and options → error message, or an empty text

    def check(self, config: Mapping[str, Any]) -> None:
        """Check a config as the job itself would, with the data module that imports no Lightning.

        Raises:
            ConfigError: the config is invalid; the message lists every problem.
        """
        from mtx.components.check_and_build import build, check_config
        from mtx.components.groups import PARTS
        from mtx.experiment.run_context import datamodule_of, without_lightning
        from mtx.training.trainer_settings import check_trainer_settings

        config = without_lightning(config)
        parts: dict[str, Any] = {key: value for key, value in config.items() if not isinstance(value, Mapping)}
        problems = [self._problem("", parts, lambda: check_config(parts))]
        for group, options in config.items():
            if isinstance(options, Mapping):
                one = {group: options}
                if group == "trainer":
                    problems.append(self._problem("limits", options, partial(check_trainer_settings, options)))
                problems.append(self._problem(group, options, partial(check_config, one)))
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


def _error_message(problems: Mapping[str, Sequence[Sequence[str]]], num_jobs: int) -> str:
    num_wrong = sum(len(jobs) for jobs in problems.values())
    lines = [f"{num_wrong} of {num_jobs} jobs have an invalid config, so no job was started:"]
    for problem, jobs in problems.items():
        lines += [f"  {' '.join(job)}" for job in jobs[:MAX_NAMED_JOBS]]
        if len(jobs) > MAX_NAMED_JOBS:
            lines.append(f"  and {len(jobs) - MAX_NAMED_JOBS} more")
        lines += [f"    {line}" for line in problem.splitlines()]
    return "\n".join(lines)
