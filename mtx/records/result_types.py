"""The results of runs and sweeps as plain values, for tables, files and pages.

`mtx.records.job_records` reads them from folders.
"""

import json
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

from mtx.evaluation.verdict import Direction, Verdict, verdict, with_text_differences
from mtx.records.report_metrics import HELD_OUT_PREFIXES, KEY_METRICS, MORE_IS_BETTER, Value, shown_value
from mtx.records.report_record import Report
from mtx.records.sentence_intervals import SentenceIntervals, sentence_intervals
from mtx.records.setting_notation import BEST_MARK, TIE_MARK, settings_label
from mtx.records.sweep_progress import SweepProgress
from mtx.records.varied_keys import varied_keys

RecordState = Literal["running", "completed", "failed", "interrupted", "missing"]

CONFIRM_SUFFIX = " (new seeds)"  # of the name of an arm whose jobs `sweep.confirm` added
SEED = "seed"  # jobs that differ in nothing else are repeats
SHAPE_GROUPS = frozenset({"model", "tokenizer"})  # config groups whose options change the first weights of a seed
# Keys of the reference model that leave the first weights of a seed as they are.
SAME_WEIGHTS = ("activation", "dropout", "label_smoothing", "learning_rate", "warmup_steps", "weight_decay")
SAME_WEIGHTS_KEYS = frozenset(f"model.{name}" for name in SAME_WEIGHTS)
PER_TOKEN_SUFFIXES = ("loss", "loss_first", "perplexity")  # of metrics that are a mean over tokens


@dataclass(frozen=True)
class JobRecord:
    """The record of one job.

    Attributes:
        folder: where it wrote; where it would have written, for a job that is missing.
        name: of the job among those read together: its folder, below what they share.
        state: as in `JobStatus`; `missing` for a job of a sweep that never began.
        overrides: what was said on the command line for it.
        choices: the option of each config group: `{"sampler": "bucket"}`.
        config: the resolved config, flat: `{"sampler.batch_size": 64}`; lists as JSON. Secrets are hidden.
        metrics: the numbers of its report, flat: `{"real_tokens_per_batch.mean": 812.5}`.
        report: empty where there is none, or none that can be read.
        report_problem: why the report cannot be read; None where it can be, or where there is none.
        objectives: what the sweep compares, by name, the first first.
        config_hash: of its config, as in `JobStatus`; None for runs without a status.
        started, ended, seconds, error, traceback: as in `JobStatus`.
        log: its log file, where there is one.
        reused: it was completed by an earlier attempt at its sweep.
        confirms: `sweep.confirm` added it, to repeat one of the best two arms with a new seed.
        notes: what could not be read, one sentence each, for people.
    """

    folder: Path
    name: str
    state: RecordState
    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Value] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    report: Report = field(default_factory=Report)
    report_problem: str | None = None
    objectives: Mapping[str, float] = field(default_factory=dict)
    config_hash: str | None = None
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    error: str | None = None
    traceback: str | None = None
    log: Path | None = None
    reused: bool = False
    confirms: bool = False
    notes: tuple[str, ...] = ()

    def value(self, key: str) -> Value:
        """Return a group's option (`sampler`) or a config value (`sampler.batch_size`); None if the job has neither."""
        return self.choices.get(key, self.config.get(key))

    def number(self, metric: str) -> float | None:
        """Return an objective or a metric by name; None if the job has neither."""
        return self.objectives.get(metric, self.metrics.get(metric))


