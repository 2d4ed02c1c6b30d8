"""`CombinedScorer`: one score from the columns of other scorers, trained on noise that is planted into the corpus.

Two models are trained, each on one half of the sources. A pair is scored by the model that has not seen its source
(cross-fitting). So no pair is judged by a model that learned from it.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.checked_options import Count, Natural, component
from mtx.components.identity import JSON
from mtx.data.score.additive_logistic import AdditiveModel, fit_additive, read_models, write_models
from mtx.data.score.other_texts import TRAINING, other_texts
from mtx.data.score.planted_noise import planted_noise
from mtx.data.score.score_file import content_digest
from mtx.data.score.scorer import MAIN_COLUMN, CombiningScorer, Mask, Sample, ScoreColumn, ScorePlanted
from mtx.errors import DataError

MODEL_FILE = "combined.npz"
OTHER_TEXTS = "score.combined.other_texts"
NUM_HALVES = 2
MIN_PAIRS = 20  # good pairs in each half; fewer cannot be told from noise
TRAINING_NOISE = 1 << 32  # added to the seed, so that `task=scores` measures with noise that no model has seen

Floats = NDArray[np.float64]


@component("score.combined")
class CombinedScorer(CombiningScorer):
    """Combines the scores of the other scorers into the log odds that a pair is good.

    Args:
        inputs: names of the scorers to combine; None: all chosen ones that score planted noise, too.
        sample_pairs: maximum number of pairs of the corpus from which the model learns.
        noise_pairs: number of planted pairs of each kind from which it learns.
        seed: another seed draws another sample and other noise.
        other_texts: a file with texts in another language, one per line, from a half of which the noise
            `wrong_language` is planted; None: the model learns from no such noise.
    """

    kind: ClassVar[str] = "score/combined"
    version: ClassVar[int] = 2

    inputs: list[str] | None = None
    sample_pairs: Count = 40_000
    noise_pairs: Count = 2000
    seed: Natural = 0
    other_texts: str | None = None

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output. An edited file has another digest; its place does not count."""
        found: dict[str, JSON] = {"inputs": cast(JSON, self.inputs), "sample_pairs": self.sample_pairs}
        found |= {"noise_pairs": self.noise_pairs, "seed": self.seed}
        if self.other_texts is not None:
            found["other_texts"] = content_digest(Path(self.other_texts), OTHER_TEXTS)
        return found

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The log odds."""
        meaning = "log odds that the pair is good, if half of all pairs were planted noise; any number"
        return {MAIN_COLUMN: ScoreColumn(meaning)}

    def train_on_scores(self, sample: Sample, score_planted: ScorePlanted, folder: Path) -> None:
        """Plant noise into the sample, and fit a model for each half of the sources.

        Raises DataError if the sample is too small.
        """
        good = _joined(sample)
        halves = source_halves(good.column("src")) if good.num_rows else np.empty(0, dtype=np.int64)
        if np.bincount(halves, minlength=NUM_HALVES).min() < MIN_PAIRS:
            raise DataError(
                f"the scorer combined needs {MIN_PAIRS} pairs in each half of the corpus, but the sample has "
                f"{good.num_rows} pairs. Leave it out of score, or use more pairs"
            )
        names = [name for name in good.schema.names if pa.types.is_float64(good.schema.field(name).type)]
        of_good = features(good, names)
        texts = pa.Table.from_batches([good.select(["src", "tgt"])])
        others = other_texts(self.other_texts, OTHER_TEXTS, TRAINING)
        noise_seed = self.seed + TRAINING_NOISE
        planted = planted_noise(texts, per_kind=self.noise_pairs, seed=noise_seed, other_targets=others)
        bad = {}
        for kind, of in planted.items():
            batch = score_planted(of)
            bad[kind] = features(batch, names), source_halves(batch.column("src"))
        if not bad:
            raise DataError("the scorer combined trains on planted noise, but no kind can be planted into the sample")
        models = [
            fit_additive(of_good[halves != half], {kind: of[sides != half] for kind, (of, sides) in bad.items()})
            for half in range(NUM_HALVES)
        ]
        write_models(folder / MODEL_FILE, models, names)

    def load(self, folder: Path) -> "CombinedModel":
        """Return the model in `folder`."""
        return CombinedModel(*read_models(folder / MODEL_FILE))


class CombinedModel:
    """The combined score of pairs.

    Args:
        models: for each half of the sources, the model that has not seen it.
        names: the columns that the models read.
    """

    def __init__(self, models: list[AdditiveModel], names: list[str]) -> None:
        self._models = models
        self._names = names

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the log odds of pairs with the columns of the other scorers."""
        del in_sample  # a pair is always scored by the model that has not seen its source
        found = np.empty(pairs.num_rows)
        halves = source_halves(pairs.column("src"))
        of_all = features(pairs, self._names)
        for half, model in enumerate(self._models):
            found[halves == half] = model.log_odds(of_all[halves == half])
        return {MAIN_COLUMN: pa.array(found, pa.float64())}


def _joined(sample: Sample) -> pa.RecordBatch:
    batches = list(sample())
    table = pa.Table.from_batches(batches).combine_chunks() if batches else pa.table({})
    return table.to_batches()[0] if table.num_rows else pa.record_batch({})


def source_halves(sources: pa.LargeStringArray) -> NDArray[np.int64]:
    """Return the half of each source, 0 or 1, by a checksum of its text: int64 [n]. Equal texts have equal halves."""
    octets = sources.cast(pa.large_binary()).to_pylist()
    return np.array([zlib.crc32(text) & 1 for text in octets], dtype=np.int64)


def features(pairs: pa.RecordBatch, names: list[str]) -> Floats:
    """Return the columns `names` and the logarithms of both lengths: float64 [n, features]."""
    lengths = [pc.utf8_length(pairs.column(side)).to_numpy(zero_copy_only=False) for side in ("src", "tgt")]
    found = [pairs.column(name).to_numpy(zero_copy_only=False) for name in names]
    return np.stack([*found, *(np.log1p(of.astype(np.float64)) for of in lengths)], axis=1)
