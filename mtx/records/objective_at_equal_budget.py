"""Comparison of trained jobs after equal amounts of training."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from mtx.errors import ConfigError, choices
from mtx.records.report_record import Validation
from mtx.records.result_types import JobRecord, Results

CURVE_METRIC = "bits_per_byte"  # the objective that validations have
BUDGET_KEY = "sweep.budget"
FIELDS = {"source_bytes": "source_bytes", "real_tokens": "real_tokens", "updates": "steps", "seconds": "seconds"}
MEASURES = tuple(FIELDS)  # values of sweep.budget; a field of `spent` in a report for each
BUDGET_KEYS = (*(f"budget.{field}" for field in FIELDS.values()), "trainer.max_steps")
NAMES = {"source_bytes": "source bytes", "real_tokens": "real tokens", "updates": "updates", "seconds": "seconds"}
UNEVEN = 1.25  # ratio of amounts within an arm at equal seconds, above which other work has slowed some jobs
TOLERANCE = 1.05  # ratio of amounts that count as equal: a budget ends with the step that reaches it


def at_equal_budget(results: Results) -> tuple[Results, tuple[str, ...]]:
    """Return the results at the largest budget that all jobs reached, and what to say about their budgets.

    The objective of a job that trained longer is taken from its validation curve, along straight lines between
    validations. Jobs without such a curve lose their objective. Results without trained jobs stay as they are.
    """
    jobs = [job for job in results.jobs if job.state == "completed" and job.report.spent is not None]
    if len(jobs) < 2 or results.objective is None:
        return results, ()
    measure, notes = budget_measure(results, jobs), []
    if measure in (None, "real_tokens") and len(tokenizers(jobs)) > 1 and spent_amounts(jobs, "real_tokens"):
        notes.append("The tokenizers differ, so equal numbers of real tokens are different amounts of text.")
    amounts = {} if measure is None else spent_amounts(jobs, measure)
    if measure is None or len(amounts) < len(jobs) or _is_varied(results, measure):
        if measure is not None and 0 < len(amounts) < len(jobs):
            notes.append(f"Some jobs did not count {NAMES[measure]}, so budgets are not compared.")
        return results, tuple(notes)
    least, most = min(amounts.values()), max(amounts.values())
    if most <= TOLERANCE * least:
        return results, (*notes, *(_load_notes(results, jobs) if measure == "seconds" else ()))
    differ = f"Jobs trained for different {NAMES[measure]}: {amount_text(least)} to {amount_text(most)}"
    if results.objective != CURVE_METRIC:
        notes.insert(0, f"{differ}. {results.objective} has no curve, so it is compared at unequal budgets.")
        return results, tuple(notes)
    numbers = {name: number_at(job, measure, least) for job in jobs if (name := job.name)}
    notes.insert(0, f"{differ}. They are compared at {amount_text(least)}, by their validation curves.")
    if lost := [name for name, number in numbers.items() if number is None]:
        notes.insert(1, f"Left out, since their curves do not show this amount: jobs {', '.join(lost[:10])}.")
    equal = tuple(_with_objective(job, numbers[job.name]) if job.name in numbers else job for job in results.jobs)
    return dataclasses.replace(results, jobs=equal), tuple(notes)


def _load_notes(results: Results, jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """Say that jobs of one arm trained unequally much in equal seconds, since their speed should differ little."""
    updates = spent_amounts(jobs, "updates")
    arms = ([updates[job.name] for job in arm.jobs if job.name in updates] for arm in results.arms.values())
    uneven = [(max(of_arm) / min(of_arm), min(of_arm), max(of_arm)) for of_arm in arms if of_arm]
    if not uneven or max(uneven)[0] <= UNEVEN:
        return ()
    _, least, most = max(uneven)
    tokens = spent_amounts(jobs, "real_tokens")
    is_fair = len(tokenizers(jobs)) < 2 and len(tokens) == len(jobs)
    other = f"budget.real_tokens={max(tokens.values()):.0f}" if is_fair else "a budget.source_bytes"
    return (
        f"In equal seconds, jobs of one arm made {least:,.0f} to {most:,.0f} updates. Other work has slowed some of "
        f"them, so differences can come from that. Repeat the sweep with budget.seconds=null and {other}.",
    )


def check_budget_measure(measure: object) -> None:
    """Raise ConfigError if a value of `sweep.budget` is no measure of budgets."""
    if measure is not None and measure not in MEASURES:
        raise ConfigError(f"sweep.budget is {choices(str(measure), MEASURES)}, or null, but is {measure!r}")


def budget_measure(results: Results, jobs: Sequence[JobRecord]) -> str | None:
    """Return the measure of budgets: `sweep.budget`, else the one that a budget limits, else updates."""
    said = next((job.config[BUDGET_KEY] for job in results.jobs if job.config.get(BUDGET_KEY)), None)
    if said is not None:
        return str(said) if said in MEASURES else None
    limited = [
        measure for measure in MEASURES if any(job.config.get(f"budget.{FIELDS[measure]}") is not None for job in jobs)
    ]
    return limited[0] if limited else "updates"


def condition_lines(results: Results) -> tuple[str, ...]:
    """Say which amounts of training are equal for all completed jobs, and which differ."""
    jobs = [job for job in results.jobs if job.state == "completed" and job.report.spent is not None]
    equal, different = [], []
    for measure in reversed(MEASURES):
        amounts = list(spent_amounts(jobs, measure).values())
        if len(jobs) < 2 or len(amounts) < len(jobs):
            continue
        if max(amounts) <= TOLERANCE * min(amounts):
            equal.append(NAMES[measure])
        else:
            different.append(f"{NAMES[measure]} {amount_text(min(amounts))} to {amount_text(max(amounts))}")
    lines = [("equal", equal), ("different", different)]
    return tuple(f"{name}: {', '.join(found)}" for name, found in lines if found)


def tokenizers(jobs: Sequence[JobRecord]) -> frozenset[str]:
    """Return the ids of the tokenizers of some jobs."""
    return frozenset(str(found) for job in jobs if (found := job.report.ids.tokenizer))


def amount_text(amount: float) -> str:
    """Write an amount of training with three digits: `1.92 M`, `310`."""
    for size, unit in ((1e9, " G"), (1e6, " M")):
        if amount >= size:
            return f"{amount / size:.3g}{unit}"
    return f"{amount:,.0f}" if amount >= 100 else f"{amount:.3g}"


def spent_amounts(jobs: Sequence[JobRecord], measure: str) -> Mapping[str, float]:
    """Return the amount that each job spent, by name, in a unit of `MEASURES`; without jobs that did not count it."""
    found = {job.name: getattr(job.report.spent, FIELDS[measure]) for job in jobs}
    return {name: float(amount) for name, amount in found.items() if amount}


def _is_varied(results: Results, measure: str) -> bool:
    """Return whether the sweep varies this budget on purpose."""
    return not measure_keys(measure).isdisjoint(results.varied)


def measure_keys(measure: str | None) -> frozenset[str]:
    """Return the keys of a config that limit a training by a measure of budgets; empty for None."""
    if measure is None:
        return frozenset()
    return frozenset({f"budget.{FIELDS[measure]}"} | ({"trainer.max_steps"} if measure == "updates" else set()))


def number_at(job: JobRecord, measure: str, amount: float) -> float | None:
    """Return the bits per byte of a job after an amount of training; None without a curve that spans it."""
    final = job.number(CURVE_METRIC)
    if final is None or not math.isfinite(final) or spent_amounts([job], measure)[job.name] <= TOLERANCE * amount:
        return final
    return None if (found := _around(job, measure, amount)) is None else found.number


def number_during(job: JobRecord, measure: str, amount: float) -> float | None:
    """Return the bits per byte of a job after a part of its training; None without a validation near it.

    Before training, all arms are nearly equal. So a line from there to the end would repeat the order of the end. At
    most half of the number may come from these two.
    """
    if (found := _around(job, measure, amount)) is None:
        return None
    end = spent_amounts([job], measure)[job.name] / TOLERANCE
    from_before = 0.0 if found.before > 0 else 1 - found.share
    from_end = 0.0 if found.after < end else found.share
    return None if from_before + from_end > 0.5 else found.number


@dataclasses.dataclass(frozen=True)
class _Between:
    """A number on the line between two validations.

    Attributes:
        before, after: the amounts of training of the two validations.
        share: how much of the number comes from the second one, 0 to 1.
        number: the bits per byte.
    """

    before: float
    after: float
    share: float
    number: float


def _around(job: JobRecord, measure: str, amount: float) -> _Between | None:
    points = [
        (x, y) for one in job.report.validations if (x := _amount(one, measure)) is not None and (y := _bits(one))
    ]
    for (before, above), (after, below) in pairwise(sorted(points)):
        if before <= amount <= after:
            share = (amount - before) / (after - before) if after > before else 1.0
            return _Between(before, after, share, above + (below - above) * share)
    return None


def _amount(validation: Validation, measure: str) -> float | None:
    found = validation.step if measure == "updates" else getattr(validation, measure)
    return None if found is None else float(found)


def _bits(validation: Validation) -> float | None:
    bits = validation.bits_per_byte
    return bits if bits is not None and math.isfinite(bits) else None


def _with_objective(job: JobRecord, number: float | None) -> JobRecord:
    rest = {name: value for name, value in job.objectives.items() if name != CURVE_METRIC}
    metrics = {name: value for name, value in job.metrics.items() if name != CURVE_METRIC}
    first = {} if number is None else {CURVE_METRIC: number}
    return dataclasses.replace(job, objectives={**first, **rest}, metrics={**metrics, **first})
