"""The Pareto front of two metrics: the rows of the ranking that no other row beats in both metrics."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mtx.page.ranking import ranked_groups
from mtx.records.report_metrics import MORE_IS_BETTER
from mtx.records.result_types import Group, Results

# Pairs of metrics with a Pareto front: for jobs with a training, and for jobs that only measure batches.
FIT_METRICS = (("padding_ratio", "bits_per_byte"), ("fit_s", "bits_per_byte"))
SAME_SECONDS = 0.01  # relative difference of training times below which they count as equal
MEASURE_METRICS = (("padding_ratio", "real_tokens_per_s"), ("padding_ratio", "num_batches"))


@dataclass(frozen=True)
class Front:
    """Two metrics with the rows of the ranking, and the rows on the Pareto front.

    Attributes:
        x, y: The names of the two metrics.
        rows: For each row that has both metrics, its number from 1 and the means of both metrics.
        on_front: The numbers of the rows on the Pareto front, in order of x.
    """

    x: str
    y: str
    rows: tuple[tuple[int, float, float], ...]
    on_front: tuple[int, ...]


def fronts(results: Results) -> tuple[Front, ...]:
    """Return the Pareto front of each pair of metrics that at least two rows have.

    Training time is left out if it is the same for all rows, for example under `budget.seconds`.
    """
    objectives = next((list(job.objectives) for job in results.jobs if len(job.objectives) > 1), [])
    trained = any("bits_per_byte" in job.metrics for job in results.jobs)
    pairs = [(objectives[0], objectives[1])] if objectives else []
    pairs += [pair for pair in (FIT_METRICS if trained else MEASURE_METRICS) if pair not in pairs]
    groups, more = ranked_groups(results), _more_is_better(results, objectives)
    found = [_front(groups, x, y, more) for x, y in pairs]
    return tuple(front for front in found if len(front.rows) > 1 and not (front.x == "fit_s" and _is_flat(front)))


def is_dominated(point: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Return whether one of `others` is at most as large as `point` in both coordinates, and differs from it."""
    return any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in others)


def _is_flat(front: Front) -> bool:
    numbers = [x for _, x, _ in front.rows]
    return max(numbers) - min(numbers) <= SAME_SECONDS * max(numbers)


def _more_is_better(results: Results, objectives: Sequence[str]) -> frozenset[str]:
    """Return the metrics that should be large: by `sweep.direction` for each objective, else by their names."""
    said = next((job.config["sweep.direction"] for job in results.jobs if job.config.get("sweep.direction")), None)
    directions = json.loads(said) if isinstance(said, str) and said.startswith("[") else [said]
    told = {name: way == "maximize" for name, way in zip(objectives, directions, strict=False) if way is not None}
    return (MORE_IS_BETTER - {name for name in told if not told[name]}) | {name for name in told if told[name]}


def _front(groups: Sequence[Group], x: str, y: str, more_is_better: frozenset[str]) -> Front:
    rows = []
    for number, group in enumerate(groups, 1):
        at_x, at_y = group.mean(x), group.mean(y)
        if at_x is not None and at_y is not None:
            rows.append((number, at_x, at_y))
    signs = [-1 if metric in more_is_better else 1 for metric in (x, y)]
    points = [(signs[0] * at_x, signs[1] * at_y) for _, at_x, at_y in rows]
    best = [row for row, point in zip(rows, points, strict=True) if not is_dominated(point, points)]
    return Front(x, y, tuple(rows), tuple(number for number, _, _ in sorted(best, key=lambda row: row[1])))
