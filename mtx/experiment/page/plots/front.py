"""Two metrics against each other, with the line of those that nothing else beats in both."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from mtx.experiment.page.plots.figure import FAINT, Figures, Plot, legend, name, numbering, short_numbers, style_of

MOST_NUMBERED = 10  # points that get their number written beside them; of more, those on the front do
MOST_SERIES = 8
LARGE = 10_000  # from here on, axes write k and M


@dataclass(frozen=True)
class Point:
    """One row of the page's table.

    Attributes:
        number: of the row.
        x, y: its two metrics, means over seeds.
        x_spread, y_spread: their standard deviations; 0 where there are none.
        series: what its colour stands for.
        on_front: no other is as good in both and better in one.
    """

    number: int
    x: float
    y: float
    x_spread: float
    y_spread: float
    series: str
    on_front: bool


def front(figures: Figures, points: Sequence[Point], *, x: str, y: str, label: str) -> Plot:
    """Draw points and their front; `x` and `y` name the axes."""
    series = numbering([point.series for point in points])
    coloured = 1 < len(series) <= MOST_SERIES

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        line = sorted((point.x, point.y) for point in points if point.on_front)
        axes.plot(*zip(*line, strict=True), color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for text, number in series.items():
            of_it = [point for point in points if point.series == text]
            colour, marker = style_of(number if coloured else 0)
            axes.errorbar(
                [point.x for point in of_it],
                [point.y for point in of_it],
                xerr=_bars([point.x_spread for point in of_it]),
                yerr=_bars([point.y_spread for point in of_it]),
                fmt=marker,
                color=colour,
                elinewidth=1,
                label=name(str(text)) if coloured else None,
                markersize=6,
            )
        numbered = points if len(points) <= MOST_NUMBERED else [point for point in points if point.on_front]
        for point in numbered[:MOST_NUMBERED]:
            axes.annotate(
                str(point.number),
                (point.x, point.y),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize=10,
                fontweight="bold" if point.on_front else "normal",
            )
        axes.margins(0.1)
        axes.set_xlabel(name(x))
        axes.set_ylabel(name(y))
        short_numbers(
            axes,
            x=max(abs(point.x) for point in points) >= LARGE,
            y=max(abs(point.y) for point in points) >= LARGE,
        )
        axes.locator_params(axis="x", nbins=5)
        if coloured:
            legend(figure, axes)

    return figures.draw(paint, label=label, height=240)


def _bars(spreads: list[float]) -> list[float] | None:
    return spreads if any(spreads) else None
