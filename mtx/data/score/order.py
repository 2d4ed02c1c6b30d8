"""`OrderScorer`: how much the order of the words of a target says about its tokens, by the n-grams of the corpus."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from mtx.components.checked_options import Count, Natural, component
from mtx.data.score.ngram_counts import NgramCounts, Ngrams
from mtx.data.score.scorer import SAMPLE_PAIRS, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.data.score.subword_bags import load_encoder, train_vocabularies
from mtx.data.tokenize.bpe import MIN_VOCAB_SIZE

MAX_VOCAB_SIZE = 1 << 16  # a token of an n-gram has 16 bits
DESCRIPTION = (
    "gain of a 3-gram model of the target over a unigram model, nats per token; low in an unusual order of words"
)


@component("score.order")
class OrderScorer(TrainedScorer):
    """Scores targets by the order of their words: finds shuffled words.

    Args:
        sample_pairs: maximum number of pairs in the sample.
        seed: another seed draws another sample.
        vocab_size: maximum number of subword tokens. A small corpus gets fewer.
    """

    kind: ClassVar[str] = "score/order"
    version: ClassVar[int] = 1

    sample_pairs: Count = SAMPLE_PAIRS
    seed: Natural = 0
    vocab_size: Annotated[int, Field(ge=MIN_VOCAB_SIZE, le=MAX_VOCAB_SIZE)] = 8000

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The gain."""
        return {"score": ScoreColumn(DESCRIPTION)}

    def train(self, sample: Sample, folder: Path) -> None:
        """Learn the vocabulary of the target, and count its n-grams."""
        train_vocabularies(sample, folder, vocab_size=self.vocab_size, sides=("target",))
        encoder = load_encoder(folder, "target")
        texts = (Ngrams.of(*encoder.encode(batch["tgt"])) for batch in sample())
        NgramCounts.of(texts, encoder.tokenizer.get_vocab_size()).save(folder)

    def load(self, folder: Path) -> "OrderModel":
        """Return the model in `folder`."""
        return OrderModel(folder)


class OrderModel:
    """The gains of targets, given the n-grams of a sample.

    Args:
        folder: the folder that `OrderScorer.train` has filled.
    """

    def __init__(self, folder: Path) -> None:
        self._encoder = load_encoder(folder, "target")
        self._counts = NgramCounts.load(folder, self._encoder.tokenizer.get_vocab_size())

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the mean gain of each target; NaN if it has no token."""
        texts = self._ngrams(pairs["tgt"])
        return self._scores(texts, texts.with_rows(in_sample))

    def scores_without(
        self, pairs: pa.RecordBatch, originals: pa.RecordBatch, in_sample: Mask
    ) -> Mapping[str, pa.Array]:
        """Return the scores of pairs that were made from others, whose counts are taken off instead of their own."""
        others = self._ngrams(originals["other_tgt"]).with_rows(
            pc.not_equal(originals["other_tgt"], "").to_numpy(False)
        )
        own = self._ngrams(originals["tgt"]).with_rows(in_sample).and_of(others)
        return self._scores(self._ngrams(pairs["tgt"]), own)

    def _ngrams(self, texts: pa.LargeStringArray) -> Ngrams:
        return Ngrams.of(*self._encoder.encode(texts))

    def _scores(self, texts: Ngrams, own: Ngrams) -> dict[str, pa.Array]:
        lengths = np.bincount(texts.rows, minlength=texts.num_texts)
        sums = np.bincount(texts.rows, self._counts.gains(texts, own), texts.num_texts)
        means = np.where(lengths > 1, sums / np.maximum(lengths, 1), np.nan)
        return {"score": pa.array(means, pa.float64())}
