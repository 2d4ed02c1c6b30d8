"""Batches that are padded to the plan's widths, from the plan to the tensors."""

import pickle
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import warm_process
from torch.utils.data import DataLoader

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, collate_rows
from mtx.batches.pair_lengths import batch_lengths
from mtx.batches.plan.planner import Plan, batch_shapes
from mtx.batches.plan.rank_assignment import assigned_batches
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.plan_batch_samplers import PlanBatchSampler
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training.loader import EncodedBatches, EpochBatches, PlanLoader

random = np.random.default_rng(1)
LAYOUT = BatchFormat()
PAIRS = EncodedPairs(*(TokenRows.of([[9] * n for n in random.integers(0, 30, 201).tolist()]) for _ in range(2)))
LENGTHS = batch_lengths(PAIRS, LAYOUT)
DRAFT = StaticShapesPlanner(num_shapes=5, max_tokens=128).draft(LENGTHS)


def shape_of(batch: Batch) -> list[int]:
    assert batch["labels"].shape == batch["decoder_input_ids"].shape == batch["decoder_attn_mask"].shape
    return [*batch["encoder_input_ids"].shape, batch["labels"].shape[1]]


@pytest.mark.parametrize("compiled", [None, False])
def test_rows_are_padded_to_the_widths(compiled: bool | None) -> None:
    pairs = EncodedPairs(TokenRows.of([[7, 8], [9]]), TokenRows.of([[5], []]))
    batch = collate_rows(pairs, np.array([1, 0]), LAYOUT, widths=(5, 4), compiled=compiled)
    assert batch["encoder_input_ids"].tolist() == [[9, 2, 0, 0, 0], [7, 8, 2, 0, 0]]
    assert batch["encoder_attn_mask"].sum(dim=1).tolist() == [2, 3]
    assert batch["decoder_input_ids"].tolist() == [[1, 0, 0, 0], [1, 5, 0, 0]]
    assert batch["labels"].tolist() == [[2, 0, 0, 0], [5, 2, 0, 0]]
    assert batch["decoder_attn_mask"].sum(dim=1).tolist() == [1, 2]


@pytest.mark.parametrize("compiled", [None, False])
def test_no_row_is_cut_to_the_widths_and_the_multiple_still_holds(compiled: bool | None) -> None:
    pairs = EncodedPairs(TokenRows.of([[7] * 6]), TokenRows.of([[5]]))
    batch = collate_rows(pairs, np.array([0]), BatchFormat(length_multiple=4), widths=(3, 5), compiled=compiled)
    assert shape_of(batch) == [1, 8, 8]
    assert batch["encoder_attn_mask"].sum() == 7


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_have_the_shapes_that_the_plan_reports(num_workers: int) -> None:
    loader = PlanLoader(EncodedBatches(PAIRS, LAYOUT), EpochBatches(DRAFT), num_workers=num_workers)
    for epoch in range(2):
        served = [shape_of(batch) for batch in loader]
        assert served == batch_shapes(DRAFT.plan(seed=0, epoch=epoch), LENGTHS).tolist()
        assert len({tuple(shape) for shape in served}) <= 5


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [{}, {"num_workers": 2, "multiprocessing_context": "fork"}])
def test_a_plain_dataloader_serves_the_same(workers: dict[str, Any]) -> None:
    check_plain_dataloader(workers)


@pytest.mark.slow
def test_a_plain_dataloader_serves_the_same_from_processes_that_share_nothing() -> None:
    # As spawned ones, they get what they need by pickling alone; but what they import is imported once for all.
    warm_process.server()
    check_plain_dataloader({"num_workers": 2, "multiprocessing_context": "forkserver"})


def check_plain_dataloader(workers: dict[str, Any]) -> None:
    """Compare the batches of a DataLoader, over whole batches and over rows, with those of PlanLoader."""
    dataset = EncodedBatches(PAIRS, LAYOUT)
    expected = list(PlanLoader(dataset, EpochBatches(DRAFT)))
    same(list(DataLoader(dataset, sampler=EpochBatches(DRAFT), batch_size=None, **workers)), expected)

    plain = PlanBatchSampler(TokenBudgetPlanner(max_tokens=128), LENGTHS)
    expected = [collate_rows(PAIRS, rows, LAYOUT) for rows in plain.plan()]
    plain.set_epoch(0)
    same(list(DataLoader(dataset, sampler=plain, batch_size=None, **workers)), expected)
    numbers: Any = range(len(PAIRS))
    collate = partial(collated, dataset)
    same(list(DataLoader(numbers, batch_sampler=plain, collate_fn=collate, **workers)), expected)


def collated(dataset: EncodedBatches, rows: list[int]) -> Batch:
    return dataset[np.array(rows)]


def same(batches: list[Batch], expected: list[Batch]) -> None:
    assert len(batches) == len(expected) > 1
    for batch, other in zip(batches, expected, strict=True):
        assert list(batch) == list(other)
        assert all(torch.equal(batch[name], other[name]) for name in other)


def test_what_makes_batches_survives_pickling_before_and_after_its_use() -> None:
    dataset = EncodedBatches(PAIRS, LAYOUT)
    for _ in range(2):
        copy = pickle.loads(pickle.dumps(dataset))
        same([copy[np.arange(4)], copy[np.arange(5)]], [dataset[np.arange(4)], dataset[np.arange(5)]])


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
def test_each_rank_pads_to_the_widths_of_its_batches_split_ones_too(world_size: int) -> None:
    plan = DRAFT.plan(seed=0, epoch=0)
    widths_of_row = {row: widths for rows, widths in assigned_batches(plan, 1).items(rank=0) for row in rows.tolist()}
    assert {shape[1:] for shape in map(tuple, batch_shapes(plan, LENGTHS).tolist())} == set(widths_of_row.values())
    for rank in range(world_size):
        for rows, widths in assigned_batches(plan, world_size).items(rank=rank):
            assert {widths_of_row[row] for row in rows.tolist()} == {widths}


def test_a_plan_without_widths_asks_for_rows_alone() -> None:
    none = np.empty(0, dtype=np.int32)
    plan = Plan(3, np.array([2, 0, 1], dtype=np.int32), np.array([0, 2, 3]), np.array([1, 0]), none, none)
    assert [item.tolist() for item in assigned_batches(plan, 1).items(rank=0)] == [[1], [2, 0]]  # type: ignore[union-attr]
