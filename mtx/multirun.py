"""A sweep as seen by the process that starts it: which jobs, in which folder, checked before the first one starts.

`mtx -m …` goes through here on its way to Hydra, which composes, launches and sweeps as ever. What the jobs do about
themselves is in `mtx.experiment.sweep.job`, since launchers run them in other processes.
"""

import re
import shlex
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.utils import get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mtx.errors import ConfigError
from mtx.experiment.sweep.job import SWEEP_FILE, read_sweep
from mtx.experiment.sweep.status import held, write_json
from mtx.grid import GridJob, grid_jobs
from mtx.identity import digest
from mtx.overrides import CONFIG_NAME, groups_of, hydra_loader, wrong_option
from mtx.shown import redacted_override

SWEEP_VERSION = 1
SWEEP_LOCK = "sweep.lock"
BASIC_SWEEPER = f"{BasicSweeper.__module__}.{BasicSweeper.__qualname__}"
MAY_SET_MODE = re.compile(r"\+?(hydra\.mode|experiment)=")  # overrides that can make a sweep of a command without -m
OF_PLUG_INS = r"optuna\.|hydra_plugins\."  # modules whose notices are none of the user's business
PLAIN_PATH = re.compile(r"[\w./-]+")
EXPERIMENT = "experiment"
OWN_KEYS = ("sweep.resume", "hydra.sweep.dir")  # what the command that goes on sets itself


@dataclass(frozen=True)
class Multirun:
    """A sweep that is about to start.

    Attributes:
        folder: where its jobs have theirs.
        arguments: what Hydra gets: those of the command line, with the folder.
        command: the arguments that were typed, without those that say where and whether to go on.
        key: a hash of what was typed, so that the same command finds its earlier sweep.
        jobs: all of them in order, with their configs' hashes; None where the sweeper finds them as it goes.
        resumed: whether the folder holds an earlier attempt.
        attempt: from 1.
    """

    folder: Path
    arguments: tuple[str, ...]
    command: tuple[str, ...]
    key: str
    jobs: tuple[GridJob, ...] | None
    resumed: bool
    attempt: int

    @property
    def go_on(self) -> str:
        """The command that runs what is missing, as a shell takes it."""
        return shlex.join(["mtx", *self.command, f"sweep.resume={_quoted(self.folder)}"])

    @contextmanager
    def running(self) -> Iterator[None]:
        """Hold the sweep's folder, and write into it what is to be done and what has been done before.

        Raises ConfigError where another process sweeps into it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        busy = (
            f"another sweep runs in {self.folder}. Wait until it has ended, or choose another folder with "
            "hydra.sweep.dir=FOLDER"
        )
        with held(self.folder / SWEEP_LOCK, busy):
            before = read_sweep(self.folder)
            planned = [
                {
                    "folder": self.subdir(job.num),
                    "overrides": list(map(redacted_override, job.overrides)),
                    "config_hash": job.config_hash,
                }
                for job in self.jobs or ()
            ]
            sweep = {
                "sweep_version": SWEEP_VERSION,
                "command": list(map(redacted_override, self.command)),
                "key": self.key,
                "started": before.get("started") or datetime.now().astimezone().isoformat(timespec="milliseconds"),
                "attempt": self.attempt,
                "jobs": planned,
                "done": completed_jobs(self.folder) if self.resumed else {},
            }
            write_json(self.folder / SWEEP_FILE, sweep)
            with _composed_once() if self.jobs is not None else _search_without_notices():
                yield

    def subdir(self, num: int) -> str:
        """Return the name of a job's folder by its number."""
        return f"{self._prefix}{num}"

    @property
    def _prefix(self) -> str:
        said = next((text for text in reversed(self.arguments) if text.startswith("hydra.sweep.subdir=")), "")
        return said.partition("=")[2].strip("'").partition("$")[0]


