"""The loader in loops other than Lightning's: ranks without a Trainer, exact counts of batches, accelerate, Fabric."""

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import test_loader
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, SequentialSampler
from torch.utils.data.distributed import DistributedSampler

from mtx.assumption_log import collected_assumptions
from mtx.batches import process_rank
from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan_batch_samplers import BucketBatchSampler, PlanBatchSampler
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import ConfigError
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader

NUM_ROWS = test_loader.NUM_ROWS


def loader(num_workers: int = 0) -> PlanLoader:
    rows = [[10 + i] * i for i in range(NUM_ROWS)]
    pairs = EncodedPairs(TokenRows.of(rows), TokenRows.of(rows))
    batches = EpochBatches(test_loader.PairsOfRows(), seed=3)
    return PlanLoader(EncodedBatches(pairs, BatchFormat()), batches, num_workers=num_workers)


def rows_of(batches: Iterator[dict[str, torch.Tensor]]) -> list[list[int]]:
    return [batch["row_ids"].tolist() for batch in batches]


EPOCHS = test_loader.loader()
EXPECTED = [test_loader.served(EPOCHS) for _ in range(3)]


def by_zip(made: PlanLoader) -> Iterator[dict[str, torch.Tensor]]:
    return (batch for _, batch in zip(range(len(made)), made, strict=False))


def by_next(made: PlanLoader) -> Iterator[dict[str, torch.Tensor]]:
    iterator = iter(made)
    return (next(iterator) for _ in range(len(made)))


EXACT_COUNTS = {
    "islice": lambda made: islice(made, len(made)),
    "zip": by_zip,
    "next": by_next,
    "all": iter,
    "sampler alone": lambda made: (made.dataset[item] for item in islice(made.batch_sampler, len(made))),
    "DataLoader": lambda made: islice(DataLoader(made.dataset, sampler=made.batch_sampler, batch_size=None), len(made)),
}


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("take", EXACT_COUNTS.values(), ids=EXACT_COUNTS)
def test_an_epoch_ends_with_its_last_batch(
    take: Callable[[PlanLoader], Iterator[dict[str, torch.Tensor]]], num_workers: int
) -> None:
    made = loader(num_workers)
    assert [rows_of(take(made)) for _ in range(3)] == EXPECTED


def test_an_epoch_that_is_set_after_a_whole_pass_is_served_again() -> None:
    made = loader()
    first = rows_of(islice(made, len(made)))
    made.set_epoch(0)
    assert rows_of(islice(made, len(made))) == first == EXPECTED[0]


def test_one_batch_less_than_the_epoch_does_not_end_it() -> None:
    made = loader()
    rows_of(islice(made, len(made) - 1))
    assert rows_of(iter(made)) == EXPECTED[0]


def test_the_state_behind_an_exact_count_resumes_at_the_next_epoch() -> None:
    made, resumed = loader(), loader()
    rows_of(islice(made, len(made)))
    resumed.load_state_dict(made.state_dict())
    assert rows_of(iter(resumed)) == []
    assert rows_of(iter(resumed)) == EXPECTED[1]


def test_len_of_the_dataset_is_the_number_of_pairs() -> None:
    assert len(loader().dataset) == NUM_ROWS


def initialized(monkeypatch: pytest.MonkeyPatch, rank: int, world_size: int) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: rank)
    monkeypatch.setattr(dist, "get_world_size", lambda: world_size)


