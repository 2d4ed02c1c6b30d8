"""How the order of arms depends on the learning rate, in a sweep that varies it.

One learning rate for all arms can turn the order of data choices round, since each has a best learning rate of its own.
The order that counts is that of the arms at their best learning rates. Small learning rates make short trainings agree
better with it (Wang et al. 2026, "Can Small Training Runs Reliably Guide Data Curation? Rethinking Proxy-Model
Practice", ICLR, arXiv 2512.24503).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from rich.table import Table
from rich.text import Text

from mtx.records.objective_at_equal_budget import CURVE_METRIC, budget_measure, number_during, spent_amounts
from mtx.records.ranking_agreement import SHARES, Agreement, agreement
from mtx.records.report_metrics import Value, metric_heading
from mtx.records.result_types import SEED, JobRecord, Results
from mtx.records.setting_notation import mean_texts, settings_label

NAMES = ("learning_rate", "lr")  # last parts of keys of learning rates
WHOLE = "the whole"  # budget

Losses = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class LearningRateOrder:
    """The objective of each arm at each learning rate, and the agreement of each learning rate with the best ones.

    Attributes:
        key: the config key of the learning rate.
        objective: the metric that ranks the arms.
        rates: the learning rates, ascending.
        arms: the arms, named by the other settings, best first at their best learning rates; last those without a mean.
        numbers: by learning rate and arm, the objective of each completed job, NaN and infinite ones included.
        is_least_best: whether a smaller objective is better.
        budgets: shares of the budget in words, ascending.
        agreements: by learning rate, for each share of the budget; None without curves or with fewer than three arms.
    """

    key: str
    objective: str
    rates: tuple[float, ...]
    arms: tuple[str, ...]
    numbers: Mapping[float, Losses]
    is_least_best: bool
    budgets: tuple[str, ...]
    agreements: Mapping[float, tuple[Agreement | None, ...]]

    def rank(self, rate: float, arm: str) -> int | None:
        """Return the rank of an arm among the arms with the same learning rate, from 1; None if it has no mean."""
        means = _means(self.numbers[rate])
        if arm not in means:
            return None
        ordered = sorted(means.values(), reverse=not self.is_least_best)
        return ordered.index(means[arm]) + 1

    @property
    def sentence(self) -> str:
        """Whether the order is the same at all learning rates, and the best arm of each if they differ."""
        means = {rate: _means(numbers) for rate, numbers in self.numbers.items()}
        arms = [arm for arm in self.arms if any(arm in of_rate for of_rate in means.values())]
        complete = [rate for rate in self.rates if set(means[rate]) == set(arms)]
        left_out = [f"{rate:g}" for rate in self.rates if rate not in complete]
        about = f" Left out, since jobs are missing or diverged: learning rate {', '.join(left_out)}." * bool(left_out)
        about += f" Jobs that diverged: {self.num_diverged}." * bool(self.num_diverged)
        if len(complete) < 2 or len(arms) < 2:
            return f"The order of the arms at several learning rates is not known.{about}"
        ranks = {rate: tuple(self.rank(rate, arm) for arm in arms) for rate in complete}
        if len(set(ranks.values())) == 1:
            all_rates = "both" if len(complete) == 2 else f"all {len(complete)}"
            if left_out:
                all_rates = f"{len(complete)} of {len(self.rates)}"
            return f"The order of the {len(arms)} arms is the same at {all_rates} learning rates.{about}"
        first = {rate: arms[ranks[rate].index(1)] for rate in complete}
        if len(set(first.values())) == 1:
            return (
                f"The order of the arms depends on the learning rate, but {first[complete[0]]} is best at each.{about}"
            )
        told = "; ".join(f"at {rate:g}, {arm}" for rate, arm in first.items())
        return f"The best arm depends on the learning rate: {told}.{about}"

    @property
    def num_diverged(self) -> int:
        """The number of jobs whose objective is NaN or infinite. Their arms have no mean at that learning rate."""
        every = (number for of_rate in self.numbers.values() for numbers in of_rate.values() for number in numbers)
        return sum(not math.isfinite(number) for number in every)


def learning_rate_order(results: Results) -> LearningRateOrder | None:
    """Return the order of the arms by learning rate; None if no single learning rate varies, and while jobs run."""
    keys = [key for key in results.varied if key.rpartition(".")[2] in NAMES]
    objective = results.objective
    if len(keys) != 1 or objective is None or results.is_interim or not results.is_comparable:
        return None
    jobs = _jobs_by_rate(results, keys[0])
    arms = list(dict.fromkeys(arm for of_rate in jobs.values() for arm in of_rate))
    if len(jobs) < 2 or len(arms) < 2:
        return None
    rates = tuple(sorted(jobs))
    numbers = {rate: _numbers(jobs[rate], objective) for rate in rates}
    is_least_best = results.direction == "minimize"
    pick: Callable[..., float] = min if is_least_best else max
    means = [_means(numbers[rate]) for rate in rates]
    tuned = {arm: pick(known) for arm in arms if (known := [of[arm] for of in means if arm in of])}
    sound = {rate: {arm: jobs[rate][arm] for arm in of} for rate, of in zip(rates, means, strict=True)}
    budgets, early = _at_shares(results, sound)
    agreements = {
        rate: tuple(
            agreement(f"learning rate {rate:g} and {words} of the budget", short, tuned, results.direction)
            for words, short in zip(budgets, (*early[rate], _means(numbers[rate])), strict=True)
        )
        for rate in rates
    }
    ordered = sorted(tuned, key=lambda arm: tuned[arm] if is_least_best else -tuned[arm])
    every = (*ordered, *(arm for arm in arms if arm not in tuned))
    return LearningRateOrder(keys[0], objective, rates, every, numbers, is_least_best, budgets, agreements)


def _jobs_by_rate(results: Results, key: str) -> dict[float, dict[str, list[JobRecord]]]:
    """Return the completed jobs with an objective by learning rate and arm; jobs that confirm are left out."""
    others = [name for name in results.varied if name not in (SEED, key)]
    found: dict[float, dict[str, list[JobRecord]]] = {}
    for job in results.jobs:
        rate, number = job.value(key), job.number(results.objective or "")
        if job.state != "completed" or job.confirms or number is None:
            continue
        if isinstance(rate, (int, float)) and not isinstance(rate, bool):
            settings: dict[str, Value] = {name: job.value(name) for name in others}
            arm = settings_label(settings, job.choices) or "all jobs"
            found.setdefault(float(rate), {}).setdefault(arm, []).append(job)
    return found


def _at_shares(
    results: Results, jobs: Mapping[float, Mapping[str, Sequence[JobRecord]]]
) -> tuple[tuple[str, ...], dict[float, list[dict[str, float]]]]:
    """Return the shares of the budget in words, and by learning rate the means of the arms at all but the last one."""
    every = [job for of_rate in jobs.values() for of_arm in of_rate.values() for job in of_arm]
    trained = [job for job in every if job.report.spent is not None]
    measure = budget_measure(results, trained) if trained else None
    amounts = {} if measure is None else spent_amounts(trained, measure)
    if results.objective != CURVE_METRIC or measure is None or len(amounts) < len(every):
        return (WHOLE,), {rate: [] for rate in jobs}
    early: dict[float, list[dict[str, float]]] = {}
    for rate, of_rate in jobs.items():
        for share, _ in SHARES:
            amount = share * min(amounts.values())
            at = {arm: [number_during(job, measure, amount) for job in of_arm] for arm, of_arm in of_rate.items()}
            known = {arm: [number for number in numbers if number is not None] for arm, numbers in at.items()}
            early.setdefault(rate, []).append(
                {arm: fmean(known[arm]) for arm in at if known[arm] and len(known[arm]) == len(at[arm])}
            )
    return (*(words for _, words in SHARES), WHOLE), early


def _numbers(jobs: Mapping[str, Sequence[JobRecord]], objective: str) -> dict[str, list[float]]:
    return {arm: [float(job.number(objective) or 0) for job in of_arm] for arm, of_arm in jobs.items()}


def _means(numbers: Losses) -> dict[str, float]:
    """Return the mean of each arm; an arm with a job that diverged has none."""
    return {arm: fmean(of_arm) for arm, of_arm in numbers.items() if all(map(math.isfinite, of_arm))}


def order_headings(order: LearningRateOrder) -> list[str]:
    """Return the headings of the table of arms by learning rate."""
    return ["arm", *(f"{rate:g}" for rate in order.rates)]


def order_rows(order: LearningRateOrder) -> list[list[str]]:
    """Return the rows of the table of arms by learning rate: the rank, and the mean ± standard deviation."""
    rows = []
    for arm in order.arms:
        cells = [arm]
        for rate in order.rates:
            numbers = order.numbers[rate].get(arm, ())
            if not numbers:
                cells.append("–")
                continue
            if not all(map(math.isfinite, numbers)):
                cells.append("diverged")
                continue
            mean, spread = mean_texts(order.objective, fmean(numbers), stdev(numbers) if len(numbers) > 1 else None)
            cells.append(f"{order.rank(rate, arm)}: {mean}{'' if spread is None else f' ± {spread}'}")
        rows.append(cells)
    return rows


def agreement_rows(order: LearningRateOrder) -> list[list[str]]:
    """Return one row for each learning rate: pairs of arms in the order of the best learning rates, by budget.

    Empty if no budget has an agreement, as with two arms.
    """
    if not any(one for of_rate in order.agreements.values() for one in of_rate):
        return []
    return [[f"{rate:g}", *map(_cell, order.agreements[rate])] for rate in order.rates]


def _cell(found: Agreement | None) -> str:
    if found is None:
        return "–"
    low, high = (f"{100 * end:.0f}" for end in (found.low, found.high))
    return f"{found.num_same} of {found.num_pairs} [{low} to {high} %]"


def order_tables(order: LearningRateOrder) -> list[Table]:
    """Return the tables for the terminal: arms by learning rate, and agreement by budget."""
    arms = Table(title=Text(f"rank and {metric_heading(order.objective)} by {order.key}"), title_justify="left")
    for number, heading in enumerate(order_headings(order)):
        arms.add_column(heading, justify="right" if number else "left")
    for row in order_rows(order):
        arms.add_row(*map(Text, row))
    if not (rows := agreement_rows(order)):
        return [arms]
    title = "pairs of arms in the order of the best learning rates, by share of the budget [95 % interval]"
    shares = Table(title=Text(title), title_justify="left")
    for heading in ("learning rate", *order.budgets):
        shares.add_column(heading, justify="right")
    for row in rows:
        shares.add_row(*map(Text, row))
    return [arms, shares]
