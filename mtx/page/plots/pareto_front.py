"""Plot of two metrics against each other, with a dashed line through the rows on the Pareto front."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mtx.page.plots.matplotlib_svg import (
    FAINT,
    Figures,
    Plot,
    abbreviate_numbers,
    series_style,
    short_name,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NUMBERED = 10  # points with a number; of more points, only those on the Pareto front get one
MAX_COLOURED = 8  # points that have the colours of their arms; more points are grey
MIN_ABBREVIATED = 10_000  # smallest number for which an axis writes k and M


@dataclass(frozen=True)
class Point:
    """One row of the ranking as a point of the plot.

    Attributes:
        number: The number of the row.
        x, y: The means of the two metrics over the seeds.
        x_spread, y_spread: The standard deviations of the two metrics; 0 for fewer than two seeds.
        on_front: Whether the row is on the Pareto front: no other row is as good in both metrics and better in one.
    """

    number: int
    x: float
    y: float
    x_spread: float
    y_spread: float
    on_front: bool


def pareto_plot(figures: Figures, points: Sequence[Point], *, x: str, y: str, label: str) -> Plot:
    """Plot the points and their Pareto front; `x` and `y` are the labels of the axes."""
    coloured = len(points) <= MAX_COLOURED

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        line = sorted((point.x, point.y) for point in points if point.on_front)
        axes.plot(*zip(*line, strict=True), color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for of_it in [[point] for point in points] if coloured else [points]:
            colour, marker = series_style(of_it[0].number - 1) if coloured else (FAINT, "o")
            axes.errorbar(
                [point.x for point in of_it],
                [point.y for point in of_it],
                xerr=_error_bars([point.x_spread for point in of_it]),
                yerr=_error_bars([point.y_spread for point in of_it]),
                fmt=marker,
                color=colour,
                elinewidth=1,
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

    return figures.draw(paint, label=label, height=240)


def _error_bars(spreads: list[float]) -> list[float] | None:
    return spreads if any(spreads) else None