@pytest.mark.parametrize("made_before", [False, True])
@pytest.mark.parametrize("world_size", [2, 3])
def test_ranks_of_an_initialized_group_share_the_pairs(
    monkeypatch: pytest.MonkeyPatch, world_size: int, made_before: bool
) -> None:
    before = [loader() for _ in range(world_size)] if made_before else []
    served, steps = [], set()
    for rank in range(world_size):
        initialized(monkeypatch, rank, world_size)
        made = before[rank] if made_before else loader()
        steps.add(len(made))
        served.append(rows_of(iter(made)))
    assert steps == {len(batches) for batches in served} == {-(-6 // world_size)}
    assert sorted(row for batches in served for rows in batches for row in rows) == list(range(NUM_ROWS))


TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}
RANK_ITERATIONS: dict[str, Callable[[PlanLoader], object]] = {
    "loader": lambda made: next(iter(made)),
    "sampler": lambda made: next(iter(made.batch_sampler)),
    "DataLoader": lambda made: next(iter(DataLoader(made.dataset, sampler=made.batch_sampler, batch_size=None))),
}


@pytest.mark.parametrize("take", RANK_ITERATIONS.values(), ids=RANK_ITERATIONS)
@pytest.mark.parametrize("started", [TORCHRUN, {"LOCAL_RANK": "1", "WORLD_SIZE": "4"}, MPIRUN])
def test_a_rank_that_nothing_knows_is_refused_at_the_first_batch(
    monkeypatch: pytest.MonkeyPatch, started: dict[str, str], take: Callable[[PlanLoader], object]
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    made = loader()
    told = r"one of \d ranks .*init_process_group\(\).*set_rank\(rank, world_size\).*`env -u (OMPI_COMM_)?WORLD_SIZE "
    with pytest.raises(ConfigError, match=told):
        take(made)
    made.batch_sampler.set_rank(1, 2)
    assert take(made) is not None


@pytest.mark.parametrize("started", [{"WORLD_SIZE": "2"}, {"RANK": "0", "WORLD_SIZE": "1"}, {"RANK": "1"}, {}])
def test_a_process_alone_needs_no_group(monkeypatch: pytest.MonkeyPatch, started: dict[str, str]) -> None:
    for size, ranks in process_rank.STARTED_RANKS.items():
        for name in (size, *ranks):
            monkeypatch.delenv(name, raising=False)
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    assert rows_of(iter(loader())) == EXPECTED[0]


@pytest.mark.parametrize(("num_tasks", "is_told"), [("2", True), ("1", False), ("", False)])
@pytest.mark.parametrize(("size", "rank"), process_rank.POSSIBLE_RANKS.items())
def test_a_process_that_may_be_alone_is_told(
    monkeypatch: pytest.MonkeyPatch, size: str, rank: str, num_tasks: str, is_told: bool
) -> None:
    for name in (*process_rank.POSSIBLE_RANKS, *process_rank.POSSIBLE_RANKS.values()):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(size, num_tasks)
    monkeypatch.setenv(rank, "0")
    with collected_assumptions() as told:
        assert rows_of(iter(loader())) == EXPECTED[0]
    assert [f"{size}=2 says that it is one of several" in each for each in told] == [True] * is_told


def test_a_process_that_may_be_alone_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, rank in process_rank.POSSIBLE_RANKS.items():
        monkeypatch.setenv(size, "2")
        monkeypatch.setenv(rank, "0")
    with collected_assumptions() as told:
        process_rank.check_rank_is_known()
    assert len(told) == 1


@pytest.mark.parametrize("ranks", [(2, 2), (-1, 2), (0, None), (None, 2), (0, 0)])
def test_ranks_that_cannot_be_are_refused(ranks: tuple[int | None, int | None]) -> None:
    with pytest.raises(ConfigError, match=r"rank is from 0 to world_size - 1, but rank="):
        EpochBatches(test_loader.PairsOfRows(), rank=ranks[0], world_size=ranks[1])


def batch_sampler(**options: int) -> PlanBatchSampler:
    return PlanBatchSampler(RandomPlanner(batch_size=2), Lengths.of([3] * NUM_ROWS), **options)


def test_a_batch_sampler_asks_who_divides_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    initialized(monkeypatch, 1, 2)
    with pytest.raises(ConfigError, match=r"rank 1 of 2, .* rank=1, world_size=2; or rank=0, world_size=1 for a tool"):
        next(iter(batch_sampler()))
    with pytest.raises(ConfigError, match=r"BucketBatchSampler"):
        next(iter(BucketBatchSampler([3] * NUM_ROWS, 2)))
    assert next(iter(batch_sampler(rank=0, world_size=1)))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_of_a_batch_sampler_share_the_rows(world_size: int) -> None:
    ranks = [batch_sampler(rank=rank, world_size=world_size) for rank in range(world_size)]
    epochs = [[list(made) for made in ranks] for _ in range(2)]
    assert epochs[0] != epochs[1]
    for parts in epochs:
        assert {len(part) for part in parts} == {len(ranks[0])}
        assert sorted(row for part in parts for rows in part for row in rows) == list(range(NUM_ROWS))


def test_lightning_and_fabric_leave_the_sampler_alone() -> None:
    """Both look for this class before they put a sampler of their own around the sampler of a DataLoader."""
    assert isinstance(loader().batch_sampler, DistributedSampler)


def test_a_sampler_of_another_tool_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is an array with the row numbers of a batch, but is 0: another sampler"):
        next(iter(DataLoader(loader().dataset, batch_size=None)))
    given: list[dict[str, Any]] = [{}, {"shuffle": True}, {"sampler": SequentialSampler(range(6))}]
    for options in given:  # lists of 2 numbers
        with pytest.raises(ConfigError, match=r"collates batches that are whole. Set DataLoader"):
            next(iter(DataLoader(loader().dataset, batch_size=2, **options)))
    made = loader()
    with pytest.raises(ConfigError, match=r"Set DataLoader\(loader.dataset, sampler=loader.batch_sampler, "):
        next(iter(DataLoader(made.dataset, batch_sampler=made.batch_sampler)))


def test_a_batch_sampler_of_the_user_gives_lists_of_rows() -> None:
    made = DataLoader(loader().dataset, batch_sampler=[[3, 1], [2]], collate_fn=lambda batch: batch)
    assert [batch["row_ids"].tolist() for batch in made] == [[3, 1], [2]]


def test_accelerate_skips_the_first_batches() -> None:
    accelerate = pytest.importorskip("accelerate")
    made = loader()
    assert rows_of(iter(accelerate.skip_first_batches(made, 4))) == EXPECTED[0][4:]
    assert rows_of(iter(made)) == EXPECTED[1]
    made.set_epoch(2)
    assert rows_of(iter(accelerate.skip_first_batches(made, 1))) == EXPECTED[2][1:]


def test_skipping_what_the_state_skips_already_is_refused() -> None:
    accelerate = pytest.importorskip("accelerate")
    made = loader()
    made.load_state_dict({"epoch": 0, "served": [[1, 2]]})
    with pytest.raises(ConfigError, match=r"would be skipped twice"):
        next(iter(accelerate.skip_first_batches(made, 2)))


@pytest.mark.parametrize("num_epochs", [1, 2])
@pytest.mark.parametrize("accumulated", [1, 4, 5, 7])
def test_accelerate_applies_what_is_accumulated_at_the_end_of_each_epoch(accumulated: int, num_epochs: int) -> None:
    accelerate = pytest.importorskip("accelerate")
    try:
        accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulated)
        model = torch.nn.Linear(1, 1)
        model, _, made = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader())
        synced = []
        for _ in range(num_epochs):
            for _ in made:
                with accelerator.accumulate(model):
                    synced.append(accelerator.sync_gradients)
    finally:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.state.GradientState._reset_state()
    due = [number % accumulated == 0 or number == 6 for number in range(1, 7)]
    assert synced == due * num_epochs


