"""The plan of a sweep: its folder and its jobs, which are checked before the first job starts."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any, cast

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mtx.app.grid_check import GridJob, grid_jobs
from mtx.app.hydra_internals import BASIC_SWEEPER, command_line, extended_loader, grid_of, group_names
from mtx.app.launch_settings_check import check_job_folders, check_launch, check_ranges
from mtx.app.omegaconf_messages import omegaconf_message
from mtx.app.override_errors import CONFIG_NAME, option_problem
from mtx.app.varied_group_overrides import as_typed
from mtx.components.checked_options import problem_of
from mtx.components.identity import digest
from mtx.errors import ConfigError, StoreError
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.records.objective_at_equal_budget import check_budget_measure
from mtx.records.sweep_record import SWEEP_FILE, PlannedJob, SweepRecord, read_sweep
from mtx.redaction_and_escaping import redacted_override
from mtx.sweep.confirmation import check_confirm
from mtx.sweep.job_processes import has_died

PLAIN_PATH = re.compile(r"[\w./-]+")
OWN_KEYS = ("sweep.resume", "sweep.retry", "hydra.sweep.dir")  # keys that the command to resume a sweep sets itself


@dataclass(frozen=True)
class Sweep:
    """A sweep that is about to start.

    Attributes:
        folder: sweep folder, in which each job has its folder.
        overrides: overrides of the jobs, as typed.
        command: typed arguments, without those that set the sweep folder or resume a sweep.
        key: hash of the typed overrides, by which the same command finds its earlier sweep.
        jobs: all jobs in order, with the hashes of their configs; None if the sweeper chooses jobs during the sweep.
        num_jobs: number of jobs; None if only the sweeper knows it.
        varied: keys whose values differ between jobs.
        done: jobs that an earlier attempt completed: config hash → name of the job's folder.
        died: jobs whose process died in an earlier attempt: config hash → name of the job's folder.
        subdir: pattern of a job's folder below `folder`; None: as in the config.
        prefix: prefix of the job folder's name, before the job's number.
        attempt: number of the attempt, from 1; each resume adds one.
    """

    folder: Path
    overrides: tuple[str, ...]
    command: tuple[str, ...]
    key: str
    jobs: tuple[GridJob, ...] | None
    num_jobs: int | None
    varied: tuple[str, ...]
    done: Mapping[str, str]
    died: Mapping[str, str]
    subdir: str | None
    prefix: str
    attempt: int

    @property
    def resume_command(self) -> str:
        """Shell command that resumes the sweep and runs its missing jobs."""
        return shlex.join(["mtx", *self.command, f"sweep.resume={_quoted(self.folder)}"])

    @property
    def folder_override(self) -> str:
        """Hydra override that sets the sweep folder."""
        return f"hydra.sweep.dir={_quoted(self.folder)}"

    @property
    def num_done(self) -> int:
        """Number of jobs that an earlier attempt completed."""
        return sum(job.config_hash in self.done for job in self.jobs or ())

    def record(self) -> SweepRecord:
        """Return the content of `sweep.json`.

        Raises:
            DamagedError: the `sweep.json` of an earlier attempt is damaged.
            NewerFormatError: a newer mtx wrote the `sweep.json` of an earlier attempt.
        """
        now = datetime.now().astimezone().isoformat(timespec="milliseconds")
        before = read_sweep(self.folder)
        return SweepRecord(
            command=tuple(map(redacted_override, self.command)),
            key=self.key,
            started=(before and before.started) or now,
            attempt=self.attempt,
            attempt_started=now,
            num_jobs=self.num_jobs,
            num_done=self.num_done,
            varied=self.varied,
            jobs=tuple(
                PlannedJob(
                    folder=f"{self.prefix}{job.num}",
                    overrides=tuple(map(redacted_override, job.overrides)),
                    config_hash=job.config_hash,
                )
                for job in self.jobs or ()
            ),
            done=dict(self.done),
            confirm_folders=before.confirm_folders if before else (),
        )


def planned(arguments: Sequence[str], cfg: DictConfig, loader: ConfigLoader) -> Sweep:
    """Return the sweep that a command line describes.

    All jobs of a grid are composed and checked, so an error in the last job is reported before the first job starts.

    Args:
        arguments: command line, as Hydra got it.
        cfg: config that Hydra composed from it, with the sweeper that the user chose.
        loader: config loader for the jobs.

    Raises:
        ConfigError: a job's config is invalid, or `sweep.resume` names no sweep folder.
        HydraException: an override cannot be parsed.
    """
    loader = extended_loader(loader, list(cfg.hydra.get("searchpath") or ()))
    typed = [text for text in map(as_typed, arguments) if _key(text) not in OWN_KEYS]
    overrides = command_line(typed).overrides
    parser = OverridesParser.create(config_loader=loader)
    parsed = parser.parse_overrides(overrides)
    _check_options(loader, parsed)
    check_sweep_settings(cfg)
    of_jobs = [str(one.input_line) for one in parsed if not one.is_hydra_override()]
    params = _sweeper_params(cfg)
    key = digest({"overrides": sorted(overrides), "params": params})
    folder, before = _folder(Path(str(cfg.hydra.sweep.dir)), cfg.sweep.resume, key)
    done, died = earlier_jobs(folder) if before else ({}, {})
    lines = parser.parse_overrides([*(f"{name}={values}" for name, values in params.items()), *of_jobs])
    jobs = None
    if cfg.hydra.sweeper._target_ == BASIC_SWEEPER:
        check_ranges(lines)  # a search draws from a range, whose step may be anything
        name = str(cfg.hydra.job.config_name or CONFIG_NAME)
        jobs = grid_jobs(grid_of(lines), loader=loader, config_name=name, done=done)
    attempt = before.attempt + 1 if before else 1
    sweep = cast(dict[str, Any], OmegaConf.to_container(cfg.hydra.sweep, resolve=False))
    check_job_folders(str(sweep["subdir"]), None if jobs is None else len(jobs))
    prefix = str(sweep["subdir"]).partition("$")[0]
    renamed = before is not None and (jobs is None or before.key != key)  # job numbers may mean other jobs than before
    if renamed:
        prefix = f"{attempt}-"
    return Sweep(
        folder=folder,
        overrides=tuple(of_jobs),
        command=tuple(typed),
        key=key,
        jobs=jobs,
        num_jobs=cfg.hydra.sweeper.get("n_trials") if jobs is None else len(jobs),
        varied=_varied(lines, jobs),
        done=done,
        died=died,
        subdir=f"{prefix}${{hydra.job.num}}" if renamed else None,
        prefix=prefix,
        attempt=attempt,
    )


def _sweeper_params(cfg: DictConfig) -> dict[str, str]:
    """Return the values that the sweeper's options give to keys, as texts of overrides. Raises ConfigError."""
    if not cfg.hydra.sweeper.get("params"):
        return {}
    try:
        given = OmegaConf.to_container(cfg.hydra.sweeper.params, resolve=True)
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, ConfigError):  # of one of mtx's resolvers
            raise error.__cause__ from error.__cause__.__cause__
        raise ConfigError(f"hydra.sweeper.params: {omegaconf_message(error)}") from error
    assert isinstance(given, dict)
    return {str(name): str(values) for name, values in given.items()}


