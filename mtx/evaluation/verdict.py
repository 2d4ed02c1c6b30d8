"""The one function that decides whether a comparison of arms has a winner, and says so in a sentence.

An arm is a set of jobs that differ only in the seed. `docs/statistics.md` explains the test, and shows by simulation
how often it is wrong.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from mtx.evaluation.arm_means import ArmModel, fit_arms, standard_errors
from mtx.evaluation.critical_values import range_critical_value, t_quantile
from mtx.evaluation.seeds_needed import MAX_SEEDS, more_seeds
from mtx.evaluation.verdict_text import reason_text, sentences_text

Direction = Literal["minimize", "maximize"]

MIN_SEEDS = 2  # of an arm that may win


@dataclass(frozen=True)
class Difference:
    """The difference between the mean of an arm and the mean of the arm that it is compared with.

    Attributes:
        estimate: mean of the arm minus the other mean; NaN for an arm with a NaN or infinite number.
        low, high: ends of the confidence interval over seeds. They are infinite if the seeds do not tell the variation,
            and NaN if the estimate is. The interval excludes 0 if and only if the two arms are told apart.
        num_seeds: seeds of the arm.
    """

    estimate: float
    low: float
    high: float
    num_seeds: int

    @property
    def is_told_apart(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class Verdict:
    """The result of a comparison of arms.

    Attributes:
        winner: the arm that is told apart from all others as the best; None if there is none.
        differences: by arm, the difference to `compared_to`, which has no entry itself.
        reason: a sentence or two for people: the winner or why there is none, the difference, its interval.
        seeds_needed: how many more seeds per arm are needed to tell the leading difference apart with a power of 80 %.
            The estimate assumes that this difference is as large as it looks. 0 if there is a winner. None if that
            cannot be computed, or takes 10,000 seeds or more.
        order: the arms, the best mean first, arms with a NaN or infinite number last.
        tied: the arms that may be the best, in this order. Only the winner if there is one, else the best arm with
            those that are not told apart from it.
        diverged: by arm, how many of its numbers are NaN or infinite.
        compared_to: the best arm by mean, or the reference.
        paired: whether seeds were taken as pairs.
        level: confidence level.
        text_differences: by arm, the difference to `compared_to` with an interval over held-out sentences instead of
            seeds; empty if nobody resampled sentences.
    """

    winner: str | None
    differences: Mapping[str, Difference]
    reason: str
    seeds_needed: int | None
    order: tuple[str, ...]
    tied: tuple[str, ...]
    diverged: Mapping[str, int]
    compared_to: str | None
    paired: bool
    level: float
    text_differences: Mapping[str, Difference] = field(default_factory=dict)

    @cached_property
    def has_intervals(self) -> bool:
        """Whether the seeds show how much numbers vary, so that differences have intervals."""
        return any(math.isfinite(difference.low) for difference in self.differences.values())


def verdict(
    values: Mapping[str, Mapping[Any, float]],
    *,
    direction: Direction,
    reference: str | None = None,
    paired: bool | None = None,
    level: float = 0.95,
) -> Verdict:
    """Decide which arm is the best, and how far each arm is from the best or from a reference.

    The best arm by mean is the winner if a two-sided t test tells it apart from each other arm. The variance is pooled
    over all arms. The false winners of this test are at most 1 − `level`. The worst case is two equally good arms far
    ahead of the rest (Gutmann and Maymin 1987, Annals of Statistics 15).

    Without a winner, a step-down studentised range test tells arms apart from the best arm, from the worst arm upwards.
    It compares an arm at rank r with the critical value for the range of r means. With a reference, arms are told apart
    from it by Holm's method. Each interval uses the critical value of its test.

    Args:
        values: numbers by arm and seed. Arms without numbers are left out.
        direction: whether the smallest or the largest mean is the best.
        reference: the arm that differences refer to; None: the best arm by mean.
        paired: whether the same seed makes a pair of jobs in two arms, by design. Then the model has an additive effect
            per seed. None stands for False. Seeds are not used as pairs if arms are not connected by shared seeds.
        level: confidence level of tests and intervals, between 0 and 1.

    Raises:
        ValueError: `direction`, `level` or `reference` is none of these.
    """
    found = {arm: dict(numbers) for arm, numbers in values.items() if numbers}
    _check_arguments(direction, level, reference, list(found))
    diverged = {arm: bad for arm, numbers in found.items() if (bad := _num_diverged(numbers))}
    model = fit_arms({arm: found[arm] for arm in found if arm not in diverged}, paired=bool(paired))
    sign = 1 if direction == "minimize" else -1
    ranked = sorted(model.means, key=lambda arm: sign * model.means[arm])
    winner = _winner(model, ranked, level)
    differences, tied = _differences_to_best(model, ranked, winner, level)
    compared_to = ranked[0] if ranked else None
    if reference is not None:
        differences, compared_to = _differences_to_reference(model, ranked, reference, level), reference
    unknown = {arm: Difference(math.nan, math.nan, math.nan, len(found[arm])) for arm in diverged if arm != reference}
    decided = Verdict(
        winner=winner,
        differences=differences | unknown,
        reason="",
        seeds_needed=0 if winner is not None else _seeds_needed(model, ranked, level),
        order=(*ranked, *diverged),
        tied=tied,
        diverged=diverged,
        compared_to=compared_to,
        paired=model.paired,
        level=level,
    )
    rival = _rival(model, ranked)
    lead = None if rival is None else _difference(model, rival, ranked[0], t_quantile_of(model, level))
    return replace(decided, reason=reason_text(decided, model, rival, lead, direction))


def contrasts(
    values: Mapping[str, Mapping[Any, float]],
    weights: Mapping[str, Mapping[str, float]],
    *,
    paired: bool,
    level: float = 0.95,
) -> tuple[dict[str, Difference], bool]:
    """Estimate weighted sums of the means of arms, told apart from 0 by Holm's method over all of them.

    The model and its pooled variance are those of `verdict`.

    Args:
        values: numbers by arm and seed. Arms without numbers are left out.
        weights: for each contrast, the weights of its arms, which add up to 0.
        paired: whether the same seed makes a pair of jobs in two arms, by design.
        level: confidence level of tests and intervals, between 0 and 1.

    Returns:
        The contrasts, and whether seeds were taken as pairs. A contrast with an arm without numbers is left out. With
        an arm that has a NaN or infinite number, it is NaN.
    """
    found = {arm: dict(numbers) for arm, numbers in values.items() if numbers}
    diverged = {arm for arm, numbers in found.items() if _num_diverged(numbers)}
    model = fit_arms({arm: found[arm] for arm in found if arm not in diverged}, paired=paired)
    known = {name: of for name, of in weights.items() if found.keys() >= of.keys()}
    fitted = _holm(model, {name: of for name, of in known.items() if model.means.keys() >= of.keys()}, level)
    unknown = Difference(math.nan, math.nan, math.nan, 0)
    return {
        name: fitted.get(name, replace(unknown, num_seeds=min(len(found[arm]) for arm in of)))
        for name, of in known.items()
    }, model.paired


def with_text_differences(decided: Verdict, differences: Mapping[str, Difference]) -> Verdict:
    """Return a verdict with intervals over held-out sentences; its reason names those that include 0 against the seeds.

    The seeds alone decide about the winner.

    Args:
        decided: the verdict over seeds.
        differences: by arm, the difference to `compared_to` with its interval over held-out sentences.
    """
    found = replace(decided, text_differences=dict(differences))
    return replace(found, reason=" ".join([decided.reason, *sentences_text(found)]))


def _check_arguments(direction: str, level: float, reference: str | None, arms: Sequence[str]) -> None:
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction is minimize or maximize, but is {direction!r}")
    if not 0 < level < 1:
        raise ValueError(f"level is a confidence level between 0 and 1, but is {level!r}. Use level=0.95")
    if reference is not None and reference not in arms:
        raise ValueError(f"reference is one of the arms that have numbers, {list(arms)}, but is {reference!r}")


def t_quantile_of(model: ArmModel, level: float) -> float:
    """Return the two-sided critical value of Student's t for the variance of a model; infinite without a variance."""
    return t_quantile(model.df, (1 + level) / 2) if model.df else math.inf


