"""BLEU, chrF, chrF++ and TER of translations, with signatures, and intervals of differences between two systems.

sacrebleu computes the metrics (Post 2018, "A Call for Clarity in Reporting BLEU Scores", WMT). A metric depends only on
the sums of statistics over sentences, so that a resample of the sentences needs no n-gram again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.evaluation.paired_bootstrap import bootstrap_differences
from mtx.evaluation.verdict import Difference

METRIC_NAMES = ("bleu", "chrf", "chrf_plus_plus", "ter")
ASIAN_TOKENIZERS = frozenset({"zh", "char", "ja-mecab", "ko-mecab"})  # BLEU tokenizers of languages without spaces


@dataclass(frozen=True)
class SystemScores:
    """The scores of one system on one set.

    Attributes:
        scores: each metric from 0 to 100, by name; TER can exceed 100, and lower is better.
        signatures: sacrebleu's signature of each metric, which states its settings.
        statistics: the statistics of each sentence, float64 [n, k], by metric.
    """

    scores: Mapping[str, float]
    signatures: Mapping[str, str]
    statistics: Mapping[str, NDArray[np.float64]]


def system_scores(outputs: Sequence[str], references: Sequence[str], *, tokenizer: str) -> SystemScores:
    """Return the scores of translations. Raises ImportError without sacrebleu.

    Args:
        outputs: at least one translation.
        references: the reference of each translation.
        tokenizer: the name of sacrebleu's tokenizer for BLEU. For a language without spaces, TER counts characters.
    """
    metrics = _metrics(tokenizer)
    statistics = {
        name: np.array(metric._extract_corpus_statistics(list(outputs), [list(references)]), dtype=np.float64)
        for name, metric in metrics.items()
    }
    return SystemScores(
        scores={name: float(_of_sums(metrics[name], of.sum(axis=0))) for name, of in statistics.items()},
        signatures={name: str(metric.get_signature()) for name, metric in metrics.items()},
        statistics=statistics,
    )


def paired_differences(
    system: SystemScores, baseline: SystemScores, *, tokenizer: str, rng: np.random.Generator
) -> dict[str, Difference]:
    """Return the difference system − baseline of each metric, with its 95 % interval by paired bootstrap.

    Both systems translated the same sentences in the same order (Koehn 2004, "Statistical Significance Tests for
    Machine Translation Evaluation", EMNLP).
    """
    metrics = _metrics(tokenizer)
    found = {}
    for name in METRIC_NAMES:
        arms = {"system": [(1.0, system.statistics[name])], "baseline": [(1.0, baseline.statistics[name])]}

        def of_resamples(sums: NDArray[np.float64], metric: Any = metrics[name]) -> NDArray[np.float64]:
            return np.array([_of_sums(metric, row) for row in sums], dtype=np.float64)

        found[name] = bootstrap_differences(arms, of_resamples, compared_to="baseline", rng=rng)["system"]
    return found


def _metrics(tokenizer: str) -> dict[str, Any]:
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    is_asian = tokenizer in ASIAN_TOKENIZERS
    return {
        "bleu": BLEU(tokenize=tokenizer),
        "chrf": CHRF(),
        "chrf_plus_plus": CHRF(word_order=2),
        "ter": TER(asian_support=is_asian, normalized=is_asian),
    }


def _of_sums(metric: Any, sums: NDArray[np.float64]) -> float:
    """Return a metric of the sums of statistics, float64 [k]."""
    found = metric._compute_score_from_stats([int(value) for value in sums.round()])
    return float(getattr(found, "score", found))  # chrF returns a number, BLEU and TER an object
