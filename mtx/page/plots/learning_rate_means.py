"""Plot of the mean objective of each arm by learning rate: lines that cross are arms whose order changes."""

import math
from statistics import fmean, stdev
from typing import TYPE_CHECKING

from mtx.page.plots.matplotlib_svg import DASHES, Figures, Plot, add_legend, series_style, short_name
from mtx.records.learning_rate_order import LearningRateOrder
from mtx.records.report_metrics import metric_heading, shown_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_PLOTTED_ARMS = 8  # as many as there are colours
SPACE_BETWEEN_ARMS = 0.02  # of the axis, so that the bars of several arms at one learning rate do not hide each other


def learning_rate_plot(figures: Figures, order: LearningRateOrder) -> Plot:
    """Plot the mean ± 1 standard deviation of the first `MAX_PLOTTED_ARMS` arms at each learning rate.

    An arm has no point at a learning rate at which it has no job, or one that diverged.
    """
    shown = order.arms[:MAX_PLOTTED_ARMS]
    width = math.log(order.rates[-1] / order.rates[0]) if order.rates[0] > 0 else 0.0
    heading = metric_heading(order.objective)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for place, arm in enumerate(shown):
            points = _points(order, arm)
            shift = math.exp(SPACE_BETWEEN_ARMS * width * (place - (len(shown) - 1) / 2))
            colour, marker = series_style(place)
            axes.errorbar(
                [rate * shift for rate, _, _ in points],
                [mean for _, mean, _ in points],
                yerr=[spread for _, _, spread in points],
                marker=marker,
                color=colour,
                linestyle=DASHES[place % len(DASHES)],
                linewidth=1.2,
                elinewidth=1,
                label=short_name(arm),
            )
        if width:
            axes.set_xscale("log")
        axes.set_xticks(order.rates, labels=[f"{rate:g}" for rate in order.rates])
        axes.minorticks_off()
        axes.set_xlabel("learning rate")
        axes.set_ylabel(heading)
        add_legend(figure, axes, columns=1 if any(len(arm) > 18 for arm in shown) else 2)

    means = "; ".join(f"{arm} {', '.join(f'{mean:.4g}' for _, mean, _ in _points(order, arm))}" for arm in shown)
    return figures.draw(paint, label=f"{heading} by learning rate: {means}", height=230 + 14 * len(shown))


def _points(order: LearningRateOrder, arm: str) -> list[tuple[float, float, float]]:
    """Return the learning rate, the mean and the standard deviation of an arm where all its jobs have finite values."""
    found = []
    for rate in order.rates:
        numbers = [shown_value(order.objective, number) for number in order.numbers[rate].get(arm, ())]
        if numbers and all(map(math.isfinite, numbers)):
            found.append((rate, fmean(numbers), stdev(numbers) if len(numbers) > 1 else 0.0))
    return found
