"""The effect of one choice: a dot a job, a bar at the mean, a row a value."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mtx.experiment.page.plots.figure import Figures, Plot, name, style_of

ROW_HEIGHT = 26
REST_HEIGHT = 52  # axis and its label
MOST_ROWS = 16


def dots(figures: Figures, rows: Sequence[tuple[str, Sequence[float]]], *, metric: str, label: str) -> Plot:
    """Draw each value's numbers, the first row on top.

    Args:
        figures: of the page.
        rows: a value's name, and the metric of the jobs that have it.
        metric: what the axis says.
        label: what the whole shows, for people who do not see it.
    """
    rows = rows[:MOST_ROWS]

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        for row, (_, numbers) in enumerate(rows):
            colour, marker = style_of(0)
            offsets = np.linspace(-0.16, 0.16, len(numbers)) if len(numbers) > 1 else np.zeros(1)
            axes.scatter(numbers, row + offsets, s=34, color=colour, marker=marker, alpha=0.65, linewidths=0)
            mean = float(np.mean(numbers))
            axes.plot([mean, mean], [row - 0.34, row + 0.34], color=style_of(1)[0], linewidth=2.2)
        axes.set_yticks(range(len(rows)), [name(text) for text, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.06)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(name(metric))
        axes.locator_params(axis="x", nbins=5)

    return figures.draw(paint, label=label, height=REST_HEIGHT + ROW_HEIGHT * max(len(rows), 1))


def scatter(
    figures: Figures, points: Sequence[tuple[float, float]], *, metric: str, label: str, choice: str, log: bool
) -> Plot:
    """Draw a metric over a choice of many numbers; `log` spaces them by their ratios."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        colour, marker = style_of(0)
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=30, color=colour, marker=marker, alpha=0.75, linewidths=0)
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xlabel(name(choice))
        axes.set_ylabel(name(metric))

    return figures.draw(paint, label=label)
