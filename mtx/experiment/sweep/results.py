"""What runs and sweeps left in their folders, read back as plain values: the ground for tables, files and pages.

Comes in: any number of output folders, of single runs, of sweeps, or folders that hold such, old ones without a
`status.json` too. Goes out: `Results`. Nothing here raises for a damaged file; it becomes a note on the job.
"""

import dataclasses
import json
import math
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from mtx.errors import DamagedError
from mtx.experiment.sweep.job import REPORT_FILE, read_sweep
from mtx.experiment.sweep.metrics import KEY_METRICS, Value, flat, flat_numbers
from mtx.experiment.sweep.status import CONFIG_FILE, STATUS_FILE, JobStatus, read_status

Direction = Literal["minimize", "maximize"]
RecordState = Literal["running", "completed", "failed", "interrupted", "missing"]

HYDRA_FOLDER = ".hydra"
MARKS = (STATUS_FILE, REPORT_FILE, HYDRA_FOLDER)  # what a job's folder has at least one of
SEED = "seed"  # jobs that differ in nothing else are repeats
NOT_COMPARED = frozenset({"hydra", "sweep", "launcher", "sweeper"})  # groups that change how, not what, is computed
MORE_IS_BETTER = frozenset({"real_tokens_per_s", "target_tokens_per_s", "scores.bleu", "scores.chrf"})


@dataclass(frozen=True)
class JobRecord:
    """One job.

    Attributes:
        folder: where it wrote; where it would have written, for a job that is missing.
        name: of the job among those read together: its folder, below what they share.
        state: as in `JobStatus`; `missing` for a job of a sweep that never began.
        overrides: what was said on the command line for it.
        choices: the option of each config group: `{"sampler": "bucket"}`.
        config: the resolved config, flat: `{"sampler.batch_size": 64}`; lists as JSON. Secrets are hidden.
        metrics: the numbers of its report, flat: `{"real_tokens_per_batch.mean": 812.5}`.
        report: the whole of `report.json`; empty where there is none.
        objectives: what the sweep looks at, by name, the first first.
        config_hash: of its config, as in `JobStatus`; None for runs without a status.
        started, ended, seconds, error, traceback: as in `JobStatus`.
        log: its log file, where there is one.
        reused: it was completed by an earlier attempt at its sweep.
        notes: what could not be read, one sentence each, for people.
    """

    folder: Path
    name: str
    state: RecordState
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    objectives: Mapping[str, float] = field(default_factory=dict)
    config_hash: str | None = None
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    error: str | None = None
    traceback: str | None = None
    log: Path | None = None
    reused: bool = False
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> Value:
        """Return a group's option (`sampler`) or a config value (`sampler.batch_size`); None where it has none."""
        return self.choices.get(key, self.config.get(key))

    def number(self, metric: str) -> float | None:
        """Return an objective or a metric by its name; None where the job has none."""
        return self.objectives.get(metric, self.metrics.get(metric))


