"""Updates of mixed lengths: each has short and long batches, ranks have like costs, and no batch is lost."""

import numpy as np
import pytest

from mtx.batches.plan.length_mixing import mixed_groups, mixed_order
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.rank_assignment import remaining_batches
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.components.identity import identity
from mtx.errors import ConfigError
from mtx.training.loader import EpochBatches
from mtx.training.rank_balance import rank_report

RANDOM = np.random.default_rng(3)
SOURCE = np.clip(RANDOM.lognormal(3.0, 0.6, 6000), 1, 120).astype(np.int32)
LENGTHS = Lengths.of(SOURCE, np.clip(SOURCE + RANDOM.integers(-3, 4, 6000), 1, 120).astype(np.int32))


@pytest.mark.parametrize("num_batches", [0, 1, 7, 8, 20, 64])
def test_neighbouring_batches_come_from_all_ranges_of_the_cut_order(num_batches: int) -> None:
    order = mixed_order(num_batches, np.random.default_rng(0))
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(num_batches))
    if num_batches == 64:
        assert all(sorted(order[first : first + 8] // 8) == list(range(8)) for first in range(0, 64, 8))


def test_groups_have_like_costs_and_short_and_long_batches() -> None:
    # 32 cheap and 32 expensive batches, each with lengths from 0 to 31, for 2 ranks
    costs, lengths = np.repeat([1.0, 9.0], 32), np.tile(np.arange(32.0), 2)
    groups = mixed_groups(costs, lengths, 2).reshape(-1, 2)
    assert np.ptp(costs[groups], axis=1).max() == 0
    assert (lengths[groups].sum(axis=1) == 31).all()
    assert sorted(mixed_groups(np.arange(6.0), np.arange(6.0), 3).tolist()) == list(range(6))


def test_the_lengths_of_a_step_vary_less_at_an_imbalance_below_three_percent() -> None:
    reports = []
    for mix_lengths in (False, True):
        planner = TokenBudgetPlanner(max_tokens=512, mix_lengths=mix_lengths)
        batches = EpochBatches(planner.draft(LENGTHS), lengths=LENGTHS)
        reports.append(rank_report(batches, 4, LENGTHS))
    like, mixed = reports
    assert mixed["length_variation"] < like["length_variation"] / 2
    assert mixed["imbalance"] < 1.03
    assert mixed["left_out"] == like["left_out"] == 0


def test_an_epoch_of_mixed_steps_resumes_on_another_number_of_ranks() -> None:
    plan = TokenBudgetPlanner(max_tokens=512, mix_lengths=True).plan(LENGTHS, seed=0, epoch=0)
    assert plan.mixes_lengths
    positions = RANDOM.random(len(plan))
    whole, _ = remaining_batches(plan, 3, (), positions=positions)
    again, start = remaining_batches(plan, 3, ((3, 5),), positions=positions)
    assert start == 5
    assert again.starts.tolist() == whole.starts.tolist()
    rest, _ = remaining_batches(plan, 2, ((3, 5),), positions=positions)
    served = [plan.rows[a:b] for a, b in zip(whole.starts[:15], whole.ends[:15], strict=True)]
    served += [plan.rows[a:b] for a, b in zip(rest.starts, rest.ends, strict=True)]
    assert sorted(np.concatenate(served).tolist()) == list(range(len(LENGTHS)))


def test_the_option_needs_a_random_order_and_its_default_changes_no_identity() -> None:
    with pytest.raises(
        ConfigError, match=r"sampler\.mix_lengths=true needs batches in random order, but sampler\.shuf"
    ):
        TokenBudgetPlanner(mix_lengths=True, shuffle=False)
    assert "mix_lengths" not in identity(TokenBudgetPlanner())
    assert identity(TokenBudgetPlanner(mix_lengths=True))["mix_lengths"] is True
