"""Bits per byte, BLEU and chrF as functions of sums over sentences, and the statistics of each sentence.

A metric of a corpus depends only on the sum of the statistics of its sentences. So another sample of the sentences
needs no translation and no n-gram again. sacrebleu computes the statistics and the scores of BLEU and chrF.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.float64]  # [R, k]: R sums of the k statistics of a metric
NUM_ORDERS = {"bleu": 4, "chrf": 6}  # n-grams of words and of characters: sacrebleu's defaults
INSTALL_COMMAND = 'pip install "mtx[scores]"'


def bits_per_byte(sums: Sums) -> NDArray[np.float64]:
    """Return bits per byte of sums of [nats, bytes], float64 [R]; NaN without bytes."""
    nats, num_bytes = sums.T
    found: NDArray[np.float64] = np.full(len(sums), np.nan)
    np.divide(nats / math.log(2), num_bytes, out=found, where=num_bytes > 0)
    return found


def bleu(sums: Sums) -> NDArray[np.float64]:
    """Return BLEU from 0 to 100 by sacrebleu's defaults, float64 [R]. Raises ImportError without sacrebleu.

    The statistics are first the lengths of translation and reference in tokens. Then come the matched n-grams and all
    n-grams of the translation, for n from 1 to 4.
    """
    from sacrebleu.metrics.bleu import BLEU

    orders = NUM_ORDERS["bleu"]
    scores = [
        BLEU.compute_bleu(
            correct=row[2 : 2 + orders],
            total=row[2 + orders :],
            sys_len=int(row[0]),
            ref_len=int(row[1]),
            smooth_method="exp",  # the default of the class; that of this function is none
        ).score
        for row in sums.tolist()
    ]
    return np.array(scores, dtype=np.float64)


def chrf(sums: Sums) -> NDArray[np.float64]:
    """Return chrF from 0 to 100 by sacrebleu's defaults, float64 [R]. Raises ImportError without sacrebleu.

    The statistics are, for n from 1 to 6, the character n-grams of translation, of reference, and in both.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    return np.array([metric._compute_score_from_stats(row).score for row in sums.tolist()], dtype=np.float64)


@dataclass(frozen=True)
class CorpusMetric:
    """A metric that is a function of sums over sentences.

    Attributes:
        statistics: the names of a sentence's statistics.
        of_sums: computes the metric of each row of sums [R, k], float64 [R].
        of_reference: the indices of the statistics that depend only on the held-out pair, not on the model.
        tolerance: how far a reported number may be from the metric of its statistics, as it was rounded.
    """

    statistics: tuple[str, ...]
    of_sums: Callable[[Sums], NDArray[np.float64]]
    of_reference: tuple[int, ...]
    tolerance: float

    def of_sentences(self, statistics: Sums) -> float:
        """Return the metric of all sentences, of statistics [n, k]."""
        return float(self.of_sums(statistics.sum(axis=0, keepdims=True))[0])


_BLEU_NAMES = ("tokens", "reference_tokens", *(f"{of}_{n}" for of in ("matched", "ngrams") for n in range(1, 5)))
_CHRF_NAMES = tuple(f"{of}_{n}" for n in range(1, 7) for of in ("ngrams", "reference_ngrams", "matched"))

# By the name of the metric in report.json; the names of statistics are columns of `held_out.parquet`.
METRICS: Mapping[str, CorpusMetric] = {
    "bits_per_byte": CorpusMetric(("nats", "target_bytes"), bits_per_byte, (1,), 1e-5),
    "scores.bleu": CorpusMetric(tuple(f"bleu_{name}" for name in _BLEU_NAMES), bleu, (1,), 1e-3),
    "scores.chrf": CorpusMetric(tuple(f"chrf_{name}" for name in _CHRF_NAMES), chrf, tuple(range(1, 18, 3)), 1e-3),
}


@dataclass(frozen=True, eq=False)
class ScoreStatistics:
    """Statistics of translated sentences for BLEU and chrF.

    Attributes:
        rows: the rows of the pairs in their dataset, int64 [n].
        bleu: int64 [n, 10]; `bleu` describes the columns.
        chrf: int64 [n, 18]; `chrf` describes the columns.
        bleu_signature, chrf_signature: sacrebleu's signatures, which state the settings.
    """

    rows: NDArray[np.int64]
    bleu: NDArray[np.int64]
    chrf: NDArray[np.int64]
    bleu_signature: str
    chrf_signature: str


def score_statistics(
    rows: Sequence[int], outputs: Sequence[str], references: Sequence[str], *, tokenizer: str
) -> ScoreStatistics | None:
    """Return the statistics of translations for BLEU and chrF; None if sacrebleu is not installed.

    Args:
        rows: the rows of the pairs in their dataset.
        outputs: at least one translation.
        references: the reference of each translation.
        tokenizer: the name of sacrebleu's tokenizer for BLEU.
    """
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError:
        return None
    by_words, by_characters = BLEU(tokenize=tokenizer), CHRF()
    return ScoreStatistics(
        rows=np.asarray(rows, dtype=np.int64),
        bleu=_statistics(by_words, outputs, references),
        chrf=_statistics(by_characters, outputs, references),
        bleu_signature=str(by_words.get_signature()),
        chrf_signature=str(by_characters.get_signature()),
    )


def _statistics(metric: Any, outputs: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    # what sacrebleu's own tests of significance resample; `corpus_score` computes its score from the sum
    return np.array(metric._extract_corpus_statistics(list(outputs), [list(references)]), dtype=np.int64)
