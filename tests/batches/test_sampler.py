"""Batch samplers as a DataLoader and Lightning use them."""

import doctest
import inspect
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Sampler

import mtx.batches.plan_batch_samplers
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.batches.plan_batch_samplers import BucketBatchSampler, PlanBatchSampler
from mtx.errors import ConfigError

WORDS = [5, 3, 9, 1, 2, 2, 8, 4, 4, 6, 7, 1]


class Sentences(torch.utils.data.Dataset[list[int]]):
    def __len__(self) -> int:
        return len(WORDS)

    def __getitem__(self, row: int) -> list[int]:
        return [row] * WORDS[row]


def pad(rows: list[list[int]]) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [-1] * (longest - len(row)) for row in rows])


def sampler(**options: Any) -> PlanBatchSampler:
    return PlanBatchSampler(TokenBudgetPlanner(max_tokens=12), Lengths.of(WORDS), **options)


def test_batches_are_lists_of_int_and_len_is_exact() -> None:
    made = sampler()
    batches = list(made)
    assert isinstance(made, Sampler)
    assert len(made) == len(batches)
    assert all(type(row) is int for rows in batches for row in rows)
    assert sorted(row for rows in batches for row in rows) == list(range(12))


def test_each_pass_is_the_next_epoch_until_one_is_set() -> None:
    made, told = sampler(seed=4), sampler(seed=4)
    passes = [list(made) for _ in range(3)]
    for epoch, batches in enumerate(passes):
        told.set_epoch(epoch)
        assert told.epoch == epoch
        assert list(told) == batches
    assert passes[0] != passes[1] != passes[2]
    made.set_epoch(1)
    assert list(made) == list(made) == passes[1]


def test_the_epoch_is_read_at_the_first_batch_not_when_iteration_is_set_up() -> None:
    made, told = sampler(), sampler()
    begun = iter(made)
    made.set_epoch(5)
    told.set_epoch(5)
    assert list(begun) == list(told)


def test_lightning_finds_set_epoch_on_the_sampler_of_the_batch_sampler() -> None:
    made = sampler()
    assert made.sampler is made


def test_seeds_differ() -> None:
    assert list(sampler(seed=1)) != list(sampler(seed=2))


def test_it_pickles_small_and_goes_on_where_it_was() -> None:
    made = sampler(seed=2, excluded=np.arange(12) == 2)
    size = len(pickle.dumps(made))
    list(made)
    again = pickle.loads(pickle.dumps(made))
    assert len(pickle.dumps(made)) == size, "without the draft"
    assert list(again) == list(made)


def test_the_ledger_counts_what_is_excluded() -> None:
    made = PlanBatchSampler(RandomPlanner(batch_size=4, drop_last=True), Lengths.of(WORDS), excluded=np.arange(12) == 2)
    assert made.ledger() == {
        "num_pairs": 12,
        "batched": 8,
        "dropped_length": 1,
        "dropped_remainder": 3,
        "repeated": 0,
    }


def test_repr_names_planner_rows_and_seed() -> None:
    made = PlanBatchSampler(SequentialPlanner(batch_size=5), Lengths.of(WORDS), seed=3)
    assert repr(made) == "PlanBatchSampler(SequentialPlanner(batch_size=5, drop_last=False), rows=12, seed=3)"


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_plain_data_loader_serves_the_batches(num_workers: int) -> None:
    made = sampler(seed=1)
    loader = DataLoader(Sentences(), batch_sampler=made, collate_fn=pad, num_workers=num_workers)
    expected = made.draft.plan(seed=1, epoch=0)
    assert len(loader) == len(expected)
    for batch, rows in zip(loader, expected, strict=True):
        assert batch[:, 0].tolist() == rows.tolist()
        assert batch.shape == (len(rows), max(WORDS[row] for row in rows))


def bucket_sampler(**options: Any) -> BucketBatchSampler:
    return BucketBatchSampler(bucket_ids=WORDS, **{"batch_size": 3, "len_key": WORDS, "drop_last": True, **options})


def test_the_signature_is_the_one_known() -> None:
    names = list(inspect.signature(BucketBatchSampler).parameters)
    assert names[:4] == ["bucket_ids", "batch_size", "len_key", "drop_last"]


@pytest.mark.parametrize("drop_last", [True, False])
def test_bucket_len_is_exact_with_partial_buckets(drop_last: bool) -> None:
    # up to 3: rows 1, 3, 4, 5, 11; up to 6: rows 0, 7, 8, 9; above: rows 2, 6, 10
    made = bucket_sampler(boundaries=[3, 6], drop_last=drop_last)
    for _ in range(5):
        batches = list(made)
        assert len(batches) == len(made) == (3 if drop_last else 5)
        assert {len(rows) for rows in batches} == ({3} if drop_last else {3, 2, 1})
        for rows in batches:
            assert len({np.searchsorted([3, 6], WORDS[row]) for row in rows}) == 1
    assert made.ledger()["dropped_remainder"] == (3 if drop_last else 0)


def test_batches_of_a_bucket_are_tight_by_len_key() -> None:
    random = np.random.default_rng(0)
    buckets, length = random.integers(0, 2, 600), random.integers(1, 100, 600)

    def spread(**options: Any) -> float:
        made = BucketBatchSampler(bucket_ids=buckets, batch_size=10, **options)
        assert all(len(set(buckets[rows])) == 1 for rows in made)
        return float(np.mean([np.ptp(length[rows]) for rows in made]))

    assert spread(len_key=length) < 0.1 * spread()


def test_bucket_numbers_given_as_ids_stay_apart() -> None:
    made = BucketBatchSampler(bucket_ids=[7] * 6 + [40] * 6, batch_size=4)
    assert sorted(map(sorted, made)) != sorted(map(sorted, made)), "each pass is another epoch"
    for rows in made:
        assert max(rows) < 6 or min(rows) >= 6


def test_few_rows_of_many_lengths_still_fill_batches() -> None:
    made = BucketBatchSampler(bucket_ids=list(range(40)), batch_size=16, len_key=list(range(40)), drop_last=True)
    assert len(list(made)) == len(made) == 2


def test_bucket_sampler_pickles() -> None:
    made = bucket_sampler(seed=3)
    made.set_epoch(2)
    assert list(pickle.loads(pickle.dumps(made))) == list(made)


def test_bucket_sampler_refuses_lists_of_different_length() -> None:
    with pytest.raises(
        ValueError,
        match=r"need one number for each row, but their lengths are 12 and 2\. Compute both from the same rows",
    ):
        bucket_sampler(len_key=[1, 2])


def test_bucket_sampler_refuses_what_is_no_number() -> None:
    with pytest.raises(ValueError, match="source lengths are integers, but are <U1"):
        BucketBatchSampler(bucket_ids=["a", "b"], batch_size=2)  # type: ignore[list-item]


def test_bucket_sampler_refuses_options_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"sampler\.batch_size is an integer of at least 1, but is 0"):
        bucket_sampler(batch_size=0)
    with pytest.raises(ConfigError, match=r"sampler\.boundaries is .*geometric"):
        bucket_sampler(boundaries="geometrical")


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(mtx.batches.plan_batch_samplers) == doctest.TestResults(failed=0, attempted=3)