@dataclass(frozen=True)
class Group:
    """Jobs whose configs differ in the seed alone.

    Attributes:
        values: what they have in the keys that vary, the seed left out; empty where only the seed varies.
        jobs: all of them, in any state.
    """

    values: Mapping[str, Value]
    jobs: tuple[JobRecord, ...]

    def numbers(self, metric: str) -> list[float]:
        """Return a metric of all completed jobs that have it as a finite number."""
        found = (job.number(metric) for job in self.jobs if job.state == "completed")
        return [float(number) for number in found if number is not None and math.isfinite(number)]

    def mean(self, metric: str) -> float | None:
        """Return the mean over seeds; None where no job has the metric."""
        numbers = self.numbers(metric)
        return statistics.fmean(numbers) if numbers else None

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over seeds (n − 1 in the divisor); None for fewer than two."""
        numbers = self.numbers(metric)
        return statistics.stdev(numbers) if len(numbers) > 1 else None


@dataclass(frozen=True)
class Results:
    """Jobs read together.

    Attributes:
        folders: what was asked for.
        jobs: in the order of their folders, numbers in order of size.
        notes: what could not be read beside the jobs.
        command: of the sweep, where all is one sweep: its overrides as they were typed.
    """

    folders: tuple[Path, ...]
    jobs: tuple[JobRecord, ...]
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @cached_property
    def objective(self) -> str | None:
        """Name of what the jobs are sorted by: the first objective of the first job that has one."""
        named = next((list(job.objectives) for job in self.jobs if job.objectives), [])
        return named[0] if named else None

    @cached_property
    def direction(self) -> Direction:
        """Whether less or more of the objective is better: by `sweep.direction`, else by its name."""
        said = next((job.config["sweep.direction"] for job in self.jobs if job.config.get("sweep.direction")), None)
        first = json.loads(said)[0] if isinstance(said, str) and said.startswith("[") else said
        if first in ("minimize", "maximize"):
            return first  # type: ignore[return-value]  # one of the two, as was just asked
        return "maximize" if self.objective in MORE_IS_BETTER else "minimize"

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """Keys that differ between jobs, groups first; what follows from a group's option alone is left out."""
        jobs = [job for job in self.jobs if job.config]
        names = dict.fromkeys(name for job in jobs for name in job.choices if name not in NOT_COMPARED)
        options = [name for name in names if len({job.choices.get(name) for job in jobs}) > 1]
        keys = sorted({key for job in jobs for key in job.config})
        values = []
        for key in keys:
            group = key.partition(".")[0]
            if group in NOT_COMPARED or (key.rpartition(".")[2] in ("_target_", "_partial_") and group in options):
                continue
            within = [group] if group in options else [name for name in options if name == "experiment"]
            by_option: dict[Any, set[Value]] = {}
            for job in jobs:
                by_option.setdefault(tuple(job.choices.get(name) for name in within), set()).add(job.config.get(key))
            if any(len(found) > 1 for found in by_option.values()):
                values.append(key)
        return (*options, *values)

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Jobs gathered over seeds, best first; groups without the objective last, as they came."""
        keys = [key for key in self.varied if key != SEED]
        found: dict[tuple[Value, ...], list[JobRecord]] = {}
        for job in self.jobs:
            key = tuple(job.value(key) for key in keys) if job.config else (job.name,)
            found.setdefault(key, []).append(job)
        groups = [Group(dict(zip(keys, values, strict=False)), tuple(jobs)) for values, jobs in found.items()]
        return tuple(sorted(groups, key=self._rank))

    @cached_property
    def best(self) -> tuple[Group, ...]:
        """The best group; with those that cannot be told apart from it: equal, or within the spread over seeds.

        One group: it is the best. Several: there is no winner. Two groups are within the spread where the difference
        of their means is at most the sum of their standard deviations.
        """
        if self.objective is None:
            return ()
        ranked = [group for group in self.groups if group.mean(self.objective) is not None]
        return tuple(group for group in ranked if _no_worse(group, ranked[0], self.objective))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics that people look at first and that some job has, the objective left out."""
        return tuple(
            name for name in KEY_METRICS if name != self.objective and any(name in job.metrics for job in self.jobs)
        )

    def count(self, *states: RecordState) -> int:
        """Return the number of jobs in any of some states."""
        return sum(job.state in states for job in self.jobs)

    def _rank(self, group: Group) -> tuple[bool, float]:
        mean = None if self.objective is None else group.mean(self.objective)
        return (mean is None, 0.0 if mean is None else mean if self.direction == "minimize" else -mean)


def read_results(folders: Sequence[Path]) -> Results:
    """Read all jobs in `folders` and below them.

    Where two jobs of a sweep have the same config, the one that counts is the completed one, else the later.
    """
    roots = list(dict.fromkeys(Path(folder) for folder in folders))
    notes = [f"{root} is no folder" for root in roots if not root.is_dir()]
    found = list(dict.fromkeys(job for root in roots if root.is_dir() for job in _job_folders(root)))
    shared = _shared(roots, found)
    records = [_read_job(folder, _name(folder, shared)) for folder in found]
    sweeps = list(dict.fromkeys(folder.parent for folder in found) | dict.fromkeys(roots))
    told = {folder: sweep for folder in sweeps if (sweep := read_sweep(folder))}
    records = _counting(records)
    records = [_marked_reused(record, told.get(record.folder.parent, {})) for record in records]
    for folder, sweep in told.items():
        if folder.is_dir():
            records += _missing(folder, sweep, [r for r in records if r.folder.parent == folder], shared)
    records.sort(key=lambda record: _natural(record.name))
    notes += [
        f"there is no run in {root}" for root in roots if root.is_dir() and not any(_below(j, root) for j in found)
    ]
    command = tuple(told[roots[0]].get("command", ())) if len(roots) == 1 and roots[0] in told else ()
    return Results(tuple(roots), tuple(records), tuple(notes), command)


def _job_folders(root: Path) -> Iterator[Path]:
    """Yield folders of jobs in `root` and below it; a job's own folders are not looked into."""
    if any((root / mark).exists() for mark in MARKS):
        yield root
        return
    for child in sorted((path for path in root.iterdir() if path.is_dir()), key=lambda path: _natural(path.name)):
        if not child.name.startswith("."):
            yield from _job_folders(child)


def _read_job(folder: Path, name: str) -> JobRecord:
    notes: list[str] = []
    status: JobStatus | None = None
    try:
        status = read_status(folder)
    except DamagedError as error:
        notes.append(str(error))
    report = _json(folder / REPORT_FILE, notes)
    config, choices, overrides = _config(folder, notes)
    state: RecordState = status.state if status else "completed" if report else "interrupted"
    logs = sorted(folder.glob("*.log"))
    return JobRecord(
        folder=folder,
        name=name,
        state=state,
        overrides=tuple(map(str, status.overrides if status else overrides)),
        choices={key: str(value) for key, value in (status.choices if status else choices).items()},
        config={key: _value(value) for key, value in flat(config).items() if key.partition(".")[0] != "hydra"},
        metrics=flat_numbers(report),
        report=report,
        objectives=dict(status.objectives) if status else _objectives_of_old(report),
        config_hash=status.config_hash if status else None,
        started=status.started if status else None,
        ended=status.ended if status else None,
        seconds=status.seconds if status else None,
        error=status.error if status else None,
        traceback=status.traceback if status else None,
        log=logs[0] if logs else None,
        notes=tuple(notes),
    )


