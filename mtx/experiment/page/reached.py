"""How soon each choice came to the same quality: seconds and tokens until held-out text took so many bits a byte."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from mtx.experiment.page.profile import Look, Profile
from mtx.experiment.page.ranking import Row

Unit = Literal["seconds", "real_tokens"]


@dataclass(frozen=True)
class Spent:
    """What the jobs of a row spent until they reached the level.

    Attributes:
        mean: over the jobs.
        spread: its standard deviation (n − 1 in the divisor); None for fewer than two jobs.
        share: of the mean of the row that spent the most, from 0 to 1.
    """

    mean: float
    spread: float | None
    share: float


@dataclass(frozen=True)
class Reached:
    """What rows of the table spent until they came to the same held-out bits per byte.

    Attributes:
        bits_per_byte: the lowest that each of the jobs came to.
        rows: with seconds of training and real tokens of both sides, where known; the soonest first.
    """

    bits_per_byte: float
    rows: tuple[tuple[Row, Spent | None, Spent | None], ...]


def reached(rows: Sequence[Row], profiles: Mapping[Path, Profile]) -> Reached | None:
    """Compare when the jobs of the table's rows came to a quality that all of them reached.

    Returns:
        None where fewer than two rows have curves, or some job never became better than at its first look.
    """
    curves = {
        row.number: [curve for job in row.jobs if len(curve := _curve(profiles.get(job.folder))) > 1] for row in rows
    }
    rows = [row for row in rows if curves[row.number]]
    if len(rows) < 2:
        return None
    each = [curve for row in rows for curve in curves[row.number]]
    level = max(min(bits for _, bits in curve) for curve in each)
    if any(curve[0][1] <= level for curve in each):
        return None
    seconds, tokens = (
        _shares({row.number: [spent_until(level, curve, unit) for curve in curves[row.number]] for row in rows})
        for unit in ("seconds", "real_tokens")
    )
    found = [(row, seconds.get(row.number), tokens.get(row.number)) for row in rows]
    found = [line for line in found if line[1] or line[2]]
    if len(found) < 2:
        return None
    return Reached(level, tuple(sorted(found, key=lambda line: [spent.mean if spent else 0 for spent in line[1:]])))


def spent_until(level: float, curve: Sequence[tuple[Look, float]], unit: Unit) -> float | None:
    """Return what was spent until a curve of held-out bits per byte first came down to `level`.

    Between two looks it is taken to fall in a straight line. None: it did not, or the unit was not counted.
    """
    for (before, above), (after, below) in pairwise(curve):
        if below <= level < above:
            start, end = getattr(before, unit), getattr(after, unit)
            if start is None or end is None:
                return None
            return float(start + (end - start) * (above - level) / (above - below))
    return None


def _curve(profile: Profile | None) -> list[tuple[Look, float]]:
    looks = profile.curve if profile is not None else ()
    return sorted(
        ((look, look.bits_per_byte) for look in looks if look.bits_per_byte is not None),
        key=lambda point: point[0].step or 0,
    )


def _shares(numbers: Mapping[int, Sequence[float | None]]) -> dict[int, Spent]:
    """Return mean and spread of each row of which all jobs have a number."""
    whole = {row: [n for n in found if n is not None] for row, found in numbers.items() if None not in found}
    most = max((statistics.fmean(found) for found in whole.values()), default=0) or 1
    return {
        row: Spent(mean := statistics.fmean(found), statistics.stdev(found) if len(found) > 1 else None, mean / most)
        for row, found in whole.items()
    }
