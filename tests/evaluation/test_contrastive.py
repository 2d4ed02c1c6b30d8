"""Contrastive accuracy: candidates of similar length, strict comparison, and the interval of a share."""

import numpy as np
import pytest
from scipy import stats

from mtx.evaluation.contrastive import (
    NUM_CANDIDATES,
    candidate_nats,
    contrastive_candidates,
    is_right_first,
    wilson_interval,
)


def draw(num_bytes: list[int], texts: list[int], asked: list[int], seed: int = 1) -> list[list[int]]:
    rows = np.arange(len(num_bytes)) * 2  # rows need not be numbered without gaps
    found = contrastive_candidates(
        rows, np.array(num_bytes), rows, np.array(texts), 2 * np.array(asked), np.random.default_rng(seed)
    )
    return (found // 2).tolist()


def test_candidates_are_ten_different_targets_of_the_nearest_lengths() -> None:
    texts = list(range(500))
    found = draw(list(range(500)), texts, [0, 250, 499])
    assert [line[0] for line in found] == [0, 250, 499]
    assert all(len(set(line)) == NUM_CANDIDATES for line in found)
    for row, least, most in ((0, 0, 60), (1, 220, 280), (2, 439, 499)):
        assert least <= min(found[row]) <= max(found[row]) <= most
    assert found == draw(list(range(500)), texts, [0, 250, 499])
    assert found != draw(list(range(500)), texts, [0, 250, 499], seed=2)


def test_an_equal_target_is_no_wrong_one_and_too_few_targets_ask_nothing() -> None:
    texts = [0] * 6 + [1, 1] + list(range(2, 10))  # ten different targets
    (line,) = draw([5] * len(texts), texts, [3])
    assert sorted(texts[row] for row in line) == list(range(10))
    assert draw([5] * 15, texts[:15], [3]) == []
    assert draw([3], [0], [0]) == []


def test_the_right_target_must_be_the_likeliest_per_byte_alone() -> None:
    nats = np.array([[10.0, 11.0], [10.0, 10.0], [np.nan, 1.0], [10.0, 6.0], [10.0, np.nan]])
    num_bytes = np.array([[10, 10], [10, 10], [10, 10], [10, 5], [10, 10]])
    assert is_right_first(nats, num_bytes).tolist() == [True, False, False, True, False]


def test_the_interval_of_a_share_is_wilsons() -> None:
    for num_right, num_asked in ((0, 10), (55, 100), (100, 100)):
        wanted = stats.binomtest(num_right, num_asked).proportion_ci(0.95, method="wilson")
        assert wilson_interval(num_right, num_asked) == pytest.approx((wanted.low, wanted.high))


def test_nats_of_batches_within_the_budget_are_put_together_in_order() -> None:
    candidates, lengths = np.arange(30).reshape(3, 10), (np.arange(30)[::-1] + 1, np.arange(30) % 7 + 1)
    sizes = []

    def nats_of(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
        sizes.append(len(targets) * max(lengths[0][sources].max(), lengths[1][targets].max()))
        return targets - sources / 100

    found = candidate_nats(candidates, lengths, nats_of, max_tokens=25)
    assert found.tolist() == (candidates - candidates[:, :1] / 100).tolist()
    assert len([size for size in sizes if size > 25]) == 10  # the pairs of 30 source tokens, one in each batch
    assert max(sizes) == 30
    assert len(sizes) == 10 + 10 + 5


def test_another_target_of_the_same_source_is_no_wrong_one() -> None:
    rows = np.arange(12)
    sources = np.array([0, 0, *range(1, 11)])
    (line,) = contrastive_candidates(
        rows, np.full(12, 5), sources, rows, np.array([0]), np.random.default_rng(1)
    ).tolist()
    assert 1 not in line
