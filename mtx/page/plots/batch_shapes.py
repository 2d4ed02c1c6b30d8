"""Plot of batch shapes: pairs per batch against length, with larger dots for more batches."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mtx.page.plots.matplotlib_svg import Figures, Plot, series_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELLS = 20  # cells of each axis; shapes in the same cell share one dot
MAX_DOT_AREA = 130  # area of the largest dot, in square points
MIN_DOT_AREA = 7


def batch_shape_plot(figures: Figures, found: Sequence[tuple[int, int, int, int]], *, label: str, arm: int) -> Plot:
    """Plot rows `[B, S, T, number of batches]`: B against the longer of S and T; `arm` is the number of the row."""
    rows = np.asarray(found, dtype=np.float64)
    pairs, longest, counts = rows[:, 0], rows[:, 1:3].max(axis=1), rows[:, 3]
    x, y, total = _merged_cells(longest, pairs, counts)

    def paint(figure: "Figure") -> None:
        axes = figure.add_subplot()
        area = MIN_DOT_AREA + (MAX_DOT_AREA - MIN_DOT_AREA) * total / total.max()
        axes.scatter(x, y, s=area, color=series_style(arm - 1)[0], alpha=0.55, linewidths=0)
        axes.set_xlabel("longer side, tokens")
        axes.set_ylabel("pairs per batch")
        axes.set_xlim(0, max(x.max() * 1.08, 1))
        axes.set_ylim(0, max(y.max() * 1.12, 1))

    return figures.draw(paint, label=label, height=200)


def _merged_cells(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Merge the shapes in each cell of the grid: the mean position, and the total number of batches."""
    columns = np.floor(x / max(x.max(), 1) * (CELLS - 1e-9)).astype(np.int64)
    lines = np.floor(y / max(y.max(), 1) * (CELLS - 1e-9)).astype(np.int64)
    _, cell = np.unique(columns * (CELLS + 1) + lines, return_inverse=True)
    total = np.bincount(cell, weights=counts)
    return np.bincount(cell, weights=x * counts) / total, np.bincount(cell, weights=y * counts) / total, total
