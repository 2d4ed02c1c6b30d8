"""The loader over plans of a small planner of the tests' own: batches of two, in an order that the epoch decides."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import Draft, Plan
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader

NUM_ROWS = 11


def planned(sizes: list[int], rows: list[int] | None = None) -> Plan:
    return Plan(
        num_rows=sum(sizes),
        rows=np.array(range(sum(sizes)) if rows is None else rows, dtype=np.int32),
        offsets=np.cumsum([0, *sizes]),
        order=np.arange(len(sizes))[::-1],
        dropped_length=np.empty(0, dtype=np.int32),
        dropped_remainder=np.empty(0, dtype=np.int32),
    )


class PairsOfRows(Draft):
    def __len__(self) -> int:
        return 6

    def plan(self, *, seed: int, epoch: int) -> Plan:
        return planned([2, 2, 2, 2, 2, 1], np.random.default_rng([seed, epoch]).permutation(NUM_ROWS).tolist())


def batches(rank: int = 0, world_size: int = 1) -> EpochBatches:
    return EpochBatches(PairsOfRows(), seed=3, rank=rank, world_size=world_size)


def loader(num_workers: int = 0, rank: int = 0, world_size: int = 1) -> PlanLoader:
    rows = [[10 + i] * i for i in range(NUM_ROWS)]
    pairs = EncodedPairs(TokenRows.of(rows), TokenRows.of(rows))
    return PlanLoader(EncodedBatches(pairs, BatchFormat()), batches(rank, world_size), num_workers=num_workers)


def served(made: PlanLoader) -> list[list[int]]:
    return [batch["row_ids"].tolist() for batch in made]


def test_len_is_what_comes_and_each_row_comes_once() -> None:
    got = served(loader())
    assert len(loader()) == len(got) == 6
    assert sorted(row for rows in got for row in rows) == list(range(NUM_ROWS))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_pass_is_the_next_epoch_and_workers_change_nothing(num_workers: int) -> None:
    made = loader(num_workers)
    first, second = served(made), served(made)
    assert first != second
    expected = loader()
    assert [first, second] == [served(expected), served(expected)]


def test_set_epoch_chooses_the_order() -> None:
    made = loader()
    served(made)
    made.batch_sampler.set_epoch(0)
    assert served(made) == served(loader())


def test_lightning_finds_set_epoch_where_it_looks() -> None:
    made = loader()
    assert made.batch_sampler.sampler is made.batch_sampler


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("done", range(7))
def test_resumes_exactly_behind_every_step(done: int, num_workers: int) -> None:
    first = loader(num_workers)
    passing = iter(first)
    for _ in range(done):
        next(passing)
    state = first.state_dict()
    assert state == {"epoch": 0, "served": [[1, done]] if done else []}
    resumed = loader(num_workers)
    resumed.load_state_dict(state)
    whole = loader()
    assert served(resumed) == served(whole)[done:]
    assert served(resumed) == served(whole), "the epoch after a resumed one is whole"


def test_a_run_that_was_resumed_twice_has_a_state_of_the_whole_epoch() -> None:
    first, state = loader(), {"epoch": 0, "served": [[1, 2]]}
    first.load_state_dict(state)
    next(iter(first))
    assert first.state_dict() == {"epoch": 0, "served": [[1, 3]]}


def test_a_state_of_another_epoch_than_is_set_skips_nothing() -> None:
    made = loader()
    made.load_state_dict({"epoch": 5, "served": [[1, 3]]})
    made.batch_sampler.set_epoch(6)
    assert len(served(made)) == 6


@pytest.mark.parametrize("chain", [[(2, 1), (1, None)], [(2, 2), (3, None)], [(3, 1), (2, 1), (1, None)]])
def test_an_epoch_goes_on_with_another_number_of_ranks(chain: list[tuple[int, int | None]]) -> None:
    state: dict[str, object] = {"epoch": 0, "served": []}
    rows: list[int] = []
    for world_size, steps in chain:
        ranks = [loader(rank=rank, world_size=world_size) for rank in range(world_size)]
        taken = []
        for made in ranks:
            made.load_state_dict(state)
            taken.append([batch["row_ids"].tolist() for batch in islice(made, steps)])
        assert len({len(batches) for batches in taken}) == 1
        rows += [row for batches in taken for batch in batches for row in batch]
        states = [made.state_dict() for made in ranks]
        assert all(other == states[0] for other in states)
        state = states[0]
    assert sorted(rows) == list(range(NUM_ROWS))
    assert state == {"epoch": 1, "served": []}


def test_frozen_batches_are_those_of_the_first_epoch_in_every_epoch() -> None:
    made = loader()
    made.batch_sampler.frozen = True
    first = served(made)
    assert made.state_dict() == {"epoch": 1, "served": []}
    assert served(made) == first == served(loader())


def test_a_dropped_pass_does_not_advance_the_epoch() -> None:
    made = loader()
    next(iter(made))
    assert served(made) == served(loader())


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 5, 6, 11])
def test_ranks_take_equal_steps_and_share_every_row(world_size: int) -> None:
    ranks = [served(loader(rank=rank, world_size=world_size)) for rank in range(world_size)]
    assert {len(steps) for steps in ranks} == {-(-6 // world_size)} == {len(loader(world_size=world_size))}
    rows = [row for steps in ranks for batch in steps for row in batch]
    assert sorted(rows) == list(range(NUM_ROWS))


def test_pickles_without_its_plan() -> None:
    made = batches()
    expected = [rows.tolist() for rows in batches()]
    assert len(made.plan())
    copy = pickle.loads(pickle.dumps(made))
    assert copy._planned is None
    assert [rows.tolist() for rows in copy] == expected


def test_global_random_state_is_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    served(loader())
    assert torch.equal(before, torch.get_rng_state())
