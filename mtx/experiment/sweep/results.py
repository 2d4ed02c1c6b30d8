"""What runs and sweeps came to, as plain values: the ground for tables, files and pages.

`mtx.experiment.sweep.reading` makes them from folders.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mtx.experiment.sweep.metrics import KEY_METRICS, Value

Direction = Literal["minimize", "maximize"]
RecordState = Literal["running", "completed", "failed", "interrupted", "missing"]

SEED = "seed"  # jobs that differ in nothing else are repeats
NOT_COMPARED = frozenset({"hydra", "sweep", "launcher", "sweeper"})  # groups that change how, not what, is computed
SAME_ANYWHERE = frozenset({"storage.root"})  # keys that say where, not what
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
        keys = sorted({key for job in jobs for key in job.config} - SAME_ANYWHERE)
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


def _no_worse(group: Group, best: Group, metric: str) -> bool:
    mean, least = group.mean(metric), best.mean(metric)
    assert mean is not None
    assert least is not None
    return group is best or abs(mean - least) <= (group.spread(metric) or 0.0) + (best.spread(metric) or 0.0)
