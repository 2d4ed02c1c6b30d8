"""Tokens a step over an epoch: what the model computes, and how much of it is text."""

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mtx.experiment.page.plots.figure import Figures, Plot, legend, short_numbers, style_of

LARGE = 10_000  # from here on, the axis writes k


def tokens(
    figures: Figures, positions: Sequence[float], real: Sequence[float], padded: Sequence[float], *, label: str
) -> Plot:
    """Draw real and padded tokens of the batch at each of some positions of the epoch."""

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        axes.plot(positions, padded, color=style_of(1)[0], linewidth=0.9, label="with padding")
        axes.plot(positions, real, color=style_of(0)[0], linewidth=0.9, label="real tokens")
        axes.set_xlabel("batch of the epoch")
        axes.set_ylabel("tokens")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        short_numbers(axes, x=max(positions) >= LARGE, y=max(padded) >= LARGE)
        legend(figure, axes)

    return figures.draw(paint, label=label, height=200)
