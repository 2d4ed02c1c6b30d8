"""Plot of two metrics against each other, with a dashed line through the rows on the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtx.page.plots.matplotlib_svg import (
    FAINT,
    Figures,
    Plot,
    abbreviate_numbers,
    add_legend,
    series_style,
    short_name,
    value_numbers,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NUMBERED = 10  # points with a number; of more points, only those on the Pareto front get one
MAX_SERIES = 8
MIN_ABBREVIATED = 10_000  # smallest number for which an axis writes k and M


@dataclass(frozen=True)
class Point:
    """One row of the ranking as a point of the plot.

    Attributes:
        number: The number of the row.
        x, y: The means of the two metrics over the seeds.
        x_spread, y_spread: The standard deviations of the two metrics; 0 for fewer than two seeds.
        series: The value that selects the colour.
        on_front: Whether the row is on the Pareto front: no other row is as good in both metrics and better in one.
    """

    number: int
    x: float
    y: float
    x_spread: float
    y_spread: float
    series: str
    on_front: bool


def pareto_plot(figures: Figures, points: Sequence[Point], *, x: str, y: str, label: str) -> Plot:
    """Plot the points and their Pareto front; `x` and `y` are the labels of the axes."""
    series = value_numbers([point.series for point in points])
    coloured = 1 < len(series) <= MAX_SERIES

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        line = sorted((point.x, point.y) for point in points if point.on_front)
        axes.plot(*zip(*line, strict=True), color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for text, number in series.items():
            of_it = [point for point in points if point.series == text]
            colour, marker = series_style(number if coloured else 0)
            axes.errorbar(
                [point.x for point in of_it],
                [point.y for point in of_it],
                xerr=_error_bars([point.x_spread for point in of_it]),
                yerr=_error_bars([point.y_spread for point in of_it]),
                fmt=marker,
                color=colour,
                elinewidth=1,
                label=short_name(str(text)) if coloured else None,
                markersize=6,
            )
        numbered = points if len(points) <= MAX_NUMBERED else [point for point in points if point.on_front]
        for point in numbered[:MAX_NUMBERED]:
            axes.annotate(
                str(point.number),
                (point.x, point.y),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=10,
                fontweight="bold" if point.on_front else "normal",
            )
        axes.margins(0.1)
        axes.set_xlabel(short_name(x))
        axes.set_ylabel(short_name(y))
        abbreviate_numbers(
            axes,
            x=max(abs(point.x) for point in points) >= MIN_ABBREVIATED,
            y=max(abs(point.y) for point in points) >= MIN_ABBREVIATED,
        )
        axes.locator_params(axis="x", nbins=5)
        if coloured:
            add_legend(figure, axes)

    return figures.draw(paint, label=label, height=240)


def _error_bars(spreads: list[float]) -> list[float] | None:
    return spreads if any(spreads) else None
