"""What each varied choice does to the objective, over all other choices and over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtx.evaluation.verdict import Difference, Verdict, verdict
from mtx.records.report_metrics import Value, shown_value
from mtx.records.result_types import SEED, JobRecord, Results
from mtx.records.setting_notation import BEST_MARK, TIE_MARK, setting_text

MAX_EFFECTS = 8  # choices

Alike = tuple[Value, ...]  # the other settings of a job, its seed included


@dataclass(frozen=True)
class EffectRow:
    """One value of a choice.

    Attributes:
        value: as in the config.
        numbers: the finite objectives of the jobs that have it.
        difference: to the best value, with its interval, estimated from jobs that are equal in everything else that
            varies. None for the best value, and if there are no such jobs.
        num_pairs: how many jobs of this value are equal in everything else to a job of the best value.
        mark: of the best value, or of a value that is not told apart from it.
        is_best: this is the value with the best mean.
    """

    value: Value
    numbers: tuple[float, ...]
    difference: Difference | None
    num_pairs: int
    mark: str
    is_best: bool


@dataclass(frozen=True)
class Effect:
    """One varied choice.

    Attributes:
        key: `sampler`, or `tokenizer.vocab_size`.
        rows: one a value, in order: numbers by size, others the best first.
        is_balanced: whether all values were tried with the same other choices.
    """

    key: str
    rows: tuple[EffectRow, ...]
    is_balanced: bool

    @property
    def is_numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(row.value, (int, float)) and not isinstance(row.value, bool) for row in self.rows)


def effects(results: Results) -> tuple[Effect, ...]:
    """Return the effect of each choice that varied, the seed left out, in the order in which they are reported.

    With one choice, there are none: the verdict on the arms has the same content.
    """
    metric = results.objective
    keys = [key for key in results.varied if key != SEED]
    if metric is None or len(keys) < 2:
        return ()
    completed = [job for job in results.jobs if job.state == "completed" and not job.confirms]
    jobs = [(job, shown_value(metric, float(value))) for job in completed if (value := job.number(metric)) is not None]
    found = (_effect(key, jobs, results) for key in keys)
    return tuple(effect for effect in found if effect is not None)[:MAX_EFFECTS]


def _effect(key: str, jobs: Sequence[tuple[JobRecord, float]], results: Results) -> Effect | None:
    others = [other for other in results.varied if other != key]
    group = key.partition(".")[0]
    belongs_to_option = group != key and group in others  # then jobs of other options have no such setting
    by_value: dict[Value, dict[Alike, list[float]]] = {}
    for job, number in jobs:
        value = job.value(key)
        if value is None and belongs_to_option:
            continue
        alike = tuple(job.value(other) for other in others)
        by_value.setdefault(value, {}).setdefault(alike, []).append(number)
    if len(by_value) < 2:
        return None
    names = {value: f"{setting_text(value)}{' (text)' * _is_ambiguous(value, by_value)}" for value in by_value}
    numbers = {names[value]: {a: statistics.fmean(n) for a, n in alike.items()} for value, alike in by_value.items()}
    decided = verdict(numbers, direction=results.direction, paired=True)
    order = sorted(by_value, key=lambda value: decided.order.index(names[value]))
    rows = tuple(_effect_row(value, names, by_value, decided, by_value[order[0]]) for value in order)
    is_balanced = len({frozenset(alike) for alike in by_value.values()}) == 1
    effect = Effect(key, rows, is_balanced)
    if not effect.is_numeric:
        return effect
    return Effect(key, tuple(sorted(rows, key=_size)), is_balanced)


def _effect_row(
    value: Value,
    names: Mapping[Value, str],
    by_value: Mapping[Value, Mapping[Alike, Sequence[float]]],
    decided: Verdict,
    best: Mapping[Alike, Sequence[float]],
) -> EffectRow:
    name, alike = names[value], by_value[value]
    is_best = name == decided.order[0]
    mark = ""
    if decided.paired and decided.winner is not None:
        mark = BEST_MARK if name == decided.winner else ""
    elif decided.paired and decided.has_intervals and len(decided.tied) > 1:
        mark = TIE_MARK if name in decided.tied else ""
    return EffectRow(
        value=value,
        numbers=tuple(number for numbers in alike.values() for number in numbers if math.isfinite(number)),
        difference=decided.differences.get(name) if decided.paired and not is_best else None,
        num_pairs=0 if is_best else len(alike.keys() & best.keys()),
        mark=mark,
        is_best=is_best,
    )


def _is_ambiguous(value: Value, values: Mapping[Value, object]) -> bool:
    """Return whether a text looks like another value, as "1" and 1 do."""
    return isinstance(value, str) and any(
        other is not value and setting_text(other) == setting_text(value) for other in values
    )


def _size(row: EffectRow) -> float:
    assert isinstance(row.value, (int, float))
    return float(row.value)
