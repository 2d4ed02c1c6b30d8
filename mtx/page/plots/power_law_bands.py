"""Plot of held-out bits per byte over the number of training pairs, with power laws and bands of their intervals."""

import math
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import (
    Figures,
    Plot,
    abbreviate_numbers,
    add_legend,
    series_style,
    short_name,
)
from mtx.records.data_curve import DataCurve, DataCurves

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_CURVES = 6
NUM_PLACES = 40  # points of a line


def data_curve_plot(figures: Figures, curves: DataCurves) -> Plot:
    """Plot each share as a dot with ± 1 standard deviation; the dashed part of a line is extrapolated."""
    shown = curves.curves[:MAX_CURVES]

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        for number, curve in enumerate(shown):
            colour, marker = series_style(number)
            axes.errorbar(
                [point.num_pairs for point in curve.points],
                [point.mean for point in curve.points],
                yerr=[point.spread or 0.0 for point in curve.points],
                fmt=marker,
                color=colour,
                elinewidth=1,
                label=short_name(curve.label) if curve.label else None,
            )
            _paint_law(axes, curve, colour)
        axes.set_xscale("log", base=2)
        axes.set_xlabel("training pairs")
        axes.set_ylabel("bits per byte")
        abbreviate_numbers(axes)
        ticks = sorted({point.num_pairs for point in shown[0].points} | {2 * shown[0].largest.num_pairs})
        axes.set_xticks(ticks[:: max(1, math.ceil(len(ticks) / 6))])
        axes.minorticks_off()
        if any(curve.label for curve in shown):
            add_legend(figure, axes, columns=1)

    ends = "; ".join(f"{curve.label or 'all jobs'}: {curve.largest.mean:.4f} at {curve.largest.num_pairs:,} pairs"
                     for curve in shown)  # fmt: skip
    height = 230 + 14 * len(shown) * any(curve.label for curve in shown)
    return figures.draw(paint, label=f"bits per byte by the number of training pairs. {ends}", height=height)


def _paint_law(axes: "Axes", curve: DataCurve, colour: str) -> None:
    laws = curve.laws
    if laws is None:
        return
    first, last = curve.points[0].num_pairs, curve.largest.num_pairs
    places = np.geomspace(first, 2 * last, NUM_PLACES)
    found = [laws.interval(laws.losses(float(place))) for place in places]
    lines = np.array([one.estimate for one in found])
    inside = places <= last
    axes.plot(places[inside], lines[inside], color=colour, linewidth=1.5)
    axes.plot(places[~inside], lines[~inside], color=colour, linewidth=1.5, linestyle=(0, (4, 3)))
    if math.isfinite(found[0].low):
        axes.fill_between(
            places, [one.low for one in found], [one.high for one in found], color=colour, alpha=0.15, linewidth=0
        )
