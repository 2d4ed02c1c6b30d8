"""What each varied choice does to the objective, over all other choices and over seeds."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtx.experiment.sweep.metrics import Value
from mtx.experiment.sweep.results import SEED, JobRecord, Results

MOST_EFFECTS = 8  # choices


@dataclass(frozen=True)
class EffectRow:
    """One value of a choice.

    Attributes:
        value: as in the config.
        numbers: the objective of the jobs that have it.
        difference: mean difference from the best value in jobs that are alike in everything else that varies; None for
            the best value, and where no jobs are alike.
        difference_spread: its standard deviation; None for fewer than two pairs of jobs.
        num_pairs: of jobs that are alike.
        is_best: its mean is the best.
    """

    value: Value
    numbers: tuple[float, ...]
    difference: float | None
    difference_spread: float | None
    num_pairs: int
    is_best: bool

    @property
    def mean(self) -> float:
        """Mean over jobs."""
        return statistics.fmean(self.numbers)

    @property
    def spread(self) -> float | None:
        """Standard deviation over jobs; None for fewer than two."""
        return statistics.stdev(self.numbers) if len(self.numbers) > 1 else None

    @property
    def within_spread(self) -> bool:
        """Whether it cannot be told apart from the best: the difference is no larger than its own spread."""
        return self.difference is not None and abs(self.difference) <= (self.difference_spread or 0.0)


@dataclass(frozen=True)
class Effect:
    """One varied choice.

    Attributes:
        key: `sampler`, or `tokenizer.vocab_size`.
        rows: one a value, in order: numbers by size, others by their mean, the best first.
        balanced: whether all values were tried with the same other choices.
    """

    key: str
    rows: tuple[EffectRow, ...]
    balanced: bool

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(row.value, (int, float)) and not isinstance(row.value, bool) for row in self.rows)


def effects(results: Results) -> tuple[Effect, ...]:
    """Return the effect of each choice that varied, the seed left out, in the order in which they are told."""
    metric = results.objective
    if metric is None:
        return ()
    jobs = [(job, value) for job in results.jobs if (value := _objective(job, metric)) is not None]
    keys = [key for key in results.varied if key != SEED]
    found = (_effect(key, jobs, results) for key in keys)
    return tuple(effect for effect in found if effect is not None)[:MOST_EFFECTS]


def _objective(job: JobRecord, metric: str) -> float | None:
    value = job.number(metric) if job.state == "completed" else None
    return value if value is not None and abs(value) < float("inf") else None


def _effect(key: str, jobs: Sequence[tuple[JobRecord, float]], results: Results) -> Effect | None:
    others = [other for other in results.varied if other != key]
    group = key.partition(".")[0]
    belongs_to_option = group != key and group in others  # then jobs of other options have no such setting
    by_value: dict[Value, dict[tuple[Value, ...], list[float]]] = {}
    for job, metric in jobs:
        value = job.value(key)
        if value is None and belongs_to_option:
            continue
        alike = tuple(job.value(other) for other in others)
        by_value.setdefault(value, {}).setdefault(alike, []).append(metric)
    if len(by_value) < 2:
        return None
    sign = 1 if results.direction == "minimize" else -1
    means = {value: statistics.fmean(_all(alike)) for value, alike in by_value.items()}
    best = min(means, key=lambda value: sign * means[value])
    rows = [_row(value, alike, by_value[best], is_best=value == best) for value, alike in by_value.items()]
    effect = Effect(key, tuple(rows), len({frozenset(alike) for alike in by_value.values()}) == 1)
    order = (lambda row: float(row.value)) if effect.is_numeric else (lambda row: sign * row.mean)
    return Effect(key, tuple(sorted(rows, key=order)), effect.balanced)


def _row(
    value: Value,
    alike: Mapping[tuple[Value, ...], Sequence[float]],
    best: Mapping[tuple[Value, ...], Sequence[float]],
    *,
    is_best: bool,
) -> EffectRow:
    differences = [
        statistics.fmean(numbers) - statistics.fmean(best[key]) for key, numbers in alike.items() if key in best
    ]
    if is_best:
        differences = []
    return EffectRow(
        value=value,
        numbers=tuple(_all(alike)),
        difference=statistics.fmean(differences) if differences else None,
        difference_spread=statistics.stdev(differences) if len(differences) > 1 else None,
        num_pairs=len(differences),
        is_best=is_best,
    )


def _all(alike: Mapping[tuple[Value, ...], Sequence[float]]) -> list[float]:
    return [number for numbers in alike.values() for number in numbers]
