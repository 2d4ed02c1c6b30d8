"""Pairs of metrics of which one wants both, and the rows that no other row beats in both."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from mtx.experiment.page.ranking import shown_groups
from mtx.experiment.sweep.results import MORE_IS_BETTER, Group, Results

# Metrics against each other, where jobs were trained, and where they were only measured.
OF_FITS = (("padding_ratio", "bits_per_byte"), ("fit_s", "bits_per_byte"))
SAME_SECONDS = 0.01  # relative: what a budget of seconds makes alike is nothing to trade
OF_MEASURES = (("padding_ratio", "real_tokens_per_s"), ("padding_ratio", "num_batches"))


@dataclass(frozen=True)
class Front:
    """Two metrics, and where each row of the table stands.

    Attributes:
        x, y: names of the metrics.
        rows: the number of each row, from 1, with its two means; rows that lack one are left out.
        on_front: numbers of the rows that none is as good as in both and better than in one, in order of x.
    """

    x: str
    y: str
    rows: tuple[tuple[int, float, float], ...]
    on_front: tuple[int, ...]


def fronts(results: Results) -> tuple[Front, ...]:
    """Return the pairs of metrics that at least two rows have, each with its front.

    Seconds of training are left out where all rows took the same, as under `budget.seconds`.
    """
    objectives = next((list(job.objectives) for job in results.jobs if len(job.objectives) > 1), [])
    trained = any("bits_per_byte" in job.metrics for job in results.jobs)
    pairs = [(objectives[0], objectives[1])] if objectives else []
    pairs += [pair for pair in (OF_FITS if trained else OF_MEASURES) if pair not in pairs]
    groups, more = shown_groups(results), _more_is_better(results, objectives)
    found = [_front(groups, x, y, more) for x, y in pairs]
    return tuple(front for front in found if len(front.rows) > 1 and not (front.x == "fit_s" and _same(front)))


def dominated(point: tuple[float, float], others: Sequence[tuple[float, float]]) -> bool:
    """Tell whether another point is as small in both, and smaller in one."""
    return any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in others)


def _same(front: Front) -> bool:
    numbers = [x for _, x, _ in front.rows]
    return max(numbers) - min(numbers) <= SAME_SECONDS * max(numbers)


def _more_is_better(results: Results, objectives: Sequence[str]) -> frozenset[str]:
    """Return the metrics of which more is better: by `sweep.direction` for each objective, else by their names."""
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
    best = [row for row, point in zip(rows, points, strict=True) if not dominated(point, points)]
    return Front(x, y, tuple(rows), tuple(number for number, _, _ in sorted(best, key=lambda row: row[1])))
