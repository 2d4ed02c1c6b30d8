"""Agreement of rankings between budgets: would a shorter training have put the arms into the same order?

The order of two arms is that of their means over seeds. The interval of a share of pairs is Wilson's. Pairs with a
common arm are not independent. So the interval counts as many pairs as do not share an arm, half as many as arms.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

import numpy as np

from mtx.evaluation.contrastive import wilson_interval
from mtx.records.objective_at_equal_budget import (
    BUDGET_KEYS,
    CURVE_METRIC,
    NAMES,
    amount_text,
    budget_measure,
    measure_keys,
    number_at,
    number_during,
    spent_amounts,
)
from mtx.records.report_metrics import Value
from mtx.records.result_types import SEED, JobRecord, Results
from mtx.records.setting_notation import settings_label

SHARES = ((0.1, "a tenth"), (0.25, "a quarter"), (0.5, "half"))
CHANCE = "No arm is told apart from the best at the end, so this order may be chance."
MIN_ARMS = 3  # two arms have one pair, whose share says nothing


@dataclass(frozen=True)
class Agreement:
    """How many pairs of arms have the same order at a smaller budget as at the largest one.

    Attributes:
        budget: The smaller budget in words.
        num_same, num_pairs: The number of pairs in the same order, and of all pairs.
        low, high: The ends of the 95 % interval of the share.
        best: The arm that is best at the smaller budget.
        is_same_best: Whether this arm is also the best at the largest budget.
        is_chance: Whether the order at the largest budget may be chance: no arm is told apart from the best one.
    """

    budget: str
    num_same: int
    num_pairs: int
    low: float
    high: float
    best: str
    is_same_best: bool
    is_chance: bool = False

    @property
    def text(self) -> str:
        """The agreement as a sentence."""
        share, low, high = (f"{100 * value:.0f}" for value in (self.num_same / self.num_pairs, self.low, self.high))
        best = f"{self.best} would have been best{', as at the end' if self.is_same_best else ', unlike at the end'}"
        return (
            f"At {self.budget} the order would have been the same in {self.num_same} of {self.num_pairs} pairs of arms "
            f"({share} %, 95 % interval {low} to {high}). {best}.{f' {CHANCE}' * self.is_chance}"
        )


def agreements(results: Results) -> tuple[Agreement, ...]:
    """Return the agreement of smaller budgets with the largest one, smallest first; empty if it cannot be computed.

    If a budget varies, jobs with different budgets are compared. Otherwise smaller budgets are read from the learning
    curves of the jobs: a tenth, a quarter and half of what all jobs spent. A share without a validation near it is left
    out, and so are the jobs of `sweep.confirm`.
    """
    if results.is_confirmed:
        results = replace(results, jobs=tuple(job for job in results.jobs if not job.confirms))
    jobs = [job for job in results.jobs if job.state == "completed" and job.number(results.objective or "") is not None]
    if results.objective is None or results.is_interim or not results.is_comparable:
        return ()
    keys = [key for key in results.varied if key in BUDGET_KEYS]
    if not keys:
        found = results.verdict
        is_chance = len(found.tied) == len(found.order) - len(found.diverged)
        return tuple(replace(one, is_chance=is_chance) for one in _from_curves(results, jobs))
    if len(keys) > 1 or keys[0] not in measure_keys(budget_measure(results, jobs)):
        return ()  # the jobs are compared at an equal amount of another measure
    return _between_budgets(results, jobs, keys[0])


def agreement(
    budget: str, short: Mapping[str, float], long: Mapping[str, float], direction: str = "minimize"
) -> Agreement | None:
    """Compare the order of arms by their means at two budgets; None for fewer than three arms with both means."""
    arms = [arm for arm in short if arm in long and math.isfinite(short[arm]) and math.isfinite(long[arm])]
    if len(arms) < MIN_ARMS:
        return None
    at_short, at_long = (np.array([of[arm] for arm in arms]) for of in (short, long))
    num_same = sum(
        int(((at_short[place:] - at_short[place - 1]) * (at_long[place:] - at_long[place - 1]) > 0).sum())
        for place in range(1, len(arms))
    )
    num_pairs = len(arms) * (len(arms) - 1) // 2
    low, high = wilson_interval(num_same / num_pairs * (len(arms) // 2), len(arms) // 2)
    pick: Callable[..., str] = min if direction == "minimize" else max
    best, last = pick(arms, key=lambda arm: short[arm]), pick(arms, key=lambda arm: long[arm])
    return Agreement(budget, num_same, num_pairs, low, high, best, best == last)


def _from_curves(results: Results, jobs: Sequence[JobRecord]) -> tuple[Agreement, ...]:
    trained = [job for job in jobs if job.report.spent is not None]
    measure = budget_measure(results, trained) if trained else None
    if results.objective != CURVE_METRIC or measure is None:
        return ()
    amounts = spent_amounts(trained, measure)
    if len(amounts) < len(trained):
        return ()
    budget = min(amounts.values())
    at_end = _means(results, trained, partial(number_at, measure=measure, amount=budget))
    found = []
    for share, words in SHARES:
        amount = share * budget
        early = _means(results, trained, partial(number_during, measure=measure, amount=amount))
        name = f"{words} of this budget ({amount_text(amount)} {NAMES[measure]})"
        if (one := agreement(name, early, at_end, results.direction)) is not None:
            found.append(one)
    return tuple(found)


def _between_budgets(results: Results, jobs: Sequence[JobRecord], key: str) -> tuple[Agreement, ...]:
    others = [name for name in results.varied if name not in (SEED, *BUDGET_KEYS)]
    by_budget: dict[float, dict[str, list[float]]] = {}
    for job in jobs:
        budget = job.value(key)
        if isinstance(budget, (int, float)) and not isinstance(budget, bool):
            settings: dict[str, Value] = {name: job.value(name) for name in others}
            arm = settings_label(settings, job.choices) or job.name
            by_budget.setdefault(float(budget), {}).setdefault(arm, []).append(job.number(results.objective or "") or 0)
    means = {budget: {arm: fmean(of) for arm, of in arms.items()} for budget, arms in by_budget.items()}
    *smaller, largest = sorted(means) or [0.0]
    found = (
        agreement(f"{key}={budget:g}, compared with {largest:g},", means[budget], means[largest], results.direction)
        for budget in smaller
    )
    return tuple(one for one in found if one is not None)


def _means(
    results: Results, jobs: Sequence[JobRecord], number_of: Callable[[JobRecord], float | None]
) -> dict[str, float]:
    """Return the mean over the jobs of each arm; without arms of which a job has no number."""
    known = {job.folder for job in jobs}
    found = {}
    for name, arm in results.arms.items():
        numbers = [number_of(job) for job in arm.jobs if job.folder in known]
        kept = [number for number in numbers if number is not None]
        if kept and len(kept) == len(numbers):
            found[name] = fmean(kept)
    return found
