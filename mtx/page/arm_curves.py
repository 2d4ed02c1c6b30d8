"""Learning curves of arms: the mean over seeds, and a band of one standard deviation where an arm has several."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mtx.page.ranking import ranked_groups
from mtx.records.plot_data_record import RunProfile
from mtx.records.result_types import JobRecord, Results

UNITS = (("real_tokens", "real tokens trained on"), ("seconds", "seconds of training"), ("step", "updates"))
MAX_POINTS = 80  # points of a curve
MAX_COMMON_POINTS = 200  # points of the common axis of all curves, without the ends of each curve
MAX_ARMS = 40

Points = NDArray[np.float64]


@dataclass(frozen=True)
class ArmCurve:
    """The learning curve of one arm over one unit.

    Attributes:
        number: The number of the arm's row in the ranking, from 1.
        label: The name of the arm.
        x: Where the curve has values, ascending, float64 [n].
        mean: Mean bits per byte over the jobs of the arm, float64 [n].
        spread: Their standard deviation, float64 [n]; None for one job.
    """

    number: int
    label: str
    x: Points
    mean: Points
    spread: Points | None


def arm_curves(
    results: Results, labels: Mapping[Path, str], profiles: Mapping[Path, RunProfile], unit: str
) -> list[ArmCurve]:
    """Return the curves of the arms over a unit, in the order of the ranking; jobs that still train count, too.

    A curve covers the range that all its jobs cover. Values between validations are interpolated linearly.
    """
    found = []
    groups = ranked_groups(results) or list(results.groups)
    for number, group in enumerate(groups[:MAX_ARMS], 1):
        of_jobs = [curve for job in group.jobs if (curve := _curve(job, profiles, unit)) is not None]
        if not of_jobs:
            continue
        first, last = max(x[0] for x, _ in of_jobs), min(x[-1] for x, _ in of_jobs)
        x = np.unique(np.concatenate([x for x, _ in of_jobs]))
        x = x[(x >= first) & (x <= last)]
        if len(x) < 2:
            continue
        x = x[np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).round().astype(int))]
        values = np.stack([np.interp(x, *curve) for curve in of_jobs])
        spread = values.std(axis=0, ddof=1) if len(of_jobs) > 1 else None
        label = labels.get(group.jobs[0].folder) or group.jobs[0].name
        found.append(ArmCurve(number, label, x, values.mean(axis=0), spread))
    return found


def curve_columns(curves: Sequence[ArmCurve], unit: str, axis: str) -> dict[str, object]:
    """Return curves as plain values over one common x axis, None outside of a curve; for the script of the page."""
    x = np.unique(np.concatenate([curve.x for curve in curves]))
    if len(x) > MAX_COMMON_POINTS:  # seconds differ between all jobs
        some = x[np.linspace(0, len(x) - 1, MAX_COMMON_POINTS).round().astype(int)]
        x = np.unique(np.concatenate([some, *(curve.x[[0, -1]] for curve in curves)]))

    def column(curve: ArmCurve, values: Points) -> list[float | None]:
        inside = (x >= curve.x[0]) & (x <= curve.x[-1])
        at = np.interp(x, curve.x, values)
        return [float(f"{value:.5g}") if is_inside else None for value, is_inside in zip(at, inside, strict=True)]

    arms = []
    for curve in curves:
        spread = curve.spread
        band = (
            {}
            if spread is None
            else {"low": column(curve, curve.mean - spread), "high": column(curve, curve.mean + spread)}
        )
        arms.append({"label": curve.label, "number": curve.number, "mean": column(curve, curve.mean), **band})
    return {"unit": unit, "axis": axis, "x": [float(f"{value:.6g}") for value in x], "arms": arms}


def _curve(job: JobRecord, profiles: Mapping[Path, RunProfile], unit: str) -> tuple[Points, Points] | None:
    if job.folder not in profiles:
        return None
    points = {
        float(x): one.bits_per_byte
        for one in profiles[job.folder].validations
        if (x := getattr(one, unit)) is not None and one.bits_per_byte is not None
    }
    if len(points) < 2:
        return None
    ordered = sorted(points.items())
    return np.array([x for x, _ in ordered]), np.array([y for _, y in ordered])
