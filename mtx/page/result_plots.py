"""Compute the inputs of each plot from the results, and the text that describes the plot to screen readers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from mtx.page import data_section
from mtx.page.arm_curves import UNITS, arm_curves
from mtx.page.effects import Effect
from mtx.page.pareto import Front
from mtx.page.plots.batch_shapes import batch_shape_plot
from mtx.page.plots.effect_dots import dot_plot, scatter_plot
from mtx.page.plots.learning_curves import Line, curve_plot
from mtx.page.plots.length_histogram import length_plot
from mtx.page.plots.matplotlib_svg import Figures, Plot
from mtx.page.plots.pareto_front import Point, pareto_plot
from mtx.page.plots.tokens_per_step import token_step_plot
from mtx.page.ranking import ranked_groups
from mtx.records.plot_data_record import SIDES, RunProfile
from mtx.records.report_metrics import Value, metric_heading, shown_value
from mtx.records.result_types import JobRecord, Results
from mtx.records.setting_notation import brief_value

MANY_VALUES = 8  # values of a numeric setting; with more values, they are plotted along an axis
LOG_SCALE_RATIO = 20  # smallest ratio of the largest to the smallest value that gets a logarithmic axis


class PageFigures(Figures):
    """The plots of one page, numbered so that their SVG ids differ."""


@dataclass(frozen=True)
class BatchPlots:
    """The batches of one row of the ranking: its number and label, facts, and the plots that could be drawn."""

    number: int
    label: str
    facts: Mapping[str, float]
    shapes: Plot | None
    tokens: Plot | None
    other_batches: int


def effect_plot(drawing: PageFigures, effect: Effect, objective: str) -> Plot:
    """Plot the objective of each job by the value of one setting."""
    about = f"{objective} by {effect.key}. "
    rows = [(brief_value(row.value), row.numbers) for row in effect.rows if row.numbers]
    about += "; ".join(f"{value}: mean {fmean(numbers):.5g}" for value, numbers in rows[:MANY_VALUES])
    if effect.is_numeric and len(effect.rows) > MANY_VALUES:
        points = [(_number(row.value), number) for row in effect.rows for number in row.numbers]
        values = [x for x, _ in points]
        log = min(values) > 0 and max(values) / min(values) >= LOG_SCALE_RATIO
        return scatter_plot(drawing, points, metric=objective, label=about, choice=effect.key, log=log)
    return dot_plot(drawing, rows, metric=objective, label=about)


def front_plot(drawing: PageFigures, found: Front, results: Results) -> Plot:
    """Plot two metrics against each other, one point for each row."""
    groups = ranked_groups(results)
    points = [
        Point(
            number=number,
            x=shown_value(found.x, x),
            y=shown_value(found.y, y),
            x_spread=shown_value(found.x, groups[number - 1].spread(found.x) or 0.0),
            y_spread=shown_value(found.y, groups[number - 1].spread(found.y) or 0.0),
            on_front=number in found.on_front,
        )
        for number, x, y in found.rows
    ]
    on_front = ", ".join(map(str, found.on_front))
    x, y = metric_heading(found.x), metric_heading(found.y)
    about = f"{y} against {x}, one point per row. Rows on the Pareto front: {on_front}"
    return pareto_plot(drawing, points, x=x, y=y, label=about)


def curve_plots(
    drawing: PageFigures, results: Results, labels: Mapping[Path, str], profiles: Mapping[Path, RunProfile]
) -> tuple[Plot, ...]:
    """Plot held-out bits per byte over tokens and over seconds, one line per arm; over updates if neither is known."""
    jobs = [job for group in results.groups for job in group.jobs if job.folder in profiles]
    found: list[Plot] = []
    for unit, axis in UNITS:
        if unit == "step" and found:
            break
        lines = [
            Line(
                of.label,
                list(zip(of.x, of.mean, strict=True)),
                None if of.spread is None else list(of.spread),
                of.number,
            )
            for of in arm_curves(results, labels, profiles, unit)
        ]
        if lines:
            ends = {line.series: line.points[-1][1] for line in reversed(lines)}
            at_end = "; ".join(f"{series}: {end:.4f}" for series, end in list(ends.items())[:8])
            about = f"held-out bits per byte by {axis}. Last values: {at_end}"
            found.append(curve_plot(drawing, lines, x=axis, y="bits per byte", label=about))
    if len(jobs) == 1 and (loss := profiles[jobs[0].folder].train_loss):
        about = f"training loss by steps, from {loss[0][1]:.4g} to {loss[-1][1]:.4g}"
        line = Line("training loss", loss)
        found.append(curve_plot(drawing, [line], x="steps", y="loss, nats per token", label=about, marked=False))
    return tuple(found)


def histogram_plot(drawing: PageFigures, label: str, profile: RunProfile) -> Plot:
    """Plot a histogram of lengths for each side, with the edges of the sampler's buckets."""
    sides = [
        (side, found.edges, found.counts, profile.edges_of(side))
        for side in SIDES
        if (found := profile.lengths.get(side)) is not None and found.counts
    ]
    halves = ", ".join(
        f"half of the pairs have at most {_median_edge(edges, counts):.0f} {side} tokens"
        for side, edges, counts, _ in sides
    )
    return length_plot(drawing, sides, label=f"lengths of the training pairs, {label}: {halves}")


def batch_plots(
    drawing: PageFigures, named: Sequence[tuple[int, str, JobRecord]], profiles: Mapping[Path, RunProfile]
) -> list[BatchPlots]:
    """Plot the batch shapes and the tokens per step of some jobs, given with the number and the label of their row."""
    found = []
    for place, label, job in named:
        profile, facts = profiles[job.folder], data_section.batch_facts(job)
        shape_plot = token_plot = None
        if profile.shapes:
            number = profile.num_shapes or len(profile.shapes)
            about = f"batch shapes, {label}: {number:,} different ones; pairs per batch against the longer side"
            shape_plot = batch_shape_plot(drawing, profile.shapes, label=about, arm=place)
        steps = profile.tokens_per_step
        if steps is not None and steps.real:
            mean = sum(steps.real) / len(steps.real)
            about = f"tokens per step over the epoch, {label}: {mean:,.0f} real tokens on average"
            token_plot = token_step_plot(drawing, steps.positions, steps.real, steps.padded, label=about)
        if facts or shape_plot or token_plot:
            found.append(BatchPlots(place, label, facts, shape_plot, token_plot, profile.other_batches))
    return found


def _median_edge(edges: Sequence[float], counts: Sequence[float]) -> float:
    """Return the upper edge of the histogram bin that contains the median pair."""
    half, seen = sum(counts) / 2, 0.0
    for edge, count in zip(edges[1:], counts, strict=True):
        seen += count
        if seen >= half:
            return edge
    return edges[-1]


def _number(value: Value) -> float:
    assert isinstance(value, (int, float))
    return float(value)
