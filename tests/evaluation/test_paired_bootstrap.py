"""The paired bootstrap over held-out sentences: known cases, pairs, clusters, and the same result each time."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from mtx.evaluation import paired_bootstrap as module
from mtx.evaluation.corpus_metrics import bits_per_byte
from mtx.evaluation.paired_bootstrap import Arm, bootstrap_differences, resampled_sums
from mtx.evaluation.verdict import Difference, verdict, with_text_differences

Floats = NDArray[np.float64]
LN2 = math.log(2)


def of_bits(bits: Floats, num_bytes: Floats | float = 1.0) -> Arm:
    """Return an arm with one job, from the bits and the bytes of its sentences."""
    return [(1.0, np.stack([bits * LN2, np.broadcast_to(num_bytes, bits.shape)], axis=1))]


def interval(a: Arm, b: Arm, seed: int = 1, **more: object) -> Difference:
    arms, rng = {"a": a, "b": b}, np.random.default_rng(seed)
    return bootstrap_differences(arms, bits_per_byte, compared_to="a", rng=rng, **more)["b"]  # type: ignore[arg-type]


def width(difference: Difference) -> float:
    return difference.high - difference.low


def test_the_interval_of_a_mean_is_that_of_student() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(2.0, 1.0, 200)
    b = a + rng.normal(0.1, 0.5, 200)
    found = interval(of_bits(a), of_bits(b), num_resamples=20_000)
    known = stats.ttest_1samp(b - a, 0.0).confidence_interval(0.95)
    assert found.estimate == pytest.approx(np.mean(b - a))
    assert (found.low, found.high) == pytest.approx((known.low, known.high), abs=0.03 * (known.high - known.low))
    assert found.num_seeds == 1


def test_the_interval_of_a_ratio_is_that_of_its_linear_approximation() -> None:
    rng = np.random.default_rng(0)
    num_bytes = rng.integers(5, 300, 500).astype(float)
    a = 1.5 * num_bytes + rng.normal(0, 20, 500)
    b = a + 0.05 * num_bytes + rng.normal(0, 8, 500)
    found = interval(of_bits(a, num_bytes), of_bits(b, num_bytes), num_resamples=20_000)
    ratio = (b - a).sum() / num_bytes.sum()
    error = math.sqrt((((b - a) - ratio * num_bytes) ** 2).sum()) / num_bytes.sum()  # Cochran 1977, section 6.4
    assert found.estimate == pytest.approx(ratio)
    assert (found.low, found.high) == pytest.approx((ratio - 1.96 * error, ratio + 1.96 * error), abs=0.15 * error)


def test_pairs_of_correlated_sentences_give_a_narrow_interval() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(2.0, 1.0, 400)
    close, apart = a + rng.normal(0.1, 0.05, 400), rng.normal(2.1, 1.0, 400)
    narrow, wide = interval(of_bits(a), of_bits(close)), interval(of_bits(a), of_bits(apart))
    assert width(narrow) < width(wide) / 15
    assert narrow.is_told_apart
    assert not interval(of_bits(a), of_bits(a[::-1].copy())).is_told_apart
    assert width(interval(of_bits(a), of_bits(a))) == 0


def test_sentences_of_a_document_that_are_alike_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    documents = np.repeat(np.arange(40), 25)
    a = rng.normal(2.0, 1.0, 1000)
    b = a + 0.1 + rng.normal(0, 0.3, 40)[documents] + rng.normal(0, 0.3, 1000)
    by_sentence, by_document = (interval(of_bits(a), of_bits(b), clusters=c) for c in (None, documents))
    means = [(b - a)[documents == document].mean() for document in range(40)]
    known = stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert [by_document.estimate, by_sentence.estimate] == pytest.approx([np.mean(b - a)] * 2)
    assert width(by_document) > 2.5 * width(by_sentence)
    assert width(by_document) == pytest.approx(known.high - known.low, rel=0.1)


def test_sentences_that_are_their_own_documents_change_nothing() -> None:
    rng = np.random.default_rng(0)
    a, b = (of_bits(rng.normal(2.0, 1.0, 50)) for _ in range(2))
    assert interval(a, b, clusters=np.arange(50)) == interval(a, b)


def test_seeds_are_averaged_within_each_resample() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(2.0, 1.0, 100)
    noise = rng.normal(0, 0.5, 100)
    seeds = [(0.5, values) for ((_, values),) in (of_bits(a + 0.2 + noise), of_bits(a + 0.2 - noise))]
    found = interval(of_bits(a), seeds)
    assert (found.estimate, found.low, found.high) == pytest.approx((0.2, 0.2, 0.2))
    assert found.num_seeds == 2


def test_the_same_generator_gives_the_same_intervals_in_any_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = (of_bits(rng.normal(2.0, 1.0, 64)) for _ in range(2))
    once = interval(a, b)
    assert interval(a, b) == once
    assert interval(a, b, seed=2) != once
    monkeypatch.setattr(module, "MAX_COUNTS", 64 * 7)
    assert interval(a, b) == once


def test_a_resample_draws_as_many_clusters_as_there_are() -> None:
    found = resampled_sums(np.ones((17, 1)), np.random.default_rng(0), 30)
    assert found.tolist() == [[17.0]] * 30


def test_many_sentences_are_joined_at_random_and_give_the_same_width(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(2.0, 1.0, 4000)
    b = a + rng.normal(0.1, 0.5, 4000)
    whole = interval(of_bits(a), of_bits(b))
    monkeypatch.setattr(module, "MAX_CLUSTERS", 500)
    joined = interval(of_bits(a), of_bits(b))
    assert joined.estimate == pytest.approx(whole.estimate)
    assert width(joined) == pytest.approx(width(whole), rel=0.15)
    documents = np.repeat(np.arange(1000), 4)
    assert width(interval(of_bits(a), of_bits(b), clusters=documents)) == pytest.approx(width(whole), rel=0.2)


def test_one_document_gives_no_interval_and_neither_does_a_resample_without_bytes() -> None:
    a, b = of_bits(np.ones(5)), of_bits(np.full(5, 2.0))
    alone = interval(a, b, clusters=np.zeros(5, dtype=np.int64))
    assert (alone.estimate, alone.low, alone.high) == (1.0, -math.inf, math.inf)
    num_bytes = np.array([1.0, 0.0])
    empty = interval(of_bits(np.ones(2), num_bytes), of_bits(np.ones(2), num_bytes))
    assert (empty.low, empty.high) == (-math.inf, math.inf)


def test_the_verdict_names_what_other_sentences_may_turn_around() -> None:
    values = {"a": {1: 2.00, 2: 2.01}, "b": {1: 2.10, 2: 2.11}, "c": {1: 2.20, 2: 2.21}}
    seeds = verdict(values, direction="minimize")
    assert seeds.winner == "a"
    assert seeds.text_differences == {}
    sure, unsure = Difference(0.1, 0.05, 0.15, 2), Difference(0.1, -0.031, 0.25, 2)
    found = with_text_differences(seeds, {"b": unsure, "c": sure})
    assert found.winner == "a"
    assert dict(found.text_differences) == {"b": unsure, "c": sure}
    assert found.reason == (
        f"{seeds.reason} Other held-out sentences may turn this around: the interval over held-out sentences for b, "
        "[-0.03, +0.25], includes 0."
    )
    both = with_text_differences(seeds, {"b": unsure, "c": unsure})
    assert both.reason.endswith("the intervals over held-out sentences for b and c include 0.")
    assert with_text_differences(seeds, {"b": sure, "c": sure}).reason == seeds.reason


def test_the_sentences_say_nothing_where_seeds_tell_nothing_apart() -> None:
    seeds = verdict({"a": {1: 2.0, 2: 2.3}, "b": {1: 2.1, 2: 2.2}}, direction="minimize")
    best = seeds.order[0]
    other = "b" if best == "a" else "a"
    assert with_text_differences(seeds, {other: Difference(0.1, -0.1, 0.3, 2)}).reason == seeds.reason