@dataclass(frozen=True)
class Group:
    """An arm: jobs whose configs differ only in the seed.

    Attributes:
        values: The values of the varied keys without the seed; empty if only the seed varies.
        jobs: All jobs of the arm, in any state.
    """

    values: Mapping[str, Value]
    jobs: tuple[JobRecord, ...]

    @property
    def is_failed(self) -> bool:
        """Whether no job was completed and none may still be."""
        return not any(job.state in ("completed", "running", "missing") for job in self.jobs)

    def numbers(self, metric: str) -> list[float]:
        """Return a metric of all completed jobs that have it, NaN and infinite ones included."""
        found = (job.number(metric) for job in self.jobs if job.state == "completed")
        return [float(number) for number in found if number is not None]

    def numbers_by_seed(self, metric: str) -> dict[Value, float]:
        """Return a metric of all completed jobs that have it, by seed.

        Jobs with the same seed and the same config are repeats of one job, so their mean counts as one number.
        """
        return {
            seed: sum(float(job.number(metric) or 0) for job in jobs) / len(jobs)
            for seed, jobs in self._jobs_by_seed(metric).items()
        }

    def shown_numbers_by_seed(self, metric: str) -> dict[Value, float]:
        """Return `numbers_by_seed` in the unit of the metric's heading."""
        return {seed: shown_value(metric, number) for seed, number in self.numbers_by_seed(metric).items()}

    def weighted_jobs(self, metric: str) -> list[tuple[float, JobRecord]]:
        """Return the completed jobs that have a metric, with weights for the mean of `numbers_by_seed`."""
        by_seed = self._jobs_by_seed(metric)
        return [(1 / len(by_seed) / len(jobs), job) for jobs in by_seed.values() for job in jobs]

    def _jobs_by_seed(self, metric: str) -> dict[Value, list[JobRecord]]:
        found: dict[Value, list[JobRecord]] = {}
        for job in self.jobs:
            if job.state == "completed" and job.number(metric) is not None:
                found.setdefault(job.value(SEED), []).append(job)
        return found

    def num_diverged(self, metric: str) -> int:
        """Return the number of completed jobs whose metric is NaN or infinite."""
        return sum(not math.isfinite(number) for number in self.numbers(metric))

    def mean(self, metric: str) -> float | None:
        """Return the mean over jobs; None if no job has the metric, or if the metric of a job is NaN or infinite."""
        numbers = self.numbers(metric)
        return statistics.fmean(numbers) if numbers and not self.num_diverged(metric) else None

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over jobs (n − 1 in the divisor); None without two jobs or without a mean."""
        numbers = self.numbers(metric)
        return statistics.stdev(numbers) if len(numbers) > 1 and not self.num_diverged(metric) else None


@dataclass(frozen=True)
class Results:
    """The results of all jobs that were read together.

    Attributes:
        folders: The folders that were read.
        jobs: The jobs in natural order of their names: 2 before 10.
        notes: One sentence for each file outside of jobs that cannot be read.
        command: The command-line arguments if all jobs belong to one sweep; else empty.
        assumptions: What the sweep assumed apart from its jobs, if all jobs belong to one sweep.
        progress: How far the sweep has come, while it runs; None after its end.
        with_samples: Whether a page may show sentences of the corpus (`page.samples`).
    """

    folders: tuple[Path, ...]
    jobs: tuple[JobRecord, ...]
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    progress: SweepProgress | None = None
    with_samples: bool = True

    @cached_property
    def objective(self) -> str | None:
        """The metric that ranks the jobs: the first objective of the first job that has one."""
        named = next((list(job.objectives) for job in self.jobs if job.objectives), [])
        return named[0] if named else None

    @cached_property
    def direction(self) -> Direction:
        """Whether a smaller or a larger objective is better: `sweep.direction` if set, else known from its name."""
        said = next((job.config["sweep.direction"] for job in self.jobs if job.config.get("sweep.direction")), None)
        first = json.loads(said)[0] if isinstance(said, str) and said.startswith("[") else said
        if first in ("minimize", "maximize"):
            return first  # type: ignore[return-value]  # checked by the line above
        return "maximize" if self.objective in MORE_IS_BETTER else "minimize"

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The keys that differ between jobs, groups first, without keys that only follow from a group's option."""
        return varied_keys(self.jobs)

    @cached_property
    def arms(self) -> Mapping[str, Group]:
        """Jobs gathered over seeds, in the order in which they came, by a name for people."""
        keys = [key for key in self.varied if key != SEED]
        found: dict[tuple[Value, ...], list[JobRecord]] = {}
        for job in self.jobs:
            key = tuple(job.value(key) for key in keys) if job.config else (job.name,)
            found.setdefault((*key, job.confirms), []).append(job)
        named: dict[str, Group] = {}
        for values, jobs in found.items():
            settings = dict(zip(keys, values, strict=False))
            name = (settings_label(settings, jobs[0].choices) if jobs[0].config else "") or jobs[0].name
            name += CONFIRM_SUFFIX * jobs[0].confirms
            named[name if name not in named else f"{name} ({jobs[0].name})"] = Group(settings, tuple(jobs))
        return named

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Arms, best first; then diverged ones, then those that the verdict is not about, best first.

        Arms without the objective are the last, as they came.
        """
        order = self.verdict.order
        rest = [name for name in self.arms if name not in order]
        sign = 1 if self.direction == "minimize" else -1
        means = {name: self.arms[name].mean(self.objective or "") for name in rest}
        rest.sort(key=lambda name: math.inf if (mean := means[name]) is None else sign * mean)
        return tuple(self.arms[name] for name in (*order, *rest))

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the arms by the objective, with intervals over seeds and over held-out sentences.

        After `sweep.confirm`, the verdict is on the jobs that it added alone. Differences have the unit of the metric's
        heading: percentage points for shares.
        """
        return with_text_differences(self._verdict_over_seeds, self.sentences.differences)

    @cached_property
    def sentences(self) -> SentenceIntervals:
        """The intervals over held-out sentences, and what they are based on; empty while jobs run."""
        if self.is_interim or not self.is_comparable:
            return SentenceIntervals()
        return sentence_intervals(self.objective, self.arms, self._verdict_over_seeds)

    @cached_property
    def judged_arms(self) -> Mapping[str, Group]:
        """The arms that a verdict is about: after `sweep.confirm`, those whose jobs it added."""
        return {name: arm for name, arm in self.arms.items() if arm.jobs[0].confirms == self.is_confirmed}

    @cached_property
    def _verdict_over_seeds(self) -> Verdict:
        metric, arms = self.objective, self.judged_arms
        values = {} if metric is None else {name: arm.shown_numbers_by_seed(metric) for name, arm in arms.items()}
        return verdict(values, direction=self.direction, paired=self.has_paired_seeds)

    @property
    def is_confirmed(self) -> bool:
        """Whether `sweep.confirm` added jobs that repeat the best two arms with new seeds."""
        return any(job.confirms for job in self.jobs)

    @cached_property
    def has_paired_seeds(self) -> bool:
        """Whether jobs with the same seed are pairs by design: the same first weights and the same held-out pairs.

        They are under three conditions. The objective is a figure of held-out text. All arms have the same seeds, jobs
        that did not end included. No setting varies that changes the weights of a model with a given seed.
        """
        if self.objective is None or not self.objective.startswith(HELD_OUT_PREFIXES):
            return False
        keys = set(self.varied) - SAME_WEIGHTS_KEYS
        if any(key.partition(".")[0] in SHAPE_GROUPS for key in keys):
            return False
        seeds = [
            {job.value(SEED) for job in arm.jobs}
            for arm in self.arms.values()
            if arm.jobs[0].config and arm.jobs[0].confirms == self.is_confirmed
        ]
        most = max(seeds, key=len, default=set())
        return None not in most and all(one <= most for one in seeds)

    @cached_property
    def is_comparable(self) -> bool:
        """Whether the objective has the same meaning for all arms: a loss per token depends on the tokenizer."""
        tokenizers = {job.report.ids.tokenizer for job in self.jobs if job.state == "completed"}
        return len(tokenizers) < 2 or self.objective is None or not self.objective.endswith(PER_TOKEN_SUFFIXES)

    @property
    def is_interim(self) -> bool:
        """Whether jobs still run, so that no winner is named yet."""
        return self.progress is not None or self.count("running") > 0

    def arm_name(self, group: Group) -> str:
        """Return the name of an arm."""
        return self.arm_names[id(group.jobs)]

    @cached_property
    def arm_names(self) -> Mapping[int, str]:
        """The name of each arm by the identity of its `jobs`."""
        return {id(arm.jobs): name for name, arm in self.arms.items()}

    def mark(self, group: Group) -> str:
        """Return the mark of an arm in tables: the winner, one that may be the best, or none of these."""
        name, found = self.arm_name(group), self.verdict
        if self.is_interim or not self.is_comparable:
            return ""
        if found.winner is not None:
            return BEST_MARK if name == found.winner else ""
        return TIE_MARK if found.has_intervals and len(found.tied) > 1 and name in found.tied else ""

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names in `KEY_METRICS` that some job reports, without the objective."""
        return tuple(
            name for name in KEY_METRICS if name != self.objective and any(name in job.metrics for job in self.jobs)
        )

    def count(self, *states: RecordState) -> int:
        """Return the number of jobs in any of the given states."""
        return sum(job.state in states for job in self.jobs)
