"""Plots of one score: its histogram with thresholds, and curves of the noise that it catches over the lost pairs."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import DASHES, INK, Figures, Plot, add_legend, series_style, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HISTOGRAM_HEIGHT, CURVES_HEIGHT = 170, 240


def histogram_of_score(
    figures: Figures,
    edges: Sequence[float],
    counts: Sequence[int],
    thresholds: Sequence[tuple[str, float]],
    *,
    label: str,
) -> Plot:
    """Plot the number of pairs in each bin of a score, on a scale of square roots, with named thresholds.

    Args:
        figures: The plots of the page.
        edges: The edges of the bins.
        counts: The numbers of pairs, one fewer.
        thresholds: The name and the place of each threshold.
        label: The description of the plot for screen readers.
    """

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.stairs(counts, edges, fill=True, color=series_style(5)[0], alpha=0.8)
        for number, (name, place) in enumerate(thresholds):
            if edges[0] <= place <= edges[-1]:
                dash = DASHES[number % len(DASHES)]
                axes.axvline(place, color=series_style(number + 1)[0], linewidth=1.8, linestyle=dash, label=name)
        top = max(counts, default=1) or 1
        axes.set_yticks([0, *_round_numbers(top)])
        axes.set_ylim(0, top * 1.05)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylabel("pairs")
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(visible=False, axis="x")
        axes.locator_params(axis="x", nbins=5)
        add_legend(figure, axes)

    return figures.draw(paint, label=label, height=HISTOGRAM_HEIGHT)


def caught_curves(
    figures: Figures, losses: Sequence[float], curves: Mapping[str, Sequence[float]], *, label: str
) -> Plot:
    """Plot the share of each kind of noise that is caught over the share of all pairs that is lost, in per cent.

    Args:
        figures: The plots of the page.
        losses: The shares of lost pairs, ascending.
        curves: For each kind, the share that is caught at each loss.
        label: The description of the plot for screen readers.
    """

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for number, (name, caught) in enumerate(curves.items()):
            colour, marker = series_style(number)
            is_all = number == 0
            axes.plot(
                [100 * loss for loss in losses],
                [100 * share for share in caught],
                color=INK if is_all else colour,
                marker=None if is_all else marker,
                markersize=3.5,
                linewidth=2.4 if is_all else 1.3,
                label=short_name(name),
            )
        axes.set_xscale("log")
        axes.set_xticks([0.1, 1, 5, 20, 50], ["0.1", "1", "5", "20", "50"])
        axes.minorticks_off()
        axes.set_ylim(-3, 103)
        axes.set_xlabel("pairs lost (%)")
        axes.set_ylabel("noise caught (%)")
        add_legend(figure, axes)

    return figures.draw(paint, label=label, height=CURVES_HEIGHT)


def _round_numbers(highest: float) -> list[float]:
    """Return a large and a small round number up to `highest`, for the labels of a scale of square roots."""
    large = 10 ** np.floor(np.log10(highest))
    large *= max(factor for factor in (1, 2, 5) if factor * large <= highest)
    return [large / 10, large] if large >= 10 else [large]
