"""The random-tokens planner: evenly filled batches, no order by length, and pairs above the cap."""

import numpy as np
import pytest

from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.batches.plan.packing import packed_offsets
from mtx.batches.plan.planner import Int, Lengths, Plan
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.errors import ConfigError
from mtx.training.tunable_batch_size import min_budget, planner_budget, planner_with_budget


def varied_lengths(num_rows: int) -> Lengths:
    random = np.random.default_rng(2)
    source = np.clip(random.lognormal(3.2, 0.6, num_rows), 2, 256).astype(np.int32)
    return Lengths.of(source, np.clip(source * random.lognormal(0, 0.2, num_rows), 2, 256).astype(np.int32))


def batch_tokens(plan: Plan, lengths: Lengths) -> Int:
    both = (lengths.source + lengths.target)[plan.rows].astype(np.int64)
    tokens: Int = np.add.reduceat(both, plan.offsets[:-1])
    return tokens


def test_all_batches_of_every_epoch_have_nearly_the_same_tokens() -> None:
    lengths = varied_lengths(20_000)
    draft = RandomTokensPlanner(real_tokens=2048).draft(lengths)  # four times the longest possible pair
    for epoch in range(3):
        plan = draft.plan(seed=1, epoch=epoch)
        tokens = batch_tokens(plan, lengths)
        assert len(tokens) == len(draft)
        assert tokens.max() <= 2048
        assert tokens.std() / tokens.mean() <= 0.01
        assert tokens.mean() >= 0.99 * 2048


def test_neighbouring_batches_do_not_have_similar_lengths() -> None:
    lengths = varied_lengths(60_000)
    draft = RandomTokensPlanner(real_tokens=512).draft(lengths)
    found = []
    for epoch in range(2):
        plan = draft.plan(seed=0, epoch=epoch)
        sizes = np.diff(plan.offsets)
        in_cut_order, in_training = batch_tokens(plan, lengths) / sizes, None
        in_training = in_cut_order[plan.order]
        found += [np.corrcoef(mean[:-1], mean[1:])[0, 1] for mean in (in_cut_order, in_training)]
    assert np.abs(found).max() <= 0.02, "about 7,000 batches, whose correlation by chance is about 0.01"


def test_a_row_that_fills_the_batch_is_moved_before_its_end() -> None:
    tokens, order = np.array([5, 4, 7, 3, 1]), np.arange(5)
    # both batches get 10 of 20 tokens: 5 + 4 leave a gap of 1, which only the last row fills
    assert packed_offsets(tokens, order, 10, 2, 8).tolist() == [0, 3, 5]
    assert order.tolist() == [0, 1, 4, 3, 2]
    assert tokens.tolist() == [5, 4, 1, 3, 7]


def test_rows_that_leave_gaps_get_more_batches_than_their_tokens_need() -> None:
    lengths = Lengths.of([30] * 10)  # a batch of 100 tokens holds one pair of 60
    assert len(RandomTokensPlanner(real_tokens=100).draft(lengths)) == 10
    plan = RandomTokensPlanner(real_tokens=125).plan(lengths, seed=0, epoch=0)
    assert batch_tokens(plan, lengths).max() <= 125


def test_pairs_above_the_cap_are_refused_by_number_and_length() -> None:
    planner, lengths = RandomTokensPlanner(real_tokens=100), Lengths.of([50, 51, 80, 300, 7])
    excluded = np.array([False, False, False, True, False])
    with pytest.raises(
        ConfigError,
        match=r"sampler\.real_tokens=100 is smaller than 2 of 4 training pairs; the longest has 160 tokens, "
        r"source and target together\. Set sampler\.real_tokens=160 or more",
    ):
        planner.check_lengths(lengths, excluded=excluded)
    RandomTokensPlanner(real_tokens=160).check_lengths(lengths, excluded=excluded)


def test_a_mixture_draws_its_shares_and_stays_below_the_cap() -> None:
    lengths, source = varied_lengths(900), (np.arange(900) >= 800).astype(np.uint16)
    mixing = MixtureSampling(("big", "small"), source, (1.0, 1.0), None, None, 0)
    draft = mixing.draft(RandomTokensPlanner(real_tokens=1024), lengths)
    for epoch in range(2):
        plan = draft.plan(seed=0, epoch=epoch)
        assert len(plan) == len(draft)
        assert batch_tokens(plan, lengths).max() <= 1024
        assert np.bincount(source[plan.rows]).tolist() == [450, 450]


def test_the_batch_size_finder_sets_the_cap() -> None:
    planner, lengths = RandomTokensPlanner(real_tokens=64), Lengths.of([3, 5], [4, 9])
    assert planner_budget(planner) == 64
    assert planner_with_budget(planner, 32) == RandomTokensPlanner(real_tokens=32)
    assert min_budget(planner, lengths, None) == 14


@pytest.mark.parametrize("look_ahead", [1, 64])
def test_a_single_pair_that_fills_a_batch_is_served_once(look_ahead: int) -> None:
    planner = RandomTokensPlanner(real_tokens=64, look_ahead=look_ahead)
    plan = planner.draft(Lengths.of([0], [64])).plan(seed=0, epoch=0)
    assert [rows.tolist() for rows in plan] == [[0]]