def _num_diverged(numbers: Mapping[Hashable, float]) -> int:
    return sum(not math.isfinite(number) for number in numbers.values())


def _rival(model: ArmModel, ranked: Sequence[str]) -> str | None:
    """Return the arm that is hardest to tell apart from the best: the runner-up, unless it has more seeds."""
    return min(ranked[1:], key=lambda arm: model.statistic(arm, ranked[0]), default=None)


def _winner(model: ArmModel, ranked: Sequence[str], level: float) -> str | None:
    """Return the best arm if the t test tells it apart from each other arm; None otherwise."""
    if len(ranked) < 2 or not model.df or model.num_seeds[ranked[0]] < MIN_SEEDS:
        return None
    critical = t_quantile_of(model, level)
    apart = (_difference(model, arm, ranked[0], critical).is_told_apart for arm in ranked[1:])
    return ranked[0] if all(apart) else None


def _differences_to_best(
    model: ArmModel, ranked: Sequence[str], winner: str | None, level: float
) -> tuple[dict[str, Difference], tuple[str, ...]]:
    """Return the difference of each arm to the best one, and the arms that may be the best."""
    if not ranked:
        return {}, ()
    best, critical = ranked[0], t_quantile_of(model, level)
    if winner is not None:
        return {arm: _difference(model, arm, best, critical) for arm in ranked[1:]}, (winner,)
    found: dict[str, Difference] = {}
    num_tied = 1
    for rank in range(len(ranked), 1, -1):
        if num_tied == 1:  # no arm so far, from the worst upwards, is tied
            critical = range_critical_value(rank, model.df, level) if model.df else math.inf
        difference = _difference(model, ranked[rank - 1], best, critical)
        if num_tied == 1 and not difference.is_told_apart:
            num_tied = rank
        found[ranked[rank - 1]] = difference
    return dict(reversed(found.items())), tuple(ranked[:num_tied])