def _config(folder: Path, notes: list[str]) -> tuple[dict[str, Any], dict[str, Any], list[Any]]:
    """Return a job's config, choices and overrides; from what Hydra wrote where mtx wrote none."""
    hydra = folder / HYDRA_FOLDER
    config = _json(folder / CONFIG_FILE, notes)
    has_status = (folder / STATUS_FILE).exists() and not notes
    if config and has_status:
        return config, {}, []
    said = _yaml(hydra / "hydra.yaml", notes)
    inner = said.get("hydra") if isinstance(said.get("hydra"), dict) else {}
    assert isinstance(inner, dict)
    runtime, overrides = inner.get("runtime"), inner.get("overrides")
    choices = runtime.get("choices") if isinstance(runtime, dict) else {}
    task = overrides.get("task") if isinstance(overrides, dict) else []
    plain = {key: option for key, option in (choices or {}).items() if option is not None and "/" not in str(key)}
    return config or _yaml(hydra / "config.yaml", notes), plain, task if isinstance(task, list) else []


def _json(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        read = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{path} cannot be read: {error}")
        return {}
    if isinstance(read, dict):
        return read
    notes.append(f"{path} holds a {type(read).__name__}, no mapping")
    return {}


def _yaml(path: Path, notes: list[str]) -> dict[str, Any]:
    try:
        read = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        notes.append(f"{path} cannot be read: {' '.join(str(error).split())}")
        return {}
    return read if isinstance(read, dict) else {}


def _objectives_of_old(report: Mapping[str, Any]) -> dict[str, float]:
    """Return what the task of a run without a status returned, by its report."""
    name = next((name for name in ("bits_per_byte", "padding_ratio") if isinstance(report.get(name), float)), None)
    return {} if name is None else {name: report[name]}


def _counting(records: list[JobRecord]) -> list[JobRecord]:
    """Leave out jobs of a sweep that a later attempt has done again."""
    kept: dict[object, JobRecord] = {}
    for record in records:
        alone = record.config_hash is None or not (record.folder.parent / "sweep.json").exists()
        key: object = record.folder if alone else (record.folder.parent, record.config_hash)
        if key not in kept or _worth(record) > _worth(kept[key]):
            kept[key] = record
    return list(kept.values())


def _worth(record: JobRecord) -> tuple[bool, str]:
    return record.state == "completed", record.started or ""


def _marked_reused(record: JobRecord, sweep: Mapping[str, Any]) -> JobRecord:
    done = sweep.get("done", {})
    if record.config_hash is None or done.get(record.config_hash) != record.folder.name:
        return record
    return dataclasses.replace(record, reused=True)


def _missing(folder: Path, sweep: Mapping[str, Any], records: Sequence[JobRecord], shared: Path) -> list[JobRecord]:
    """Return the jobs that a sweep was to run and that never began."""
    begun = {record.config_hash or record.folder.name for record in records}
    found = []
    for planned in sweep.get("jobs", []):
        if not isinstance(planned, dict) or not isinstance(planned.get("folder"), str):
            continue
        hashed = planned.get("config_hash")
        path = folder / planned["folder"]
        if (path.is_dir() if hashed is None else hashed in begun) or planned["folder"] in begun:
            continue
        said = tuple(map(str, planned.get("overrides", ())))
        found.append(JobRecord(path, _name(path, shared), "missing", overrides=said, config_hash=hashed))
    return found


def _value(value: Any) -> Value:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)


def _shared(roots: Sequence[Path], found: Sequence[Path]) -> Path:
    """Return the folder from which names of jobs are told: the one root, or the deepest that holds all jobs."""
    if len(roots) == 1 and roots[0] not in found:
        return roots[0]
    if not found:
        return Path()
    shared = found[0].parent
    while not all(_below(path, shared) for path in found) and shared != shared.parent:
        shared = shared.parent
    return shared


def _name(folder: Path, shared: Path) -> str:
    return folder.relative_to(shared).as_posix() if _below(folder, shared) else str(folder)


def _below(path: Path, folder: Path) -> bool:
    return path == folder or folder in path.parents


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]


def _no_worse(group: Group, best: Group, metric: str) -> bool:
    mean, least = group.mean(metric), best.mean(metric)
    assert mean is not None
    assert least is not None
    return group is best or abs(mean - least) <= (group.spread(metric) or 0.0) + (best.spread(metric) or 0.0)
