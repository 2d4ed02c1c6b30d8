"""Tests of building batches a few at a time and ahead of time."""

from collections.abc import Iterator

import pytest
import torch

from mtx.batches.collate import Batch
from mtx.training import prefetch
from mtx.training.prefetch import grouped_batches, prefetched_batches


def batch(number: int, num_bytes: int) -> Batch:
    return {"row_ids": torch.full((num_bytes // 8,), number)}


class Builder:
    """Builds numbered batches, and keeps the sizes of the groups that were asked for; `broken` cannot be built."""

    def __init__(self, num_bytes: int, broken: int | None = None) -> None:
        self.num_bytes, self.broken, self.sizes = num_bytes, broken, list[int]()

    def __call__(self, items: list[int]) -> list[Batch]:
        self.sizes.append(len(items))
        if self.broken in items:
            raise IndexError(self.broken)
        return [batch(item, self.num_bytes) for item in items]


def numbers(batches: Iterator[Batch]) -> list[int]:
    return [int(made["row_ids"][0]) for made in batches]


@pytest.mark.parametrize("num_batches", [0, 1, 2, 9, 40])
@pytest.mark.parametrize("num_bytes", [8, prefetch.MAX_UNTHREADED_BYTES // 4, 2 * prefetch.MAX_UNTHREADED_BYTES])
def test_groups_are_in_order_and_bounded_in_bytes(num_batches: int, num_bytes: int) -> None:
    build = Builder(num_bytes)
    assert numbers(grouped_batches(build, iter(range(num_batches)))) == list(range(num_batches))
    assert sum(build.sizes) == num_batches
    assert build.sizes[:1] == [1][:num_batches]  # the first batch does not wait for others
    most = min(max(prefetch.MAX_UNTHREADED_BYTES // num_bytes, 1), prefetch.MAX_GROUP_BATCHES)
    assert all(size <= most for size in build.sizes)


@pytest.mark.parametrize("num_threads", [0, 2])
def test_a_group_has_as_many_batches_as_fit_if_all_are_as_large_as_the_largest(num_threads: int) -> None:
    sizes = list[int]()

    def build(items: list[int]) -> list[Batch]:
        sizes.append(len(items))
        return [batch(item, 8 if item % 16 == 0 else prefetch.MAX_GROUP_BYTES) for item in items]

    asked = iter(range(50))
    made = prefetched_batches(build, asked, num_threads) if num_threads else grouped_batches(build, asked)
    assert numbers(made) == list(range(50))
    assert max(sizes) == 2  # the first batch is small, so two are built at once, of which one is large


def test_no_item_is_taken_before_its_group_is_due() -> None:
    asked = iter(range(100))
    made = grouped_batches(Builder(prefetch.MAX_UNTHREADED_BYTES // 4), asked)
    next(made)
    assert next(asked) == 1  # only the first item was taken


def test_batches_before_a_broken_group_are_served() -> None:
    made = grouped_batches(Builder(prefetch.MAX_UNTHREADED_BYTES, broken=2), iter(range(4)))
    assert [int(next(made)["row_ids"][0]) for _ in range(2)] == [0, 1]
    with pytest.raises(IndexError):
        next(made)


def test_threads_and_groups_build_the_same_batches() -> None:
    threaded = numbers(prefetched_batches(Builder(64), iter(range(50)), 2))
    assert threaded == numbers(grouped_batches(Builder(64), iter(range(50)))) == list(range(50))
