"""The time and the tokens that each row of the ranking needs to reach the same held-out bits per byte."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from mtx.page.ranking import Row
from mtx.records.plot_data_record import RunProfile, ValidationPoint

Unit = Literal["seconds", "real_tokens"]


@dataclass(frozen=True)
class SpentAmount:
    """The amount that the jobs of a row spent until they reached a level.

    Attributes:
        mean: The mean over the jobs.
        spread: The standard deviation over the jobs (divisor n − 1); None for fewer than two jobs.
        is_at_start: Whether the first validation of each job had reached the level.
        any_at_start: Whether that of some job had, so that the mean has amounts without training.
    """

    mean: float
    spread: float | None
    is_at_start: bool = False
    any_at_start: bool = False


@dataclass(frozen=True)
class TimeToQuality:
    """The amounts that rows of the ranking spent until they reached the same held-out bits per byte.

    Attributes:
        bits_per_byte: The first level: the lowest value that every job reached. If no job had to train for it, a lower
            one.
        rows: Rows with seconds of training and real tokens of both sides, None if not reached or not known; the fastest
            row comes first.
        harder: Up to two lower levels, which the median row and the best row reached with all their jobs, each with the
            seconds by row number; rows that did not reach a level are missing.
    """

    bits_per_byte: float
    rows: tuple[tuple[Row, SpentAmount | None, SpentAmount | None], ...]
    harder: tuple[tuple[float, Mapping[int, SpentAmount]], ...] = ()

    @property
    def is_fair(self) -> bool:
        """Whether all jobs of all rows reached the first level by training, so that their times compare."""
        return all(spent is not None and not spent.any_at_start for _, spent, _ in self.rows)


def time_to_quality(rows: Sequence[Row], profiles: Mapping[Path, RunProfile]) -> TimeToQuality | None:
    """Return the amounts that each row spent until its jobs reached the lowest level that all jobs reached.

    Returns:
        None if fewer than two rows have learning curves with known amounts, or if no job improved on its first
        validation.
    """
    curves = {
        row.number: [curve for job in row.jobs if len(curve := validation_curve(profiles.get(job.folder))) > 1]
        for row in rows
    }
    rows = [row for row in rows if curves[row.number]]
    if len(rows) < 2:
        return None
    ends = {row.number: max(min(bits for _, bits in curve) for curve in curves[row.number]) for row in rows}
    starts = [curve[0][1] for row in rows for curve in curves[row.number]]
    candidates = {max(ends.values()), statistics.median_high(ends.values()), min(ends.values())}
    levels = sorted((level for level in candidates if level < max(starts)), reverse=True)
    if not levels:
        return None
    first, *lower = levels
    seconds, tokens = _spent_by_row(curves, first, "seconds"), _spent_by_row(curves, first, "real_tokens")
    found = [(row, seconds.get(row.number), tokens.get(row.number)) for row in rows]
    found = [line for line in found if line[1] or line[2] or ends[line[0].number] > first]
    if len(found) < 2 or not any(line[1] or line[2] for line in found):
        return None
    ordered = sorted(found, key=lambda line: [math.inf if spent is None else spent.mean for spent in line[1:]])
    return TimeToQuality(first, tuple(ordered), tuple((one, _spent_by_row(curves, one, "seconds")) for one in lower))


def spent_until(level: float, curve: Sequence[tuple[ValidationPoint, float]], unit: Unit) -> float | None:
    """Return the amount that was spent when a curve of held-out bits per byte first reached `level`.

    Values between two validations are interpolated linearly. A level that the first validation has reached counts as
    reached at that validation.

    Returns:
        Seconds or tokens. None if the curve never reached the level, or if the unit was not counted.
    """
    if curve and curve[0][1] <= level:
        spent = getattr(curve[0][0], unit)
        return None if spent is None else float(spent)
    for (before, above), (after, below) in pairwise(curve):
        if below <= level < above:
            start, end = getattr(before, unit), getattr(after, unit)
            if start is None or end is None:
                return None
            return float(start + (end - start) * (above - level) / (above - below))
    return None


def validation_curve(profile: RunProfile | None) -> list[tuple[ValidationPoint, float]]:
    """Return the validations of a job with their bits per byte, in order of steps; empty without a profile."""
    validations = profile.validations if profile is not None else ()
    return sorted(
        ((one, one.bits_per_byte) for one in validations if one.bits_per_byte is not None),
        key=lambda point: point[0].step or 0,
    )


def _spent_by_row(
    curves: Mapping[int, Sequence[Sequence[tuple[ValidationPoint, float]]]], level: float, unit: Unit
) -> dict[int, SpentAmount]:
    """Return what each row spent until all its jobs reached a level; without rows of which a job has no number."""
    found = {}
    for row, of_row in curves.items():
        numbers = [n for curve in of_row if (n := spent_until(level, curve, unit)) is not None]
        if numbers and len(numbers) == len(of_row):
            spread = statistics.stdev(numbers) if len(numbers) > 1 else None
            at_start = [curve[0][1] <= level for curve in of_row]
            found[row] = SpentAmount(statistics.fmean(numbers), spread, all(at_start), any(at_start))
    return found