def planned(arguments: Sequence[str]) -> Multirun | None:
    """Return the sweep that a command line asks for; None where it asks for something else.

    Composes and checks the jobs of a grid, so that a mistake in the last of them is told before the first starts.

    Raises:
        ConfigError: a job's config is not valid, or the folder to go on with is none.
        HydraException, OmegaConfBaseException: the config cannot be composed.
    """
    said, _ = get_args_parser().parse_known_args(list(arguments))
    asks = (said.help, said.hydra_help, said.cfg, said.info, said.shell_completion, said.run)
    if any(asks) or not (said.multirun or any(MAY_SET_MODE.match(text) for text in said.overrides)):
        return None
    with hydra_loader(said.config_dir) as loader:
        name = said.config_name or CONFIG_NAME
        cfg, of_jobs = _composed(loader, name, said.overrides)
        if cfg.hydra.mode != RunMode.MULTIRUN and not said.multirun:
            return None
        return _planned(arguments, said.overrides, cfg, loader, name, of_jobs)


def completed_jobs(folder: Path) -> dict[str, str]:
    """Return the completed jobs of a sweep: the hash of the config → the name of the job's folder."""
    from mtx.experiment.sweep.reading import read_results

    return {
        job.config_hash: job.name
        for job in read_results([folder]).jobs
        if job.state == "completed" and job.config_hash is not None
    }


def _composed(loader: ConfigLoader, name: str, overrides: Sequence[str]) -> tuple[DictConfig, set[str]]:
    """Compose what all jobs have in common; return it with the overrides that are for the jobs alone.

    Those are keys of groups whose options vary: Hydra would look for them in the default option. Raises ConfigError
    where a group has no such option, and what Hydra raises.
    """
    groups = groups_of(loader)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    choices = [one for one in parsed if one.key_or_group in groups or one.package is not None]
    fixed = [one for one in choices if not one.is_sweep_override()]
    if problems := [problem for one in fixed if (problem := wrong_option(loader, groups, one))]:
        raise ConfigError("\n".join(problems))
    first = [str(one.input_line) for one in parsed if one in choices or one.is_hydra_override()]
    cfg = loader.load_configuration(name, first, run_mode=RunMode.MULTIRUN, validate_sweep_overrides=False)
    swept = {one.key_or_group for one in choices if one.is_sweep_override()}
    swept |= groups.intersection(map(str, cfg.hydra.sweeper.get("params") or ()))
    if EXPERIMENT in swept:  # whose options choose those of other groups
        swept |= groups
    rest = [one for one in parsed if str(one.input_line) not in first and not one.is_sweep_override()]
    ConfigLoaderImpl._apply_overrides_to_config([one for one in rest if _group(one) not in swept], cfg)
    return cfg, {str(one.input_line) for one in rest if _group(one) in swept}


def _as_choice(override: str) -> str:
    """Return an override as a choice of one value, which Hydra applies to the jobs alone; one without a value as is."""
    key, _, value = override.partition("=")
    return f"{key}=choice({value})" if value else override


def _group(override: Override) -> str:
    return override.key_or_group.partition(".")[0]


@contextmanager
def _composed_once() -> Iterator[None]:
    """Keep Hydra's sweeper from composing all jobs of a grid that has been checked: 80 ms each, before the first."""
    hydras_own = BasicSweeper.validate_batch_is_legal
    BasicSweeper.validate_batch_is_legal = lambda self, batch: None  # type: ignore[method-assign]  # for this sweep
    try:
        yield
    finally:
        BasicSweeper.validate_batch_is_legal = hydras_own  # type: ignore[method-assign]  # as it was


@contextmanager
def _search_without_notices() -> Iterator[None]:
    """Keep notices about a plug-in's own use of a library from the terminal: users can do nothing about them."""
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning):
            warnings.filterwarnings("ignore", category=category, module=OF_PLUG_INS)
        yield


