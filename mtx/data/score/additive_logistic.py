"""`AdditiveModel`: an additive logistic model that tells good pairs from several kinds of bad ones by their scores.

Each score is cut into bins, and each bin has a weight for each kind. So an effect may bend, and a pair that looks like
one kind is found although all its other scores are good. Source: generalised additive models (Hastie and Tibshirani
1990, chapter 6) with the multinomial logistic link, a ridge penalty, and L-BFGS.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.optimize
import scipy.sparse
from numpy.typing import NDArray

from mtx.infra.dal.atomic_file import atomic_file

# Bins end at these quantiles of the good pairs, and are narrow where the bad pairs are.
QUANTILES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.99)
RIDGE = 1e-5  # weight of the squared weights, per pair of mean weight
MAX_ITERATIONS = 120

Floats = NDArray[np.float64]
Bins = NDArray[np.int64]


@dataclass(frozen=True)
class AdditiveModel:
    """The weights of a fitted model.

    Attributes:
        edges: float64 [features, edges], the ascending lower ends of the bins after the first one; infinity fills up.
        weights: float64 [features · bins, kinds]; the bins of a feature are those between its edges, then one for NaN.
        intercepts: float64 [kinds].
    """

    edges: Floats
    weights: Floats
    intercepts: Floats

    def log_odds(self, features: Floats) -> Floats:
        """Return the logarithm of the odds that each pair is good, given features, float64 [n, features]."""
        logits = np.tile(self.intercepts, (len(features), 1))
        for column in bins(features, self.edges).T:
            logits += self.weights[column]
        highest = logits.max(axis=1)
        found: Floats = -(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)))
        return found

    def arrays(self) -> dict[str, Floats]:
        """Return the fields by name."""
        return {"edges": self.edges, "weights": self.weights, "intercepts": self.intercepts}


def bins(features: Floats, edges: Floats) -> Bins:
    """Return the row of the weights of each feature of each pair: int64 [n, features]."""
    num_bins = edges.shape[1] + 2
    found = np.empty(features.shape, dtype=np.int64)
    for number, (column, of) in enumerate(zip(features.T, edges, strict=True)):
        place = np.searchsorted(of, column, side="right")
        found[:, number] = number * num_bins + np.where(np.isnan(column), num_bins - 1, place)
    return found


def fit_additive(good: Floats, bad: Mapping[str, Floats]) -> AdditiveModel:
    """Fit a model to features of good pairs, float64 [n, features], and of bad pairs by kind.

    The good pairs weigh as much as all bad pairs together, and each kind weighs the same, whatever their numbers.
    """
    edges = _edges(good)
    kinds = [found for found in bad.values() if len(found)]
    features = np.concatenate([good, *kinds])
    classes = np.repeat(np.arange(len(kinds) + 1), [len(good), *map(len, kinds)])
    counts = np.bincount(classes, minlength=len(kinds) + 1)
    share = np.full(len(kinds) + 1, 0.5 / max(len(kinds), 1))
    share[0] = 0.5
    weight = share[classes] / counts[classes]
    places = bins(features, edges)
    num_rows, num_columns = len(features), edges.shape[0] * (edges.shape[1] + 2)
    design = scipy.sparse.csr_matrix(
        (np.ones(places.size), places.ravel(), np.arange(num_rows + 1) * places.shape[1]), (num_rows, num_columns)
    )
    weights, intercepts = _minimised(design, classes, weight, len(kinds))
    return AdditiveModel(edges, weights, intercepts)


def _edges(good: Floats) -> Floats:
    rows = []
    for column in good.T:
        known = column[np.isfinite(column)]
        rows.append(np.unique(np.quantile(known, QUANTILES)) if len(known) else np.empty(0))
    found = np.full((len(rows), max(map(len, rows), default=0)), np.inf)
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found


def _minimised(design: Any, classes: Bins, weight: Floats, num_kinds: int) -> tuple[Floats, Floats]:
    """Return the weights and intercepts with the smallest penalised cross-entropy; the class 0 has the logit 0."""
    num_rows, num_columns = design.shape
    transposed = design.T.tocsr()
    rows = np.arange(num_rows)
    target = np.zeros((num_rows, num_kinds + 1))
    target[rows, classes] = 1.0
    logits = np.zeros((num_rows, num_kinds + 1))

    def loss(flat: Floats) -> tuple[float, Floats]:
        table = flat.reshape(num_columns + 1, num_kinds)
        logits[:, 1:] = design @ table[:-1]
        logits[:, 1:] += table[-1]
        logits[:, 0] = 0.0
        shifted = logits - logits.max(axis=1, keepdims=True)
        odds = np.exp(shifted)
        total = odds.sum(axis=1, keepdims=True)
        entropy = float(weight @ (np.log(total[:, 0]) - shifted[rows, classes]))
        slope = (odds / total - target)[:, 1:] * weight[:, None]
        gradient = np.empty_like(table)
        gradient[:-1] = transposed @ slope + 2 * RIDGE * table[:-1]
        gradient[-1] = slope.sum(axis=0)
        return entropy + RIDGE * float((table[:-1] ** 2).sum()), gradient.ravel()

    start = np.zeros((num_columns + 1) * num_kinds)
    found = scipy.optimize.minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": MAX_ITERATIONS})
    table = found.x.reshape(num_columns + 1, num_kinds)
    return table[:-1], table[-1]


def write_models(path: Path, models: Sequence[AdditiveModel], names: Sequence[str]) -> None:
    """Write models, and the names of their features, into one file of arrays."""
    arrays: dict[str, Any] = {"names": np.array(list(names), dtype=np.str_)}
    for number, model in enumerate(models):
        arrays |= {f"{number}.{key}": of for key, of in model.arrays().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with atomic_file(path) as file:
        file.write(buffer.getvalue())


def read_models(path: Path) -> tuple[list[AdditiveModel], list[str]]:
    """Return the models in a file, and the names of their features."""
    with np.load(path, allow_pickle=False) as found:
        numbers = sorted({int(key.partition(".")[0]) for key in found.files if "." in key})
        models = [AdditiveModel(*(found[f"{n}.{key}"] for key in ("edges", "weights", "intercepts"))) for n in numbers]
        return models, [str(name) for name in found["names"]]
