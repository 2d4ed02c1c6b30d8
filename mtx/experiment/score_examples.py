"""The pairs of a corpus that people read beside a score: those with the lowest scores, and those around the median."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.filter.rejected_samples import excerpt
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SelectedRows

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExampleRows:
    """Row numbers of the examples of one score, int64 [n], each in the order of their scores."""

    worst: NDArray[np.int64]
    median: NDArray[np.int64]


def example_rows(scores: Floats, count: int, seed: int) -> ExampleRows:
    """Return the rows with the lowest scores, and those whose scores are nearest to the median.

    Of equal scores, rows are drawn at random, so that examples are not all from the start of the corpus.

    Args:
        scores: float64 [n], NaN for pairs without a score, which are left out.
        count: number of rows of each.
        seed: another seed draws other rows among equal scores.
    """
    rows = np.random.default_rng(seed).permutation(np.flatnonzero(~np.isnan(scores)))
    values = scores[rows]
    if not len(rows):
        return ExampleRows(rows, rows)
    middle = float(np.median(values))
    distances = np.abs(values - middle)
    distances[values == middle] = 0.0  # an infinite median has no distance
    worst = rows[np.argsort(values, kind="stable")[:count]]
    nearest = rows[np.argsort(distances, kind="stable")[:count]]
    return ExampleRows(worst, nearest[np.argsort(scores[nearest], kind="stable")])


def example_texts(
    texts: Sequence[Rows], limits: Sequence[int], rows: NDArray[np.int64]
) -> Mapping[int, tuple[str, str]]:
    """Return the texts of rows of concatenated datasets, each cut to its limit; long texts are shortened."""
    chosen = np.unique(rows)
    view = SelectedRows(texts, limits, Rows(pa.table({ROW_COLUMN: chosen})))
    return {
        row: (excerpt(source), excerpt(target))
        for batch in view.batches()
        for row, source, target in zip(
            batch[ROW_COLUMN].to_pylist(), batch["src"].to_pylist(), batch["tgt"].to_pylist(), strict=True
        )
    }