def _planned(
    arguments: Sequence[str],
    overrides: Sequence[str],
    cfg: DictConfig,
    loader: ConfigLoader,
    name: str,
    of_jobs: set[str],
) -> Multirun:
    _check_direction(cfg.sweep.direction)
    _check_search(cfg)
    kept = [text for text in overrides if text.lstrip("+").partition("=")[0] not in OWN_KEYS]
    options = [text for text in arguments if text not in overrides]
    given = OmegaConf.to_container(cfg.hydra.sweeper.params) if cfg.hydra.sweeper.get("params") else {}
    assert isinstance(given, dict)
    params = {str(name): str(values) for name, values in given.items()}
    key = digest({"overrides": sorted(kept), "params": params})
    folder, before = _folder(Path(str(cfg.hydra.sweep.dir)), cfg.sweep.resume, key)
    jobs = None
    if cfg.hydra.sweeper.get("_target_") == BASIC_SWEEPER:
        done = completed_jobs(folder) if before else {}
        lines = [*(f"{name}={values}" for name, values in params.items()), *kept]
        parsed = OverridesParser.create(config_loader=loader).parse_overrides(
            [line for line in lines if not line.startswith(("hydra.", "hydra/"))]
        )
        jobs = grid_jobs(BasicSweeper.split_arguments(parsed, None)[0], loader=loader, config_name=name, done=done)
    extra = [f"hydra.sweep.dir={_quoted(folder)}"]
    attempt = int(before.get("attempt", 1)) + 1 if before else 1
    if before and (jobs is None or before.get("key") != key):  # its numbers may stand for other jobs than before
        extra.append(f"hydra.sweep.subdir='{attempt}-${{hydra.job.num}}'")
    return Multirun(
        folder=folder,
        arguments=(*options, *(_as_choice(text) if text in of_jobs else text for text in kept), *extra),
        command=(*options, *kept),
        key=key,
        jobs=jobs,
        resumed=bool(before),
        attempt=attempt,
    )


def _folder(folder: Path, resume: Any, key: str) -> tuple[Path, Mapping[str, Any]]:
    """Return where to sweep, and what an earlier attempt there wrote; empty where there is none. Raises ConfigError."""
    if resume is True:
        own = [folder, *_folders_like(folder)]
        found = {path: sweep for path in own if (sweep := read_sweep(path)).get("key") == key}
        if not found:
            print("sweep.resume=true: no earlier sweep of this command is there; it starts from the beginning")
            return folder, {}
        newest = max(found, key=lambda path: str(found[path].get("started", "")))
        return newest, found[newest]
    if isinstance(resume, str):
        path = Path(resume).expanduser()
        if sweep := read_sweep(path):
            return path, sweep
        raise ConfigError(
            f"sweep.resume is true, false, or the folder of an earlier sweep, which has a {SWEEP_FILE} in it, but is "
            f"{resume!r}. Sweeps are in {_top(folder)} unless told otherwise; sweep.resume=true finds the newest of "
            "the same command"
        )
    if resume not in (False, None):
        raise ConfigError(f"sweep.resume is true, false, or the folder of an earlier sweep, but is {resume!r}")
    if read_sweep(folder):
        raise ConfigError(
            f"{folder} holds an earlier sweep, which this one would overwrite. Go on by "
            f"sweep.resume={_quoted(folder)}, or choose another folder with hydra.sweep.dir=FOLDER"
        )
    return folder, {}


def _check_direction(direction: Any) -> None:
    each = list(direction) if OmegaConf.is_list(direction) else [direction]
    if any(one not in ("minimize", "maximize", None) for one in each):
        raise ConfigError(f"sweep.direction is minimize, maximize, or null, or a list of them, but is {direction!r}")


def _check_search(cfg: DictConfig) -> None:
    """Raise ConfigError where a sweeper that searches would look at more or fewer numbers than the jobs have."""
    from mtx.experiment.sweep.search import check_search

    direction, objective = (
        OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
        for value in (cfg.hydra.sweeper.get("direction"), cfg.sweep.objective)
    )
    check_search(direction, objective, mtx_task=str(cfg.task.get("_target_")).startswith("mtx."))


def _folders_like(folder: Path) -> list[Path]:
    """Return folders of sweeps beside `folder`, which by default is multirun/DATE/TIME."""
    return [path.parent for path in [*_top(folder).glob(f"*/*/{SWEEP_FILE}"), *folder.parent.glob(f"*/{SWEEP_FILE}")]]


def _top(folder: Path) -> Path:
    return folder.parent.parent


def _quoted(path: Path) -> str:
    """Write a path as a value in an override."""
    text = str(path)
    return text if PLAIN_PATH.fullmatch(text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
