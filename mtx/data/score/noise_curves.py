"""What a score tells apart: the share of planted noise that a threshold catches, and of other pairs that it loses."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LOSSES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # shares of lost pairs at which curves have points

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Separation:
    """How a score tells noise from the pairs of the corpus.

    Attributes:
        num_pairs: number of noise pairs.
        auc: probability that a pair of the corpus has a higher score than a noise pair; ties count half.
        caught: share of noise below the threshold for each loss of `LOSSES`.
    """

    num_pairs: int
    auc: float
    caught: tuple[float, ...]


class CorpusScores:
    """The scores of a corpus in ascending order; a pair without a score counts as the lowest.

    Args:
        scores: float64 [n], NaN for pairs without a score.
    """

    def __init__(self, scores: Floats) -> None:
        self._sorted = np.sort(_lowest_if_missing(scores))

    def threshold(self, loss: float) -> float:
        """Return the highest value with at most the share `loss` of the corpus below it; NaN for an empty corpus."""
        if not len(self._sorted):
            return float("nan")
        # At most this many pairs are below the value at this place; equal values only make the loss smaller.
        return float(self._sorted[min(int(loss * len(self._sorted)), len(self._sorted) - 1)])

    def share_below(self, threshold: float) -> float:
        """Return the share of the corpus with a score below a threshold."""
        return float(np.searchsorted(self._sorted, threshold, side="left")) / max(len(self._sorted), 1)

    def separation(self, noise: Floats) -> Separation:
        """Return how the score tells noise pairs, float64 [m], from the corpus."""
        values = _lowest_if_missing(noise)
        below = np.searchsorted(self._sorted, values, side="left")
        up_to = np.searchsorted(self._sorted, values, side="right")
        above = len(self._sorted) - (below + up_to) / 2
        caught = tuple(float(np.mean(values < self.threshold(loss))) for loss in LOSSES)
        return Separation(len(values), float(above.mean() / max(len(self._sorted), 1)), caught)


def separations(corpus: Floats, noise: Mapping[str, Floats]) -> dict[str, Separation]:
    """Return how a score tells each kind of noise from the corpus."""
    scores = CorpusScores(corpus)
    return {kind: scores.separation(values) for kind, values in noise.items() if len(values)}


def _lowest_if_missing(scores: Floats) -> Floats:
    return np.where(np.isnan(scores), -np.inf, scores)
