"""What more training pairs are worth, from the jobs of a sweep over `datamodule.share`.

Held-out bits per byte over the number of pairs are extrapolated by a power law to twice as many pairs. If other
settings vary, too, such as the filter, the gain of the better setting is compared with that of more pairs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from rich.table import Table
from rich.text import Text

from mtx.evaluation.power_law import MIN_SIZES, PowerLaws, fitted_power_laws
from mtx.evaluation.verdict import Difference
from mtx.evaluation.verdict_text import difference_text
from mtx.records.report_metrics import Value
from mtx.records.result_types import SEED, Group, JobRecord, Results
from mtx.records.setting_notation import mean_texts, metric_text, settings_label

OPTION = "datamodule.share"
OBJECTIVE = "bits_per_byte"
RANDOM_SEED = 0  # of the resamples, so that a page has the same numbers each time
MANY_TIMES = 100  # from here on, a number of times as many pairs is only said to be larger
CURVE_HEADINGS: Sequence[str] = ("share", "training pairs", "times read", "bits per byte", "seeds")


@dataclass(frozen=True)
class CurvePoint:
    """The jobs of one arm: one share of the pairs.

    Attributes:
        share: the share of the filtered pairs.
        num_pairs: the number of training pairs.
        times_read: how often training read the pairs of the share, the mean over jobs; None if it is not known.
        losses: bits per byte by seed.
        mean, spread: their mean, and their standard deviation or None.
    """

    share: float
    num_pairs: int
    times_read: float | None
    losses: Mapping[Value, float]
    mean: float
    spread: float | None


@dataclass(frozen=True)
class DataCurve:
    """Bits per byte over the number of pairs, with equal other settings.

    Attributes:
        label: the other settings that vary in the sweep; empty if none does.
        points: the shares, the smallest first.
        laws: the power law and its resamples; None if the points allow none.
    """

    label: str
    points: tuple[CurvePoint, ...]
    laws: PowerLaws | None

    @property
    def largest(self) -> CurvePoint:
        """The largest share."""
        return self.points[-1]

    @property
    def title(self) -> str:
        """The heading of a table."""
        return f"held-out bits per byte by the number of training pairs{f' ({self.label})' if self.label else ''}"

    @property
    def sentences(self) -> tuple[str, ...]:
        """What twice as many pairs would gain, and what limits the answer."""
        subject = f"{self.label}: twice" if self.label else "Twice"
        sizes = {point.num_pairs for point in self.points}
        equal = f"{len(self.points) - len(sizes)} shares have as many pairs as another one, and count with it."
        equals = [equal] if len(sizes) < len(self.points) else []
        if self.laws is None:
            return (
                f"{subject} as many pairs cannot be judged: a power law needs {MIN_SIZES} shares with different "
                f"numbers of pairs, of which there are {len(sizes)}. Add shares: {OPTION}=0.125,0.25,0.5,1",
                *equals,
            )
        gain, doubled = self.laws.gain_of_twice, 2 * self.largest.num_pairs
        expected = metric_text(OBJECTIVE, float(self.laws.losses(doubled)[0]))
        told = [
            f"{subject} as many pairs, {doubled:,}, would lower bits per byte by {_gain_text(gain)}, to {expected}, by "
            f"the power law through {len(sizes)} shares.",
            *equals,
        ]
        if not math.isfinite(gain.low):
            told.append("So few seeds tell no interval. Run two or more for each share: seed=1,2,3")
        elif not gain.low > 0:
            told.append("This is not told apart from no gain.")
        if not self.laws.fits:
            told.append("But the means contradict a power law, so do not rely on the extrapolation.")
        read = self.largest.times_read
        if read is not None and read < 1:
            told.append(
                f"Training read the largest share only {read:.2g} times, so further pairs would not be read. Train "
                "longer to see what they are worth."
            )
        return tuple(told)


@dataclass(frozen=True)
class DataCurves:
    """All curves of a sweep, and comparisons of other settings with more pairs.

    Attributes:
        curves: one for each combination of the other settings.
        comparisons: one sentence for each pair of curves.
        num_left_out: completed jobs without finite bits per byte or a number of pairs.
    """

    curves: tuple[DataCurve, ...]
    comparisons: tuple[str, ...]
    num_left_out: int = 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """All sentences for people."""
        left_out = f"Left out, without bits per byte or a number of pairs: {self.num_left_out} jobs."
        return (
            *(text for curve in self.curves for text in curve.sentences),
            *self.comparisons,
            *([left_out] if self.num_left_out else []),
        )


def data_curves(results: Results) -> DataCurves | None:
    """Return the curves of a sweep over `datamodule.share`; None for another sweep, and while jobs run."""
    if OPTION not in results.varied or results.objective != OBJECTIVE or results.is_interim:
        return None
    found: dict[str, list[CurvePoint]] = {}
    arms = [arm for arm in results.arms.values() if not arm.jobs[0].confirms]
    for arm in arms:
        others: dict[str, Value] = {key: value for key, value in arm.values.items() if key not in (OPTION, SEED)}
        if (point := _point(arm)) is not None:
            found.setdefault(settings_label(others, arm.jobs[0].choices), []).append(point)
    if not found:
        return None
    ordered = {label: tuple(sorted(points, key=lambda point: point.share)) for label, points in found.items()}
    losses = {label: _losses_by_size(points) for label, points in ordered.items()}
    enough = {label: of for label, of in losses.items() if len(of) >= MIN_SIZES}
    laws = fitted_power_laws(enough, paired=results.has_paired_seeds, rng=np.random.default_rng(RANDOM_SEED))
    curves = [DataCurve(label, points, laws.get(label)) for label, points in ordered.items()]
    left_out = [job for arm in arms for job in arm.jobs if job.state == "completed" and not _is_known(job)]
    return DataCurves(tuple(curves), tuple(_comparisons(curves)), len(left_out))


def _losses_by_size(points: Sequence[CurvePoint]) -> dict[float, dict[Value, float]]:
    """Return bits per byte by number of pairs and seed; of shares with equally many pairs, the mean of each seed."""
    found: dict[float, dict[Value, list[float]]] = {}
    for point in points:
        for seed, loss in point.losses.items():
            found.setdefault(float(point.num_pairs), {}).setdefault(seed, []).append(loss)
    return {size: {seed: sum(each) / len(each) for seed, each in of.items()} for size, of in found.items()}


def _is_known(job: JobRecord) -> bool:
    """Return whether a job has finite bits per byte and a number of pairs."""
    loss = job.number(OBJECTIVE)
    return loss is not None and math.isfinite(loss) and bool(job.report.num_pairs_train)


def _point(arm: Group) -> CurvePoint | None:
    share = arm.values.get(OPTION)
    jobs = [job for job in arm.jobs if job.state == "completed" and _is_known(job)]
    if not isinstance(share, (int, float)) or not jobs:
        return None
    losses = Group(arm.values, tuple(jobs)).numbers_by_seed(OBJECTIVE)
    values = list(losses.values())
    read = [times for job in jobs if (times := _times_read(job)) is not None]
    return CurvePoint(
        share=float(share),
        num_pairs=jobs[0].report.num_pairs_train or 0,
        times_read=sum(read) / len(read) if read else None,
        losses=losses,
        mean=float(np.mean(values)),
        spread=float(np.std(values, ddof=1)) if len(values) > 1 else None,
    )


def _times_read(job: JobRecord) -> float | None:
    """Return how often a job read its training pairs, by source bytes, or by tokens if the job did not count bytes."""
    spent, counts = job.report.spent, job.report.train_tokens
    if spent is None:
        return None
    num_tokens = counts.get("source_tokens", 0) + counts.get("target_tokens", 0)
    for amount, available in ((spent.source_bytes, counts.get("source_bytes", 0)), (spent.real_tokens, num_tokens)):
        if amount and available:
            return amount / available
    return None


def _comparisons(curves: Sequence[DataCurve]) -> list[str]:
    """Compare the gain of the better of two settings with the gain of more pairs of the other one."""
    found = []
    for pair in combinations(curves, 2):
        better, worse = sorted(pair, key=lambda curve: curve.largest.mean)
        if better.laws is None or worse.laws is None or better.largest.share != worse.largest.share:
            continue
        number = min(len(better.laws.at_largest), len(worse.laws.at_largest))
        reached = better.laws.at_largest[:number]
        laws = worse.laws
        gain = laws.interval(laws.at_largest[:number] - reached)
        times = laws.interval(_first(laws, number).times_as_many(reached))
        twice = laws.losses(laws.unit) - laws.losses(2 * laws.unit)
        lead = laws.interval(twice[:number] - (laws.at_largest[:number] - reached))
        found.append(
            f"{better.label} instead of {worse.label} lowers bits per byte by {_gain_text(gain)} without more pairs. "
            f"By the power law, {worse.label} needs {_times_text(times)} as many pairs for that. "
            f"{_answer(lead, better.label, worse.label)}"
        )
    return found


def _first(laws: PowerLaws, number: int) -> PowerLaws:
    parts = (laws.floor[:number], laws.amount[:number], laws.exponent[:number], laws.at_largest[:number])
    return PowerLaws(laws.unit, *parts, laws.df, laws.lack_of_fit, laws.num_seeds, laws.level)


def _answer(lead: Difference, better: str, worse: str) -> str:
    if not lead.is_told_apart:
        return f"Whether {better} or twice as many pairs of {worse} would help more is not told apart."
    if lead.estimate > 0:
        return f"Twice as many pairs of {worse} would help more than {better}."
    return f"{better} helps more than twice as many pairs of {worse} would."


def _gain_text(gain: Difference) -> str:
    return difference_text(gain).replace("+", "")


def _times_text(times: Difference) -> str:
    def text(value: float) -> str:
        if value > MANY_TIMES:
            return f"more than {MANY_TIMES}"
        return f"{value:.0f}" if value >= 10 else f"{value:.2g}"

    if not math.isfinite(times.low):
        return f"{text(times.estimate)} times"
    return f"{text(times.estimate)} times [{text(times.low)}, {text(times.high)}]"


def curve_cells(point: CurvePoint) -> list[str]:
    """Return the cells of a row of a table, under `CURVE_HEADINGS`."""
    mean, spread = mean_texts(OBJECTIVE, point.mean, point.spread)
    read = "–" if point.times_read is None else f"{point.times_read:.2g}"
    loss = mean if spread is None else f"{mean} ± {spread}"
    return [f"{point.share:.4g}", f"{point.num_pairs:,}", read, loss, str(len(point.losses))]


def curve_table(curve: DataCurve) -> Table:
    """Return the table of bits per byte by share."""
    table = Table(title=Text(curve.title), title_justify="left")
    for heading in CURVE_HEADINGS:
        table.add_column(heading, justify="right")
    for point in curve.points:
        table.add_row(*curve_cells(point))
    return table
