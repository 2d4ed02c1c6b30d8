"""Ranks of the real Trainer: each strategy, all loops, any number of pairs. `rank_runs.py` is what the ranks run.

MTX_TEST_ALL=1 runs every combination of strategy, number of ranks and number of workers instead of a choice.
"""

import importlib.util
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtx.batches.plan.planner import Lengths, Planner, max_lengths
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.rank_assignment import assigned_batches
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.infra.dataset.sources.sample import SampleDownloader
from mtx.training.loader import EpochBatches

_spec = importlib.util.spec_from_file_location("rank_runs", Path(__file__).with_name("rank_runs.py"))
assert _spec is not None
assert _spec.loader is not None
rank_runs = sys.modules["rank_runs"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rank_runs)

Ranks = list[list[dict[str, Any]]]
ALL = os.environ.get("MTX_TEST_ALL") == "1"
LAUNCH_S = 900 if ALL else 240  # on a machine that others use, too
NUM_PAIRS = {"train": 50, "validation": 9, "test": 21}
CHOICE = [("ddp_fork", 2, 0), ("ddp_fork", 4, 2), ("ddp_spawn", 2, 2), ("ddp", 2, 0)]
COMBINATIONS = list(itertools.product(("ddp_fork", "ddp_spawn", "ddp"), (2, 4), (0, 2))) if ALL else CHOICE
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks, and ends processes by signals")


def run(do: str, strategy: str, devices: int, num_workers: int, **trainer: Any) -> dict[str, Any]:
    held_out = {name: NUM_PAIRS[name] for name in ("validation", "test")}
    return {
        "name": f"{do}-{strategy}-{devices}-{num_workers}",
        "do": do,
        "data": {"n": NUM_PAIRS["train"], **held_out, "num_workers": num_workers},
        "trainer": {"devices": devices, "strategy": strategy, **trainer},
    }


def batches_of(ranks: Ranks, epoch: int) -> list[list[int]]:
    return [e["rows"] for rank in ranks for e in rank if e["on"] == "train" and e["epoch"] == epoch]


def few(name: str, told: str | None = None, **data: int) -> dict[str, Any]:
    ends = {} if told is None else {"raises": told}
    return {"name": name, "data": data, "trainer": {"devices": 3, "strategy": "ddp_fork"}, **ends}


LOOPS = {"validate": "validation", "test": "test", "predict": "test"}
EVALUATIONS = [
    run(do, strategy, devices, num_workers, max_epochs=None)
    for do in LOOPS
    for strategy in (("ddp_fork", "ddp_spawn") if ALL else ("ddp_fork",))
    for devices, num_workers in ([(2, 0), (2, 2), (4, 0), (4, 2)] if ALL else [(2, 2), (4, 0)])
]
TOLD = "usable pairs for 3 ranks, but each rank needs at least one"
FEW = [few("training", TOLD, n=2), few("validation", TOLD, n=9, validation=2)]
ENOUGH = {"three": (3, 3), "seven": (7, 4)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """What one process is served; its events are as those of a single rank."""
    return [rank_runs.fit(rank_runs.datamodule(tmp_path_factory.mktemp("alone"), validation=9, test=21)).events]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ranks]:
    """What all runs were served whose ranks one process can start, run after run."""
    fits = [run("fit", *combination) for combination in COMBINATIONS if combination[0] != "ddp"]
    enough = [few(name, n=n, validation=held_out) for name, (n, held_out) in ENOUGH.items()]
    runs = [*fits, *EVALUATIONS, *FEW, *enough]
    launched: dict[str, Ranks] = rank_runs.launch(tmp_path_factory.mktemp("runs"), *runs, timeout_s=LAUNCH_S)
    return launched


@pytest.mark.timeout(2 * LAUNCH_S)
@pytest.mark.parametrize(("strategy", "devices", "num_workers"), COMBINATIONS)
def test_ranks_share_every_pair_in_equal_steps_and_each_epoch_differs(
    tmp_path: Path, alone: Ranks, served: dict[str, Ranks], strategy: str, devices: int, num_workers: int
) -> None:
    asked = run("fit", strategy, devices, num_workers)
    ranks = (served if strategy != "ddp" else rank_runs.launch(tmp_path, asked))[asked["name"]]
    assert len(ranks) == devices
    steps = {tuple((e["on"], e.get("epoch"), e.get("step")) for e in rank) for rank in ranks}
    assert len(steps) == 1, "all ranks take the same steps"
    for epoch in (0, 1):
        assert rank_runs.rows(ranks, "train", epoch) == list(range(50))
        assert rank_runs.rows(ranks, "validation", epoch) == list(range(9))
        whole = [set(rows) for rows in batches_of(alone, epoch)]
        parts = [rows for rows in batches_of(ranks, epoch) if set(rows) not in whole]
        assert all(any(set(rows) < of for of in whole) for rows in parts)
        assert len(parts) <= 2 * (devices - 1), "batches are those of one process, but for what makes steps equal"
    assert sorted(batches_of(ranks, 0)) != sorted(batches_of(ranks, 1))
    assert len({rank[-1]["weights"] for rank in ranks}) == 1


