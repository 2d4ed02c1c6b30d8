"""Lines: held-out bits per byte, or the loss of training, over steps, tokens or seconds."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from mtx.experiment.page.plots.figure import DASHES, Figures, Plot, legend, name, numbering, short_numbers, style_of

MOST_SERIES = 8  # with colours of their own; where there are more, all but the first are faint
MOST_POINTS = 80  # a line
LONGEST_IN_A_LINE = 46  # characters of a name that has a line of the legend to itself


@dataclass(frozen=True)
class Line:
    """One job's line.

    Attributes:
        series: what it belongs to: jobs that differ in the seed alone share it.
        points: in order of x.
    """

    series: str
    points: Sequence[tuple[float, float]]


def curves(
    figures: Figures, lines: Sequence[Line], *, x: str, y: str, label: str, with_names: bool = True, marked: bool = True
) -> Plot:
    """Draw lines; those of a series in one colour and one kind of dash."""
    series = numbering([line.series for line in lines])
    many = len(series) > MOST_SERIES

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        named: set[str] = set()
        for line in lines:
            number = series[line.series]
            colour, marker = style_of(min(number, 7) if many else number)
            faint = many and number >= MOST_SERIES - 1
            points = _thinned(line.points)
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
                label=None if line.series in named or faint else name(line.series, LONGEST_IN_A_LINE),
            )
            named.add(line.series)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.margins(x=0.03)
        short_numbers(axes)
        if with_names and len(series) > 1:
            legend(figure, axes, columns=1 if any(len(text) > 18 for text in named) else 2)

    rows = min(len(series), MOST_SERIES) if with_names and len(series) > 1 else 0
    wide = any(len(line.series) > 18 for line in lines)
    return figures.draw(paint, label=label, height=210 + 14 * (rows if wide else -(-rows // 2)))


def _thinned(points: Sequence[tuple[float, float]]) -> Sequence[tuple[float, float]]:
    """Leave out points between the first and the last, evenly, where there are too many to be seen."""
    if len(points) <= MOST_POINTS:
        return points
    step = (len(points) - 1) / (MOST_POINTS - 1)
    return [points[round(number * step)] for number in range(MOST_POINTS)]
