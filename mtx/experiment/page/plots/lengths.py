"""How long the texts of each side are, with the edges of the sampler's buckets."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mtx.experiment.page.plots.figure import FAINT, Figures, Plot, style_of

MOST_EDGES = 40  # bucket edges that are drawn


def lengths(
    figures: Figures,
    sides: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float]]],
    *,
    label: str,
) -> Plot:
    """Draw a histogram a side, one above the other.

    Args:
        figures: of the page.
        sides: the name of the side, edges of the bins, counts of the bins (one fewer), and edges of buckets.
        label: what the whole shows, for people who do not see it.
    """

    def paint(figure: Figure) -> None:
        panels = figure.subplots(len(sides), 1, sharex=True, squeeze=False)[:, 0]
        for number, (axes, (side, edges, counts, buckets)) in enumerate(zip(panels, sides, strict=True)):
            axes.stairs(counts, edges, fill=True, color=style_of(number)[0], alpha=0.75)
            for edge in buckets[:MOST_EDGES]:
                axes.axvline(edge, color=FAINT, linewidth=0.8, linestyle=(0, (3, 2)))
            axes.set_title(side, loc="left")
            axes.set_ylabel("pairs")
            axes.set_xlim(0, _end(sides))
            axes.grid(visible=False, axis="x")
            axes.locator_params(axis="y", nbins=3)
        panels[-1].set_xlabel("tokens")

    return figures.draw(paint, label=label, height=130 * len(sides) + 20)


def _end(sides: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float]]]) -> float:
    """Return where the axis ends: at the last bin of any side that has a thousandth of the side's pairs or more."""
    ends = []
    for _, edges, counts, _ in sides:
        seen = np.flatnonzero(np.asarray(counts) >= max(sum(counts) / 1000, 1))
        ends.append(float(edges[int(seen[-1]) + 1]) if len(seen) else float(edges[-1]))
    return max(ends)
