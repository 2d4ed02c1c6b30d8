"""Bits per byte, BLEU and chrF from statistics of sentences: equal to the figures of the whole text."""

import math

import numpy as np
import pytest
import sacrebleu

from mtx.evaluation.corpus_metrics import METRICS, bits_per_byte, score_statistics

OUTPUTS = ["the cat sat on the mat", "a b c d", "", "Grüße, Welt! 日本語", "\u202e\u0301x\0y the cat sat"]
REFERENCES = ["the cat sat on a mat", "a b d c", "nothing at all", "Grüße an die Welt! 日本", "\u0301xy the cat sat"]


def test_bits_per_byte_are_sums_of_nats_over_sums_of_bytes() -> None:
    found = bits_per_byte(np.array([[24 * math.log(2), 12.0], [1.0, 0.0], [0.0, 5.0]]))
    assert found == pytest.approx([2.0, math.nan, 0.0], nan_ok=True)
    assert METRICS["bits_per_byte"].of_sentences(np.array([[math.log(2), 1.0], [3 * math.log(2), 3.0]])) == 1.0


@pytest.mark.parametrize("tokenizer", ["13a", "char", "zh"])
def test_scores_from_statistics_are_those_of_sacrebleu(tokenizer: str) -> None:
    found = score_statistics([4, 7, 8, 9, 12], OUTPUTS, REFERENCES, tokenizer=tokenizer)
    assert found is not None
    assert found.rows.tolist() == [4, 7, 8, 9, 12]
    bleu, chrf = METRICS["scores.bleu"], METRICS["scores.chrf"]
    assert (found.bleu.shape, found.chrf.shape) == ((5, len(bleu.statistics)), (5, len(chrf.statistics)))
    known = sacrebleu.corpus_bleu(OUTPUTS, [REFERENCES], tokenize=tokenizer).score
    assert bleu.of_sentences(found.bleu.astype(float)) == known > 5
    assert chrf.of_sentences(found.chrf.astype(float)) == sacrebleu.corpus_chrf(OUTPUTS, [REFERENCES]).score > 5
    assert f"tok:{tokenizer}" in found.bleu_signature
    assert "chrF" not in found.bleu_signature
    assert "nc:6" in found.chrf_signature


def test_scores_of_a_resample_are_those_of_its_sentences() -> None:
    found = score_statistics(range(5), OUTPUTS, REFERENCES, tokenizer="13a")
    assert found is not None
    drawn = [0, 0, 3, 4, 1]
    outputs, references = ([texts[i] for i in drawn] for texts in (OUTPUTS, REFERENCES))
    for name, statistics, score in (
        ("scores.bleu", found.bleu, sacrebleu.corpus_bleu(outputs, [references])),
        ("scores.chrf", found.chrf, sacrebleu.corpus_chrf(outputs, [references])),
    ):
        sums = np.stack([statistics[drawn].sum(axis=0), statistics.sum(axis=0)]).astype(float)
        assert METRICS[name].of_sums(sums)[0] == score.score


def test_the_reference_decides_the_statistics_that_are_of_the_reference_alone() -> None:
    one, other = (
        score_statistics(range(5), outputs, REFERENCES, tokenizer="13a") for outputs in (OUTPUTS, OUTPUTS[::-1])
    )
    assert one is not None
    assert other is not None
    for name, first, second in (("scores.bleu", one.bleu, other.bleu), ("scores.chrf", one.chrf, other.chrf)):
        same = (first == second).all(axis=0)
        assert set(np.flatnonzero(same)) >= set(METRICS[name].of_reference)
        assert not same.all()


def test_translations_without_any_match_score_zero() -> None:
    found = score_statistics([0], [""], ["abc"], tokenizer="13a")
    assert found is not None
    assert METRICS["scores.bleu"].of_sentences(found.bleu.astype(float)) == 0
    assert METRICS["scores.chrf"].of_sentences(found.chrf.astype(float)) == 0
