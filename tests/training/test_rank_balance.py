"""How ranks share an epoch, worked out by hand."""

from typing import Any

import numpy as np
import pytest

from mtx.batches.plan.planner import Draft, Lengths, Plan
from mtx.batches.plan.rank_assignment import assigned_batches
from mtx.training.loader import EpochBatches
from mtx.training.rank_balance import padded_tokens, rank_report

LENGTHS = Lengths.of([2, 3, 5, 1, 4], [4, 4, 1, 2, 6])
NONE = np.empty(0, dtype=np.int32)


class Fixed(Draft):
    """The same plan in every epoch: batches of the first, the next two, and the last two rows."""

    def __init__(self, widths: Any = None) -> None:
        self.widths = widths

    def __len__(self) -> int:
        return 3

    def plan(self, *, seed: int, epoch: int) -> Plan:
        return Plan(5, np.arange(5, dtype=np.int32), np.array([0, 1, 3, 5]), np.arange(3), NONE, NONE, self.widths)


def test_padded_tokens_of_each_rank_at_each_step() -> None:
    # rows 0 | 1, 2 | 3, 4: 1 x (2 + 4), 2 x (5 + 4), 2 x (4 + 6)
    plan = Fixed().plan(seed=0, epoch=0)
    assert padded_tokens(assigned_batches(plan, 1), LENGTHS).tolist() == [[6], [18], [20]]
    assert padded_tokens(assigned_batches(plan, 3), LENGTHS).tolist() == [[6, 18, 20]]
    assert padded_tokens(assigned_batches(plan, 3), LENGTHS, length_multiple=4).tolist() == [[8, 24, 24]]


def test_widths_of_the_plan_are_what_batches_are_padded_to() -> None:
    plan = Fixed(np.array([[2, 4], [6, 4], [6, 8]])).plan(seed=0, epoch=0)
    assert padded_tokens(assigned_batches(plan, 3), LENGTHS).tolist() == [[6, 20, 28]]


def test_imbalance_is_the_largest_share_over_the_mean_one() -> None:
    report = rank_report(EpochBatches(Fixed(), lengths=LENGTHS), 3, LENGTHS)
    assert report == {
        "world_size": 3,
        "num_steps": 1,
        "left_out": 0,
        "imbalance": pytest.approx(20 / (44 / 3)),
        "imbalance_p95": pytest.approx(20 / (44 / 3)),
        "length_variation": 0.0,
    }


def test_one_rank_is_in_balance() -> None:
    batches = EpochBatches(Fixed(), lengths=LENGTHS)
    report = rank_report(batches, 1, LENGTHS)
    assert (report["num_steps"], report["imbalance"]) == (3, 1)
    assert (batches.world_size, len(batches)) == (1, 3)


def test_more_ranks_than_pairs_take_no_step() -> None:
    report = rank_report(EpochBatches(Fixed(), lengths=LENGTHS), 6, LENGTHS)
    assert (report["num_steps"], report["left_out"]) == (0, 5)
    assert report["imbalance"] is None


def test_ranks_get_what_the_loader_of_each_serves() -> None:
    lengths = Lengths.of(np.arange(1, 41) % 7 + 1, np.arange(1, 41) % 5 + 1)

    class Twos(Fixed):
        def plan(self, *, seed: int, epoch: int) -> Plan:
            order = np.random.default_rng(epoch).permutation(20)
            return Plan(40, np.arange(40, dtype=np.int32), np.arange(0, 41, 2), order, NONE, NONE)

    tokens = []
    for rank in range(4):
        served = list(EpochBatches(Twos(), rank=rank, world_size=4, lengths=lengths))
        tokens.append([len(rows) * int(lengths.source[rows].max() + lengths.target[rows].max()) for rows in served])
    by_step = np.array(tokens).T
    report = rank_report(EpochBatches(Twos(), lengths=lengths), 4, lengths)
    assert report["imbalance"] == pytest.approx((by_step.max(axis=1) / by_step.mean(axis=1)).mean())
