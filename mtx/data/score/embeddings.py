"""`EmbeddingsScorer`: how near the meanings of both sides are, by the vectors of any encoder.

The score is the ratio margin of Artetxe and Schwenk (2019). It is the cosine of a pair relative to the mean cosine of
each side with its nearest neighbours on the other side. Some texts are near to everything; the margin corrects this.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.checked_options import Count, Natural, component
from mtx.components.identity import JSON, identity
from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.score.scorer import MAIN_COLUMN, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.data.score.text_encoder import TextEncoder
from mtx.errors import DataError

MODEL_FILE = "sample_vectors.npy"  # float32 [2, sample pairs, d], of length 1 or 0: those of sources and of targets
ROWS_PER_BLOCK = 256  # rows of a product of matrices; always as many, because its last digits depend on the number
LEAST_MEAN = 0.01  # of the cosines of neighbours, so that the margin of an encoder without near texts stays finite

COLUMNS = {
    MAIN_COLUMN: "cosine of the pair, divided by the mean cosine of both sides with their nearest neighbours; above 1, "
    "the sides are nearer to each other than to other texts",
    "cosine": "cosine of the vectors of both sides; −1 to 1",
}

Vectors = NDArray[np.float32]


@component("score.embeddings")
class EmbeddingsScorer(TrainedScorer):
    """Scores how near the meanings of both sides are, by the vectors of an encoder.

    Vectors of meanings cannot tell languages apart: a copied source has the best score. Use the scorer `language`, too.

    Args:
        encoder: gives each text a vector: a subclass of `TextEncoder`.
        sample_pairs: maximum number of pairs among which the nearest neighbours are searched. The time of a pair grows
            with it.
        neighbours: number of nearest neighbours of each side.
        seed: another seed draws another sample.
    """

    kind: ClassVar[str] = "score/embeddings"
    version: ClassVar[int] = 1
    is_parallel: ClassVar[bool] = False  # each process would hold the network, possibly on one accelerator

    encoder: TextEncoder
    sample_pairs: Count = 10_000
    neighbours: Count = 4
    seed: Natural = 0

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The margin and the cosine."""
        return {name: ScoreColumn(description) for name, description in COLUMNS.items()}

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output."""
        return {
            "encoder": identity(self.encoder),
            "sample_pairs": self.sample_pairs,
            "neighbours": self.neighbours,
            "seed": self.seed,
        }

    def check_corpus(self, num_pairs: Sequence[int]) -> None:
        """Raise ConfigError if the encoder cannot work here."""
        del num_pairs
        self.encoder.check()

    def train(self, sample: Sample, folder: Path) -> None:
        """Store the vectors of the sample. Raises DataError if the encoder returns other arrays than it should."""
        sides = [
            np.concatenate([unit_vectors(self.encoder, batch.column(side)) for batch in sample() if batch.num_rows])
            for side in (0, 1)
        ]
        save_array(folder / MODEL_FILE, np.nan_to_num(np.stack(sides), nan=0.0))

    def load(self, folder: Path) -> "EmbeddingsModel":
        """Return the model in `folder`."""
        return EmbeddingsModel(self.encoder, load_array(folder / MODEL_FILE), self.neighbours)


class EmbeddingsModel:
    """The margins of pairs within a sample of a corpus.

    Args:
        encoder: gives each text a vector.
        sample: the vectors of the sample, of length 1 or 0: float32 [2, sample pairs, d].
        neighbours: number of nearest neighbours of each side.
    """

    def __init__(self, encoder: TextEncoder, sample: Vectors, neighbours: int) -> None:
        self._encoder = encoder
        self._sample = sample
        self._neighbours = neighbours

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the margin and the cosine of each pair; a pair in the sample is no neighbour of itself."""
        source, target = (unit_vectors(self._encoder, pairs.column(side)) for side in (0, 1))
        cosine = np.einsum("nd,nd->n", source, target).astype(np.float64)
        means = [
            self._neighbour_means(vectors, self._sample[other], cosine, in_sample)
            for vectors, other in ((source, 1), (target, 0))
        ]
        margin = cosine / np.maximum((means[0] + means[1]) / 2, LEAST_MEAN)
        return {MAIN_COLUMN: pa.array(margin), "cosine": pa.array(cosine)}

    def _neighbour_means(
        self, vectors: Vectors, sample: Vectors, cosine: NDArray[np.float64], in_sample: Mask
    ) -> NDArray[np.float64]:
        """Return the mean cosine of each vector with its nearest neighbours: float64 [n], NaN without any."""
        found = np.full(len(vectors), np.nan)
        most = min(self._neighbours + 1, len(sample))
        block = np.zeros((ROWS_PER_BLOCK, vectors.shape[1]), dtype=np.float32)
        for start in range(0, len(vectors) if most else 0, ROWS_PER_BLOCK):
            here = slice(start, min(start + ROWS_PER_BLOCK, len(vectors)))
            size = here.stop - start
            block[:size] = np.nan_to_num(vectors[here], nan=0.0)
            near = np.partition((block @ sample.T)[:size], len(sample) - most, axis=1)[:, len(sample) - most :]
            near = np.sort(near, axis=1)[:, ::-1].astype(np.float64)
            # One of the nearest may be the pair itself, whose cosine is known; else the farthest one is left out.
            own = cosine[here, None]
            is_self = in_sample[here] & (near[:, -1] <= own[:, 0] + 1e-6)
            left = np.where(is_self, own[:, 0], near[:, -1])
            count = np.where(is_self | (most > self._neighbours), most - 1, most)
            total = near.sum(axis=1) - np.where(count < most, left, 0.0)
            found[here] = np.divide(total, count, out=np.full(size, np.nan), where=count > 0)
        return found


def unit_vectors(encoder: TextEncoder, texts: pa.LargeStringArray) -> Vectors:
    """Return the vectors of texts, of length 1, or 0 for a vector of zeros: float32 [n, d]; NaN if not finite.

    Without texts, d is 0, and the encoder is not called.

    Raises DataError if the encoder does not return one vector for each text.
    """
    if not len(texts):
        return np.empty((0, 0), dtype=np.float32)
    found: Any = np.asarray(encoder.encode(texts.to_pylist()))
    name = type(encoder).__name__
    if found.ndim != 2 or found.shape[0] != len(texts) or not np.issubdtype(found.dtype, np.floating):
        raise DataError(
            f"{name}.encode must return one vector of floats for each of {len(texts)} texts, but returned an array of "
            f"{found.dtype} of shape {list(found.shape)}"
        )
    vectors = found.astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    units[~np.isfinite(lengths[:, 0])] = np.nan
    narrow: Vectors = units.astype(np.float32)
    return narrow
