"""Plot of one setting's effect: a row for each value, a dot for each job, and a bar at the mean."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import FAINT, INK, Figures, Plot, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW_HEIGHT = 26
REST_HEIGHT = 52  # height of the axis and its label
MAX_ROWS = 16


def dot_plot(figures: Figures, rows: Sequence[tuple[str, Sequence[float]]], *, metric: str, label: str) -> Plot:
    """Plot the metric of each job in one row for each value of a setting, the first value on top.

    Args:
        figures: The plots of the page.
        rows: The name of each value, with the metric of the jobs that have this value.
        metric: The label of the axis.
        label: The description of the plot for screen readers.
    """
    rows = rows[:MAX_ROWS]

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for row, (_, numbers) in enumerate(rows):
            offsets = np.linspace(-0.16, 0.16, len(numbers)) if len(numbers) > 1 else np.zeros(1)
            axes.scatter(numbers, row + offsets, s=34, color=FAINT, alpha=0.65, linewidths=0)
            mean = float(np.mean(numbers))
            axes.plot([mean, mean], [row - 0.34, row + 0.34], color=INK, linewidth=2.2)
        axes.set_yticks(range(len(rows)), [short_name(text) for text, _ in rows])
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.margins(x=0.06)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(short_name(metric))
        axes.locator_params(axis="x", nbins=5)

    return figures.draw(paint, label=label, height=REST_HEIGHT + ROW_HEIGHT * max(len(rows), 1))


def scatter_plot(
    figures: Figures, points: Sequence[tuple[float, float]], *, metric: str, label: str, choice: str, log: bool
) -> Plot:
    """Plot a metric against a setting with many numeric values; `log` makes the setting's axis logarithmic."""

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        x, y = zip(*points, strict=True)
        axes.scatter(x, y, s=30, color=FAINT, alpha=0.75, linewidths=0)
        if log:
            axes.set_xscale("log")
            axes.minorticks_off()
        axes.set_xlabel(short_name(choice))
        axes.set_ylabel(short_name(metric))

    return figures.draw(paint, label=label)
