"""Plot of the tokens per step over an epoch, with padding and without."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtx.page.plots.matplotlib_svg import FAINT, INK, Figures, Plot, abbreviate_numbers, add_legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_ABBREVIATED = 10_000  # smallest number for which an axis writes k


def token_step_plot(
    figures: Figures, positions: Sequence[float], real: Sequence[float], padded: Sequence[float], *, label: str
) -> Plot:
    """Plot real tokens and padded tokens of the batches at the given positions of an epoch."""

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.plot(positions, padded, color=FAINT, linewidth=0.9, label="with padding")
        axes.plot(positions, real, color=INK, linewidth=0.9, label="real tokens")
        axes.set_xlabel("batch of the epoch")
        axes.set_ylabel("tokens")
        axes.set_ylim(bottom=0)
        axes.margins(x=0.01)
        from matplotlib.ticker import MaxNLocator

        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        abbreviate_numbers(axes, x=max(positions) >= MIN_ABBREVIATED, y=max(padded) >= MIN_ABBREVIATED)
        add_legend(figure, axes)

    return figures.draw(paint, label=label, height=200)
