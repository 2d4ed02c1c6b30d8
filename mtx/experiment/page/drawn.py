"""From results to plots: which numbers go into each, and what is said of it to people who do not see it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mtx.experiment.page import data
from mtx.experiment.page.effects import Effect
from mtx.experiment.page.pareto import Front
from mtx.experiment.page.plots.curves import Line, curves
from mtx.experiment.page.plots.dots import dots, scatter
from mtx.experiment.page.plots.figure import Figures, Plot
from mtx.experiment.page.plots.front import Point, front
from mtx.experiment.page.plots.lengths import lengths
from mtx.experiment.page.plots.shapes import shapes
from mtx.experiment.page.plots.tokens import tokens
from mtx.experiment.page.profile import SIDES, Profile
from mtx.experiment.page.ranking import brief_value, heading, label_of, shown_groups
from mtx.experiment.sweep.metrics import Value
from mtx.experiment.sweep.results import SEED, JobRecord, Results

MANY_VALUES = 8  # of a choice of numbers; more are drawn along an axis
SPACED_BY_RATIO = 20  # from this ratio of the largest to the smallest on
MOST_LINES = 64


class Drawing(Figures):
    """The plots of one page."""


@dataclass(frozen=True)
class BatchPlots:
    """The batches of one row of the table: facts, and the plots that there are."""

    label: str
    facts: Mapping[str, float]
    shapes: Plot | None
    tokens: Plot | None
    other_batches: int


def effect_plot(drawing: Drawing, effect: Effect, objective: str) -> Plot:
    """Draw what one choice does to the objective."""
    about = f"{objective} by {effect.key}. "
    about += "; ".join(f"{brief_value(row.value)}: mean {row.mean:.5g}" for row in effect.rows[:MANY_VALUES])
    if effect.is_numeric and len(effect.rows) > MANY_VALUES:
        points = [(_number(row.value), number) for row in effect.rows for number in row.numbers]
        values = [x for x, _ in points]
        log = min(values) > 0 and max(values) / min(values) >= SPACED_BY_RATIO
        return scatter(drawing, points, metric=objective, label=about, choice=effect.key, log=log)
    rows = [(brief_value(row.value), row.numbers) for row in effect.rows]
    return dots(drawing, rows, metric=objective, label=about)


def front_plot(drawing: Drawing, found: Front, results: Results, varied: Sequence[str]) -> Plot:
    """Draw two metrics against each other, coloured by the first choice that varied."""
    groups = shown_groups(results)
    key = next((key for key in varied if key != SEED), None)
    points = [
        Point(
            number=number,
            x=x,
            y=y,
            x_spread=groups[number - 1].spread(found.x) or 0.0,
            y_spread=groups[number - 1].spread(found.y) or 0.0,
            series="" if key is None else brief_value(groups[number - 1].jobs[0].value(key)),
            on_front=number in found.on_front,
        )
        for number, x, y in found.rows
    ]
    on_front = ", ".join(map(str, found.on_front))
    about = f"{heading(found.y)} against {heading(found.x)}, a point a row of the table. On the front: {on_front}"
    return front(drawing, points, x=heading(found.x), y=heading(found.y), label=about)


def curves_of(
    drawing: Drawing, results: Results, labels: Mapping[Path, str], profiles: Mapping[Path, Profile]
) -> tuple[Plot, ...]:
    """Draw held-out bits per byte by tokens and by seconds; by steps where neither is known."""
    jobs = [job for group in results.groups for job in group.jobs if job.folder in profiles][:MOST_LINES]
    ways = (("real_tokens", "real tokens trained on"), ("seconds", "seconds of training"), ("step", "steps"))
    found: list[Plot] = []
    for way, axis in ways:
        if way == "step" and found:
            break
        lines = [line for job in jobs if (line := _line(job, labels, profiles[job.folder], way)) is not None]
        if lines:
            ends = {line.series: line.points[-1][1] for line in reversed(lines)}
            told_ends = "; ".join(f"{series}: {end:.4f}" for series, end in list(ends.items())[:8])
            about = f"held-out bits per byte by {axis}. At the end: {told_ends}"
            found.append(curves(drawing, lines, x=axis, y="bits per byte", label=about))
    if len(jobs) == 1 and (loss := profiles[jobs[0].folder].train_loss):
        about = f"training loss by steps, from {loss[0][1]:.4g} to {loss[-1][1]:.4g}"
        line = Line("training loss", loss)
        found.append(curves(drawing, [line], x="steps", y="loss, nats a token", label=about, marked=False))
    return tuple(found)


def histogram_plot(drawing: Drawing, label: str, profile: Profile) -> Plot:
    """Draw the lengths of both sides, with the edges of the sampler's buckets."""
    sides = [
        (side, found.edges, found.counts, profile.bucket_edges.get(side, ()))
        for side in SIDES
        if (found := profile.lengths.get(side)) is not None
    ]
    halves = ", ".join(
        f"half of the pairs have at most {_middle(edges, counts):.0f} {side} tokens" for side, edges, counts, _ in sides
    )
    return lengths(drawing, sides, label=f"lengths of the training pairs, {label}: {halves}")


def batches_of(
    drawing: Drawing, named: Sequence[tuple[str, JobRecord]], profiles: Mapping[Path, Profile]
) -> list[BatchPlots]:
    """Draw shapes and tokens a step of the batches of some jobs."""
    found = []
    for label, job in named:
        profile, facts = profiles[job.folder], data.batch_facts(job)
        shape_plot = token_plot = None
        if profile.shapes:
            number = profile.num_shapes or len(profile.shapes)
            about = f"shapes of batches, {label}: {number:,} different ones; pairs against the longest side"
            shape_plot = shapes(drawing, profile.shapes, label=about)
        if profile.tokens is not None:
            mean = sum(profile.tokens.real) / len(profile.tokens.real)
            about = f"tokens a step over the epoch, {label}: {mean:,.0f} real tokens on average"
            token_plot = tokens(
                drawing, profile.tokens.positions, profile.tokens.real, profile.tokens.padded, label=about
            )
        if facts or shape_plot or token_plot:
            found.append(BatchPlots(label, facts, shape_plot, token_plot, profile.other_batches))
    return found


def _line(job: JobRecord, labels: Mapping[Path, str], profile: Profile, way: str) -> Line | None:
    points = [(x, look.bits_per_byte) for look in profile.curve if (x := getattr(look, way)) is not None]
    drawn = sorted((float(x), y) for x, y in points if y is not None)
    return Line(labels.get(job.folder) or label_of(job, ()), drawn) if len(drawn) > 1 else None


def _middle(edges: Sequence[float], counts: Sequence[float]) -> float:
    """Return the upper edge of the bin that has the middle pair."""
    half, seen = sum(counts) / 2, 0.0
    for edge, count in zip(edges[1:], counts, strict=True):
        seen += count
        if seen >= half:
            return edge
    return edges[-1]


def _number(value: Value) -> float:
    assert isinstance(value, (int, float))
    return float(value)
