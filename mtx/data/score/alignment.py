"""`AlignmentScorer`: how well each side of a pair explains the other, by a word translation model of the corpus itself.

IBM Model 1 (Brown et al. 1993) is trained in both directions on subword tokens. When a pair of the sample is scored,
its own expected counts are taken off (leave-one-out). Otherwise rare tokens of a misaligned pair would explain each
other, because the model has learned them from this very pair.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from mtx.components.checked_options import Count, Natural, component
from mtx.data.score.model_arrays import load_array
from mtx.data.score.scorer import SAMPLE_PAIRS, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.data.score.subword_bags import Bags, PairEncoder, train_vocabularies
from mtx.data.score.translation_steps import available_steps
from mtx.data.score.translation_tables import (
    FLOOR,
    PRIOR,
    TranslationTable,
    UnigramModel,
    in_threads,
    is_long,
    train_tables,
)
from mtx.data.tokenize.bpe import MIN_VOCAB_SIZE

MAX_VOCAB_SIZE = 16_000  # a dense table of this size takes 2 GB in training
COLUMNS = {
    "score": "gain by the other side over a unigram model, nats per token, mean of both directions; 0: no gain",
    "weaker": "the same for the direction with less gain, which is lower if a text is cut or added",
    "explained": "share of tokens with a gain, of the direction with the smaller share; 0 to 1",
}

Floats = NDArray[np.float64]


@component("score.alignment")
class AlignmentScorer(TrainedScorer):
    """Scores pairs by how well each side explains the other: finds misaligned pairs, and cut or added text.

    Args:
        sample_pairs: maximum number of pairs in the sample.
        seed: another seed draws another sample.
        vocab_size: maximum number of subword tokens of each side. A small corpus gets fewer.
    """

    kind: ClassVar[str] = "score/alignment"
    version: ClassVar[int] = 1

    sample_pairs: Count = SAMPLE_PAIRS
    seed: Natural = 0
    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=MAX_VOCAB_SIZE)] = 8000

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The mean and the minimum of both directions, and the share of explained tokens."""
        return {name: ScoreColumn(description) for name, description in COLUMNS.items()}

    def train(self, sample: Sample, folder: Path) -> None:
        """Learn the vocabularies, and train both directions."""
        train_vocabularies(sample, folder, vocab_size=self.vocab_size)
        train_tables(sample, PairEncoder(folder), folder)

    def load(self, folder: Path) -> "AlignmentModel":
        """Return the model in `folder`."""
        return AlignmentModel(folder)


class AlignmentModel:
    """The scores of pairs, given the tables of both directions.

    Args:
        folder: the folder that `AlignmentScorer.train` has filled.
    """

    def __init__(self, folder: Path) -> None:
        self._encoder = PairEncoder(folder)
        self._unigrams = [UnigramModel(load_array(folder / f"{side}_counts.npy")) for side in ("source", "target")]
        source, target = self._encoder.num_tokens
        self._tables = {
            direction: TranslationTable.load(folder, direction, num_made)
            for direction, num_made in (("forward", target), ("backward", source))
        }

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the three scores of each pair; NaN if a side has no token."""
        bags = self._encoder.bags(pairs)
        return self._scores(bags, bags, in_sample)

    def scores_without(
        self, pairs: pa.RecordBatch, originals: pa.RecordBatch, in_sample: Mask
    ) -> Mapping[str, pa.Array]:
        """Return the scores of pairs that were made from others, whose counts are taken off instead of their own."""
        return self._scores(self._encoder.bags(pairs), self._encoder.bags(originals), in_sample)

    def _scores(self, pairs: tuple[Bags, Bags], own: tuple[Bags, Bags], in_sample: Mask) -> dict[str, pa.Array]:
        unknown = ~in_sample
        unigram_own = (own[0].emptied(unknown), own[1].emptied(unknown))
        unknown |= is_long(*own)
        table_own = (own[0].emptied(unknown), own[1].emptied(unknown))

        def gain(direction: str) -> tuple[Floats, Floats]:
            given, made = (0, 1) if direction == "forward" else (1, 0)
            table, unigrams = self._tables[direction], self._unigrams[made]
            found = available_steps().explained_probabilities(
                *(table.cells, table.totals, unigrams.floor),
                *((pairs[given], pairs[made]), (table_own[given], table_own[made]), PRIOR),
            )
            expected = unigrams.probabilities(pairs[made], _counts_in(pairs[made], unigram_own[made]))
            return _means(pairs[made], np.log(found + FLOOR * expected) - np.log(expected), found > expected)

        (forward, forward_share), (backward, backward_share) = in_threads(gain)
        empty = (pairs[0].num_distinct == 0) | (pairs[1].num_distinct == 0)
        values = {
            "score": (forward + backward) / 2,
            "weaker": np.minimum(forward, backward),
            "explained": np.minimum(forward_share, backward_share),
        }
        return {name: pa.array(np.where(empty, np.nan, of), pa.float64()) for name, of in values.items()}


def _counts_in(bags: Bags, others: Bags) -> Floats:
    """Return how often each token of a text occurs in the other text of the same number: float64 [entries]."""
    keys, other_keys = ((np.repeat(np.arange(len(of)), of.num_distinct) << 16) | of.tokens for of in (bags, others))
    places = np.minimum(np.searchsorted(other_keys, keys), max(len(other_keys) - 1, 0))
    if not len(other_keys):
        return np.zeros(len(keys))
    return np.where(other_keys[places] == keys, others.counts[places], 0).astype(np.float64)


def _means(bags: Bags, gains: Floats, is_explained: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return the means of two values of each token over the tokens of each text: float64 [n] each."""
    rows = np.repeat(np.arange(len(bags)), bags.num_distinct)
    lengths = np.maximum(np.bincount(rows, bags.counts, len(bags)), 1)
    sums = np.bincount(rows, bags.counts * gains, len(bags))
    return sums / lengths, np.bincount(rows, bags.counts * is_explained, len(bags)) / lengths