@pytest.mark.timeout(2 * LAUNCH_S)
@pytest.mark.parametrize("asked", EVALUATIONS, ids=lambda asked: asked["name"])
def test_evaluation_serves_each_pair_once_over_all_ranks(served: dict[str, Ranks], asked: dict[str, Any]) -> None:
    ranks, do = served[asked["name"]], asked["do"]
    assert len(ranks) == asked["trainer"]["devices"]
    on = "validation" if do == "validate" else do
    assert rank_runs.rows(ranks, on) == list(range(NUM_PAIRS[LOOPS[do]]))
    assert len({sum(e["on"] == on for e in rank) for rank in ranks}) == 1


@pytest.mark.timeout(2 * LAUNCH_S)
@pytest.mark.parametrize(("name", "split"), [("training", "train"), ("validation", "validation")])
def test_fewer_pairs_than_ranks_are_told_instead_of_waited_for(served: dict[str, Ranks], name: str, split: str) -> None:
    # a rank that hears of the end of another may be ended before it writes
    errors = [[e for e in rank if e["on"] == "error"] for rank in served[name]]
    assert errors
    assert all(len(told) == 1 and told[0]["kind"] == "EmptyDatasetError" for told in errors)
    assert all(f"the {split} split has 2 {TOLD}" in told[0]["told"] for told in errors)


@pytest.mark.timeout(2 * LAUNCH_S)
@pytest.mark.parametrize("name", ENOUGH)
def test_a_pair_for_each_rank_is_enough(served: dict[str, Ranks], name: str) -> None:
    n, held_out = ENOUGH[name]
    ranks = served[name]
    assert len({len(rank) for rank in ranks}) == 1
    train = rank_runs.rows(ranks, "train", 0)
    assert len(train) == len(set(train)) > n - 3, "no more are left out than would not fill a step"
    assert rank_runs.rows(ranks, "validation", 0) == list(range(held_out))


@pytest.mark.parametrize("join", [False, True])
@pytest.mark.parametrize("planner", [RandomPlanner(batch_size=3), TokenBudgetPlanner(max_tokens=24)])
def test_any_number_of_pairs_is_served_in_equal_steps(planner: Planner, join: bool) -> None:
    for num_rows, world_size in itertools.product([*range(12), 37], range(1, 6)):
        lengths = Lengths.of(1 + np.arange(num_rows) % 7)
        draft = planner.draft(lengths)
        ranks = [
            EpochBatches(draft, rank=rank, world_size=world_size, lengths=lengths, join=join)
            for rank in range(world_size)
        ]
        for epoch in (0, 1):
            for rank in ranks:
                rank.set_epoch(epoch)
            got = [[item[0] if isinstance(item, tuple) else item for item in rank] for rank in ranks]
            assert {len(steps) for steps in got} == {len(ranks[0])}
            rows = [row for steps in got for batch in steps for row in batch.tolist()]
            dealt, _ = ranks[0].rank_batches()
            assert sorted([*rows, *dealt.left_out.tolist()]) == list(range(num_rows))
            assert len(dealt.left_out) < world_size
            assert not (join and num_rows >= world_size and len(dealt.left_out))
            assert len(ranks[0]) > 0 or num_rows < world_size


def test_ranks_of_the_default_sampler_get_equal_work_on_real_text() -> None:
    texts = [batch.to_pydict() for batch in SampleDownloader().batches("train", {})]
    # a piece of a subword vocabulary stands for some four bytes
    sides = ([2 + len(text.encode()) // 4 for part in texts for text in part[side]] for side in ("src", "tgt"))
    lengths = Lengths.of(*sides)
    plan = TokenBudgetPlanner().plan(lengths, seed=0, epoch=0)
    positions = max_lengths(plan, lengths).sum(axis=1)
    for world_size in (2, 4, 8):
        dealt = assigned_batches(plan, world_size, positions=positions)
        cost = ((dealt.ends - dealt.starts) * positions[dealt.cut]).reshape(-1, world_size)
        assert (cost.max(axis=1) / cost.mean(axis=1)).mean() <= 1.05
