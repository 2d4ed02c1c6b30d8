"""Workers are threads: they end with the pass, raise where the batch is asked for, and pinning needs an accelerator."""

import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mtx.infra.dataset.collate import Batch, BatchFormat, EncodedPairs, TokenRows
from mtx.infra.dataset.plan.base import Draft, Int, Plan
from mtx.training.loader import AHEAD, AT_ONCE, EncodedBatches, EpochBatches, PlanLoader

NUM_ROWS = 100


class OneByOne(Draft):
    def __len__(self) -> int:
        return NUM_ROWS

    def plan(self, *, seed: int, epoch: int) -> Plan:
        none = np.empty(0, dtype=np.int32)
        numbers = np.arange(NUM_ROWS)
        return Plan(NUM_ROWS, numbers.astype(np.int32), np.arange(NUM_ROWS + 1), numbers, none, none)


class Watched(EncodedBatches):
    def __init__(self, fails_at: int | None = None) -> None:
        rows = TokenRows.of([[5]] * NUM_ROWS)
        super().__init__(EncodedPairs(rows, rows), BatchFormat())
        self.fails_at = fails_at
        self.threads: set[str] = set()
        self.num_built = 0

    def __getitem__(self, rows: Int) -> Batch:
        self.threads.add(threading.current_thread().name)
        self.num_built += 1
        if rows[0] == self.fails_at:
            raise RuntimeError("row 9 is damaged")
        return super().__getitem__(rows)


def loader(dataset: EncodedBatches, num_workers: int, *, pin_memory: bool = False) -> PlanLoader:
    return PlanLoader(dataset, EpochBatches(OneByOne()), num_workers=num_workers, pin_memory=pin_memory)


def of_the_loader() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mtx-loader")]


def test_without_workers_batches_are_built_when_asked_for() -> None:
    dataset = Watched()
    passing = iter(loader(dataset, 0))
    next(passing)
    next(passing)
    assert dataset.num_built == 2
    assert dataset.threads == {threading.current_thread().name}


def test_workers_build_in_order_but_not_in_the_main_thread() -> None:
    dataset = Watched()
    assert [batch["row_ids"].item() for batch in loader(dataset, 2)] == list(range(NUM_ROWS))
    assert threading.current_thread().name not in dataset.threads
    assert of_the_loader() == []


def test_workers_do_not_run_far_ahead_and_end_with_a_pass_that_is_dropped() -> None:
    dataset = Watched()
    passing: Iterator[Batch] = iter(loader(dataset, 2))
    next(passing)
    assert of_the_loader() != []
    passing.close()  # type: ignore[attr-defined]
    assert of_the_loader() == []
    assert dataset.num_built <= 2 * AHEAD * AT_ONCE


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_goes_wrong_in_a_worker_is_raised_where_the_batch_is_asked_for(num_workers: int) -> None:
    with pytest.raises(RuntimeError, match="row 9 is damaged"):
        list(loader(Watched(fails_at=9), num_workers))
    assert of_the_loader() == []


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("has_accelerator", [False, True])
def test_batches_are_pinned_where_there_is_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, has_accelerator: bool, num_workers: int
) -> None:
    pinned = []

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: has_accelerator)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batch = next(iter(loader(Watched(), num_workers, pin_memory=True)))
    assert len(pinned) == (len(batch) if has_accelerator else 0)