def check_sweep_settings(cfg: DictConfig) -> None:
    """Check the settings of a sweep, its launcher and its sweeper by their values alone.

    Args:
        cfg: config that Hydra composed from the command line.

    Raises:
        ConfigError: a value cannot work.
    """
    check_launch(cfg.hydra.launcher, cfg.hydra.sweeper)
    if problem := problem_of("sweep.objective", str | list[str] | None, _plain(cfg.sweep.objective)):
        raise ConfigError(problem)
    _check_direction(cfg.sweep.direction)
    check_budget_measure(cfg.sweep.budget)
    check_confirm(cfg.sweep.confirm, is_grid=cfg.hydra.sweeper._target_ == BASIC_SWEEPER)
    _check_search(cfg)


def earlier_jobs(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Return the jobs of earlier attempts at a sweep that are not to run again: config hash → name of the job's folder.

    The first part has the completed jobs, and the second the jobs whose process died.
    """
    from mtx.records.job_records import read_results

    known = [(job, job.config_hash) for job in read_results([folder]).jobs if job.config_hash is not None]
    done = {hashed: job.name for job, hashed in known if job.state == "completed"}
    return done, {hashed: job.name for job, hashed in known if has_died(job)}


def _varied(overrides: Sequence[Override], jobs: Sequence[GridJob] | None) -> tuple[str, ...]:
    """Return the keys that vary: in a grid, those with at least two values; in a search, all that are searched."""
    keys = dict.fromkeys(one.get_key_element().lstrip("+") for one in overrides if one.is_sweep_override())
    if jobs is None:
        return tuple(keys)
    values: dict[str, set[str]] = {}
    for key, value in {pair.partition("=")[::2] for job in jobs for pair in job.overrides}:
        values.setdefault(key.lstrip("+"), set()).add(value)
    return tuple(key for key in keys if len(values.get(key, ())) > 1)


def _check_options(loader: ConfigLoader, overrides: Sequence[Override]) -> None:
    """Check that each group that does not vary has the chosen option, as in a single run. Raises ConfigError."""
    groups = group_names(loader)
    fixed = [one for one in overrides if not one.is_sweep_override()]
    if problems := [problem for one in fixed if (problem := option_problem(loader, groups, one))]:
        raise ConfigError("\n".join(problems))


def _folder(folder: Path, resume: Any, key: str) -> tuple[Path, SweepRecord | None]:
    """Return the sweep folder, and the record of an earlier attempt in it, or None.

    Raises:
        ConfigError: `sweep.resume` is invalid, or the folder contains a sweep that is not to be resumed.
        DamagedError: the record of the earlier attempt is damaged.
        NewerFormatError: a newer mtx wrote the record of the earlier attempt.
    """
    if resume is True:
        own = [folder, *_sibling_sweeps(folder)]
        found = {path: sweep for path in own if (sweep := _readable(path)) and sweep.key == key}
        if not found:
            print("sweep.resume=true: no earlier sweep of this command was found, so a new sweep starts")
            return folder, None
        newest = max(found, key=lambda path: found[path].started or "")
        return newest, found[newest]
    if isinstance(resume, str):
        path = expanded_path(resume)
        if sweep := read_sweep(path):
            return path, sweep
        raise ConfigError(
            f"sweep.resume is true, false, or the folder of an earlier sweep, which contains {SWEEP_FILE}, but is "
            f"{resume!r}. Sweep folders are in {_top(folder)} by default; sweep.resume=true resumes the newest "
            "sweep of the same command"
        )
    if resume not in (False, None):
        raise ConfigError(f"sweep.resume is true, false, or the folder of an earlier sweep, but is {resume!r}")
    if read_sweep(folder):
        raise ConfigError(
            f"{folder} contains an earlier sweep, which this sweep would overwrite. Resume it with "
            f"sweep.resume={_quoted(folder)}, or choose another folder with hydra.sweep.dir=FOLDER"
        )
    return folder, None


def _check_direction(direction: Any) -> None:
    each = list(direction) if OmegaConf.is_list(direction) else [direction]
    if any(one not in ("minimize", "maximize", None) for one in each):
        raise ConfigError(f"sweep.direction is minimize, maximize, or null, or a list of them, but is {direction!r}")


def _check_search(cfg: DictConfig) -> None:
    """Check that the directions of a search match the objectives of the jobs in number. Raises ConfigError."""
    from mtx.sweep.search_directions import check_search

    direction, objective = _plain(cfg.hydra.sweeper.get("direction")), _plain(cfg.sweep.objective)
    direction = direction.name if isinstance(direction, Enum) else direction  # the default of Optuna's sweeper
    check_search(direction, objective, mtx_task=str(OmegaConf.select(cfg, "task._target_")).startswith("mtx."))


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value, enum_to_str=True) if OmegaConf.is_config(value) else value


def _key(override: str) -> str:
    return override.lstrip("+").partition("=")[0]


def _readable(folder: Path) -> SweepRecord | None:
    try:
        return read_sweep(folder)
    except StoreError:
        return None


def _sibling_sweeps(folder: Path) -> list[Path]:
    """Return the sweep folders beside `folder`; by default, `folder` is multirun/DATE/TIME."""
    return [path.parent for path in [*_top(folder).glob(f"*/*/{SWEEP_FILE}"), *folder.parent.glob(f"*/{SWEEP_FILE}")]]


def _top(folder: Path) -> Path:
    return folder.parent.parent


def _quoted(path: Path) -> str:
    """Return a path as a value in an override, with quotes if it needs them."""
    text = str(path)
    return text if PLAIN_PATH.fullmatch(text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
