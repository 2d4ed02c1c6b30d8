"""The time and the tokens that each row of the ranking needs to reach the same held-out bits per byte."""

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
    """The amount that the jobs of a row spent until they reached the common level.

    Attributes:
        mean: The mean over the jobs.
        spread: The standard deviation over the jobs (divisor n − 1); None for fewer than two jobs.
    """

    mean: float
    spread: float | None


@dataclass(frozen=True)
class TimeToQuality:
    """The amounts that rows of the ranking spent until they reached the same held-out bits per byte.

    Attributes:
        bits_per_byte: The common level: the lowest value that every job reached.
        harder: Up to two lower levels, which the median row and the best row reached with all their jobs, each with the
            seconds by row number; rows that did not reach a level are missing.
        rows: Rows with seconds of training and real tokens of both sides if known; the fastest row comes first.
    """

    bits_per_byte: float
    rows: tuple[tuple[Row, SpentAmount | None, SpentAmount | None], ...]
    harder: tuple[tuple[float, Mapping[int, SpentAmount]], ...] = ()


def time_to_quality(rows: Sequence[Row], profiles: Mapping[Path, RunProfile]) -> TimeToQuality | None:
    """Return the amounts that each row spent until its jobs reached the lowest level that all jobs reached.

    Returns:
        None if fewer than two rows have learning curves, or if some job never improved on its first validation.
    """
    curves = {
        row.number: [curve for job in row.jobs if len(curve := validation_curve(profiles.get(job.folder))) > 1]
        for row in rows
    }
    rows = [row for row in rows if curves[row.number]]
    if len(rows) < 2:
        return None
    each = [curve for row in rows for curve in curves[row.number]]
    level = max(min(bits for _, bits in curve) for curve in each)
    if any(curve[0][1] <= level for curve in each):
        return None
    seconds, tokens = (
        _spent_by_row({row.number: [spent_until(level, curve, unit) for curve in curves[row.number]] for row in rows})
        for unit in ("seconds", "real_tokens")
    )
    found = [(row, seconds.get(row.number), tokens.get(row.number)) for row in rows]
    found = [line for line in found if line[1] or line[2]]
    if len(found) < 2:
        return None
    ordered = tuple(sorted(found, key=lambda line: [spent.mean if spent else 0 for spent in line[1:]]))
    ends = {row.number: max(min(bits for _, bits in curve) for curve in curves[row.number]) for row in rows}
    lower = sorted({one for one in (statistics.median_high(ends.values()), min(ends.values())) if one < level})[::-1]
    harder = [
        (
            one,
            _spent_by_row(
                {row.number: [spent_until(one, curve, "seconds") for curve in curves[row.number]] for row in rows}
            ),
        )
        for one in lower
    ]
    return TimeToQuality(level, ordered, tuple(harder))


def spent_until(level: float, curve: Sequence[tuple[ValidationPoint, float]], unit: Unit) -> float | None:
    """Return the amount that was spent when a curve of held-out bits per byte first reached `level`.

    Values between two validations are interpolated linearly.

    Returns:
        Seconds or tokens. None if the curve never reached the level, or if the unit was not counted.
    """
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


def _spent_by_row(numbers: Mapping[int, Sequence[float | None]]) -> dict[int, SpentAmount]:
    """Return the mean and the standard deviation of each row in which every job has a number."""
    whole = {row: [n for n in found if n is not None] for row, found in numbers.items() if None not in found}
    return {
        row: SpentAmount(statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None)
        for row, found in whole.items()
    }
