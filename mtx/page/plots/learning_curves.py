"""Plot of learning curves: held-out bits per byte or training loss over steps, tokens or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import (
    DASHES,
    Figures,
    Plot,
    abbreviate_numbers,
    add_legend,
    series_style,
    short_name,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SERIES = 8  # series with their own colours; with more series, all but the first are pale
MAX_POINTS = 80  # points of a line
MAX_LINE_NAME_CHARS = 46  # characters of a series name in the legend


@dataclass(frozen=True)
class Line:
    """The learning curve of one job.

    Attributes:
        series: The name of the job's arm; the jobs of an arm have one colour.
        points: The points (x, y), in order of x.
        spread: The standard deviation of each y over seeds, drawn as a band; None for no band.
        number: The number of the arm's row in the ranking, from 1, which gives the colour on the whole page.
    """

    series: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[float] | None = None
    number: int = 1


def curve_plot(
    figures: Figures, lines: Sequence[Line], *, x: str, y: str, label: str, with_names: bool = True, marked: bool = True
) -> Plot:
    """Plot lines; the lines of a series have the same colour and dash pattern."""
    series = {line.series: line.number - 1 for line in lines}
    many = len(series) > MAX_SERIES

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        named: set[str] = set()
        for line in lines:
            number = series[line.series]
            faint = many and number >= MAX_SERIES - 1
            colour, marker = series_style(MAX_SERIES - 1 if faint else number)
            points = _thinned_points(line.points)
            axes.plot(
                *zip(*points, strict=True),
                color=colour,
                marker=marker if marked and not faint else None,
                markersize=4,
                markevery=max(1, len(points) // 12),
                linestyle=DASHES[number % len(DASHES)] if not faint else "-",
                alpha=0.35 if faint else 0.9,
                linewidth=0.9 if faint else 1.5,
                zorder=1 if faint else 3,
                label=None if line.series in named or faint else short_name(line.series, MAX_LINE_NAME_CHARS),
            )
            if line.spread is not None:
                (at, mean), spread = np.array(line.points).T, np.array(line.spread)
                axes.fill_between(at, mean - spread, mean + spread, color=colour, alpha=0.15, linewidth=0)
            named.add(line.series)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(x=0.03)
        abbreviate_numbers(axes)
        if with_names and len(series) > 1:
            add_legend(figure, axes, columns=1 if any(len(text) > 18 for text in named) else 2)

    rows = min(len(series), MAX_SERIES) if with_names and len(series) > 1 else 0
    wide = any(len(line.series) > 18 for line in lines)
    return figures.draw(paint, label=label, height=210 + 14 * (rows if wide else -(-rows // 2)))


def _thinned_points(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Return at most `MAX_POINTS` evenly spaced points, including the first and the last point."""
    if len(points) <= MAX_POINTS:
        return points
    step = (len(points) - 1) / (MAX_POINTS - 1)
    return [points[round(number * step)] for number in range(MAX_POINTS)]
