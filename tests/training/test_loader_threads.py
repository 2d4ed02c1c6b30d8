"""Workers are threads: they end with the pass, raise where the batch is asked for, and pinning needs an accelerator."""

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mtx.batches import collate_compiled
from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch
from mtx.batches.plan.planner import Draft, Plan
from mtx.batches.plan.rank_assignment import Item
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training import prefetch
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader
from mtx.training.prefetch import GROUPS_PER_THREAD, MAX_GROUP_BATCHES

NUM_ROWS = 100
PAIRS = EncodedPairs(*[TokenRows.of([[5]] * NUM_ROWS)] * 2)


class OneByOne(Draft):
    def __len__(self) -> int:
        return NUM_ROWS

    def plan(self, *, seed: int, epoch: int) -> Plan:
        none = np.empty(0, dtype=np.int32)
        numbers = np.arange(NUM_ROWS)
        return Plan(NUM_ROWS, numbers.astype(np.int32), np.arange(NUM_ROWS + 1), numbers, none, none)


class Watched(EncodedBatches):
    def __init__(self, fails_at: int | None = None) -> None:
        super().__init__(PAIRS, BatchFormat())
        self.fails_at = fails_at
        self.threads: set[str] = set()
        self.num_built = 0
        self.groups: list[int] = []

    def build_batches(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        self.threads.add(threading.current_thread().name)
        self.num_built += len(items)
        self.groups.append(len(items))
        if any(rows[0] == self.fails_at for rows in items):
            raise RuntimeError("row 9 is damaged")
        return super().build_batches(items, pin_memory=pin_memory)


def loader(dataset: EncodedBatches, num_workers: int, *, pin_memory: bool = False) -> PlanLoader:
    return PlanLoader(dataset, EpochBatches(OneByOne()), num_workers=num_workers, pin_memory=pin_memory)


def of_the_loader() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("mtx-loader")]


def test_without_workers_batches_are_built_when_asked_for() -> None:
    dataset = Watched()
    passing = iter(loader(dataset, 0))
    next(passing)
    assert dataset.num_built == 1
    next(passing)
    assert dataset.groups == [1, 2]
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
    assert dataset.num_built <= 2 * GROUPS_PER_THREAD * MAX_GROUP_BATCHES


@pytest.mark.parametrize("num_workers", [0, 2])
def test_what_goes_wrong_in_a_worker_is_raised_where_the_batch_is_asked_for(num_workers: int) -> None:
    with pytest.raises(RuntimeError, match="row 9 is damaged"):
        list(loader(Watched(fails_at=9), num_workers))
    assert of_the_loader() == []


@dataclass
class Accelerator:
    """What stands in for one: it says which tensors were made for it, and in which threads it was chosen."""

    pinned: list[torch.Tensor] = field(default_factory=list)
    chosen: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def accelerator(monkeypatch: pytest.MonkeyPatch) -> Accelerator:
    made, empty = Accelerator(), torch.empty

    def pinned_empty(*shape: object, pin_memory: bool = False, **options: object) -> torch.Tensor:
        tensor: torch.Tensor = empty(*shape, **options)  # type: ignore[call-overload]
        if pin_memory:
            made.pinned.append(tensor)
        return tensor

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        made.pinned.append(copy := tensor.clone())
        return copy

    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 1)
    monkeypatch.setattr(
        torch.accelerator,
        "set_device_index",
        lambda index: made.chosen.update({threading.current_thread().name: index}),
    )
    monkeypatch.setattr(torch, "empty", pinned_empty)
    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    return made


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("names", ["mtx", "huggingface"])
@pytest.mark.parametrize("compiled", [True, False])
def test_with_an_accelerator_all_tensors_are_made_in_pinned_memory(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, num_workers: int, names: Any, compiled: bool
) -> None:
    if not compiled:
        monkeypatch.setattr(collate_compiled, "compiled_kernels", lambda *types: None)
    dataset = EncodedBatches(PAIRS, BatchFormat(names=names))
    passing = iter(loader(dataset, num_workers, pin_memory=True))
    pointers = {tensor.data_ptr() for tensor in next(passing).values()}
    passing.close()  # type: ignore[attr-defined]
    assert pointers <= {tensor.data_ptr() for tensor in accelerator.pinned}


def test_threads_that_pin_use_the_accelerator_of_their_rank(accelerator: Accelerator) -> None:
    list(loader(Watched(), 2, pin_memory=True))
    assert set(accelerator.chosen.values()) == {1}
    assert all(name.startswith("mtx-loader") for name in accelerator.chosen)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_an_accelerator_nothing_is_pinned(
    accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    list(loader(Watched(), num_workers, pin_memory=True))
    assert accelerator.pinned == []
    assert accelerator.chosen == {}


def test_large_batches_are_built_one_by_one_and_small_ones_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def groups(dataset: Watched) -> list[int]:
        list(loader(dataset, 1))
        return dataset.groups

    assert groups(Watched())[:8] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert max(groups(Watched())) <= MAX_GROUP_BATCHES
    monkeypatch.setattr(prefetch, "MAX_GROUP_BYTES", 10)
    assert set(groups(Watched())) == {1}


def test_a_kept_tensor_keeps_nothing_else() -> None:
    batch = EncodedBatches(PAIRS, BatchFormat()).build_batches([np.arange(5)] * 4)[0]
    for name, tensor in batch.items():
        assert tensor.untyped_storage().nbytes() == tensor.nbytes, name
        buffer = io.BytesIO()
        torch.save(tensor, buffer)
        assert buffer.tell() < tensor.nbytes + 2000, name


def test_lightning_moves_a_batch() -> None:
    batch = EncodedBatches(PAIRS, BatchFormat())[np.arange(3)]
    moved = pl.LightningDataModule().transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert {name: (tensor.device.type, tensor.shape) for name, tensor in moved.items()} == {
        name: ("meta", tensor.shape) for name, tensor in batch.items()
    }
