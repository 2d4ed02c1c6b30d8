"""The shapes of an epoch's batches: pairs against length, larger where there are more of them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from mtx.experiment.page.plots.figure import Figures, Plot, style_of

CELLS = 20  # along each side; shapes in the same cell are drawn as one
LARGEST = 130  # area of the largest dot
SMALLEST = 7


def shapes(figures: Figures, found: Sequence[tuple[int, int, int, int]], *, label: str) -> Plot:
    """Draw `[B, S, T, count]` rows: B against the longer of S and T."""
    rows = np.asarray(found, dtype=np.float64)
    pairs, longest, counts = rows[:, 0], rows[:, 1:3].max(axis=1), rows[:, 3]
    x, y, total = _gathered(longest, pairs, counts)

    def paint(figure: Figure) -> None:
        axes = figure.add_subplot()
        area = SMALLEST + (LARGEST - SMALLEST) * total / total.max()
        axes.scatter(x, y, s=area, color=style_of(0)[0], alpha=0.55, linewidths=0)
        axes.set_xlabel("longest side, tokens")
        axes.set_ylabel("pairs in a batch")
        axes.set_xlim(0, max(x.max() * 1.08, 1))
        axes.set_ylim(0, max(y.max() * 1.12, 1))

    return figures.draw(paint, label=label, height=200)


def _gathered(x: np.ndarray, y: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add up what lies in the same cell, at the mean place of it."""
    columns = np.floor(x / max(x.max(), 1) * (CELLS - 1e-9)).astype(np.int64)
    lines = np.floor(y / max(y.max(), 1) * (CELLS - 1e-9)).astype(np.int64)
    _, cell = np.unique(columns * (CELLS + 1) + lines, return_inverse=True)
    total = np.bincount(cell, weights=counts)
    return np.bincount(cell, weights=x * counts) / total, np.bincount(cell, weights=y * counts) / total, total