def test_fabric_takes_a_dataloader_of_the_loaders_parts() -> None:
    from lightning_fabric import Fabric

    made = loader()
    fabric = Fabric(accelerator="cpu", devices=1)
    served = fabric.setup_dataloaders(DataLoader(made.dataset, sampler=made.batch_sampler, batch_size=None))
    assert len(served) == 6
    assert [rows_of(iter(served)) for _ in range(2)] == EXPECTED[:2]


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata's own use of torch
@pytest.mark.parametrize("done", [0, 1, 4, 6, 8])
def test_torchdata_resumes_with_the_next_batch(done: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def served() -> Any:
        made = loader()
        return stateful.StatefulDataLoader(made.dataset, sampler=made.batch_sampler, batch_size=None)

    first, resumed = served(), served()
    whole = [rows for epoch in EXPECTED[:2] for rows in epoch]
    taken: list[list[int]] = []
    passing = iter(first)
    while len(taken) < done:
        try:
            taken.append(next(passing)["row_ids"].tolist())
        except StopIteration:
            passing = iter(first)
    state = first.state_dict()
    resumed.load_state_dict(state)
    rest = rows_of(iter(resumed))
    if len(rest) + done < len(whole):
        rest += rows_of(iter(resumed))
    assert taken + rest == whole