def _differences_to_reference(
    model: ArmModel, ranked: Sequence[str], reference: str, level: float
) -> dict[str, Difference]:
    """Return the difference of each arm to the reference, with intervals and tests by Holm's method."""
    if reference not in model.means:  # it diverged
        return {arm: Difference(math.nan, math.nan, math.nan, model.num_seeds[arm]) for arm in ranked}
    weights = {arm: {arm: 1.0, reference: -1.0} for arm in ranked if arm != reference}
    return _holm(model, weights, level)


def _holm(model: ArmModel, contrasts: Mapping[str, Mapping[str, float]], level: float) -> dict[str, Difference]:
    """Return the estimate of each contrast with its interval by Holm's method."""
    estimates = {name: model.contrast(weights) for name, weights in contrasts.items()}
    num_left = len(estimates)
    found: dict[str, Difference] = {}
    for name in sorted(estimates, key=lambda name: -standard_errors(*estimates[name])):
        critical = t_quantile(model.df, 1 - (1 - level) / 2 / num_left) if model.df else math.inf
        num_seeds = min(model.num_seeds[arm] for arm in contrasts[name])
        found[name] = _interval(estimates[name], critical, num_seeds)
        num_left -= found[name].is_told_apart
    return {name: found[name] for name in contrasts}


def _difference(model: ArmModel, arm: str, other: str, critical: float) -> Difference:
    return _interval(model.difference(arm, other), critical, model.num_seeds[arm])


def _interval(estimated: tuple[float, float], critical: float, num_seeds: int) -> Difference:
    """Return a difference, given its estimate with the standard error, and the critical value of its test."""
    estimate, error = estimated
    half = math.inf if math.isinf(critical) else critical * error
    return Difference(estimate, estimate - half, estimate + half, num_seeds)


def _seeds_needed(model: ArmModel, ranked: Sequence[str], level: float) -> int | None:
    """Return how many more seeds per arm tell the best arm from its runner-up."""
    rival = _rival(model, ranked)
    if rival is None or not model.deviation:
        return None
    estimate, _ = model.difference(rival, ranked[0])
    few = min(model.num_seeds[ranked[0]], model.num_seeds[rival])
    needed = more_seeds(
        estimate, model.deviation, num_arms=len(ranked), num_seeds=few, paired=model.paired, level=level
    )
    return needed if needed < MAX_SEEDS else None
