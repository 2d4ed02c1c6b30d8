"""Plot of the lengths of the training pairs by side, with the edges of the sampler's buckets."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import FAINT, INK, Figures, Plot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_EDGES = 40  # bucket edges in one plot


def length_plot(
    figures: Figures,
    sides: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float]]],
    *,
    label: str,
) -> Plot:
    """Plot one histogram for each side, one below the other.

    Args:
        figures: The plots of the page.
        sides: For each side its name, the edges of its bins, the counts of its bins (one fewer), and its bucket edges.
        label: The description of the plot for screen readers.
    """

    def paint(figure: "Figure") -> None:
        panels = figure.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
        for axes, (side, edges, counts, buckets) in zip(panels, sides, strict=True):
            axes.stairs(counts, edges, fill=True, color=FAINT, alpha=0.75)
            for edge in buckets[:MAX_EDGES]:
                axes.axvline(edge, color=INK, linewidth=0.8, linestyle=(0, (3, 2)))
            axes.set_title(side, loc="left")
            axes.set_ylabel("pairs")
            axes.set_xlim(0, _axis_end(sides))
            axes.grid(visible=False, axis="x")
            axes.locator_params(axis="y", nbins=3)
        panels[-1].set_xlabel("tokens")

    return figures.draw(paint, label=label, height=130 * len(sides) + 20)


def _axis_end(sides: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float]]]) -> float:
    """Return the end of the axis: the last bin, of any side, with at least 0.1 % of the side's pairs."""
    ends = []
    for _, edges, counts, _ in sides:
        seen = np.flatnonzero(np.asarray(counts) >= max(sum(counts) / 1000, 1))
        ends.append(float(edges[int(seen[-1]) + 1]) if len(seen) else float(edges[-1]))
    return max(ends)
