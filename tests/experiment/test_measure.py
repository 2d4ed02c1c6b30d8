"""What is reported of an epoch, worked out by hand."""

import numpy as np
import pytest

from mtx.experiment.measure import batch_sizes, neighbour_correlation
from mtx.infra.dataset.plan.base import Lengths, Plan

LENGTHS = Lengths.of([2, 3, 5, 1], [4, 4, 1, 2])


def planned(order: list[int], sizes: tuple[int, ...] = (2, 2)) -> Plan:
    none = np.empty(0, dtype=np.int32)
    offsets = np.cumsum([0, *sizes])
    return Plan(4, np.arange(4, dtype=np.int32), offsets, np.array(order), none, none)


def test_padding_shapes_and_tokens() -> None:
    # batch 0: rows 0, 1: 2 x (3 + 4) slots, 13 real; batch 1: rows 2, 3: 2 x (5 + 2) slots, 9 real
    report = batch_sizes(planned([0, 1]), LENGTHS)
    assert report["padding_ratio"] == pytest.approx(1 - 22 / 28)
    assert report["source_padding_ratio"] == pytest.approx(1 - 11 / 16)
    assert report["target_padding_ratio"] == pytest.approx(1 - 11 / 12)
    assert report["num_shapes"] == 2
    assert report["max_padded_tokens"] == 10
    assert report["real_tokens"] == 22
    assert report["real_tokens_per_batch"]["mean"] == 11


def test_neighbours_correlate_where_batches_run_from_short_to_long() -> None:
    lengths = Lengths.of([1, 2, 3, 4])
    assert neighbour_correlation(planned([0, 1, 2, 3], (1, 1, 1, 1)), lengths) == pytest.approx(1)
    assert neighbour_correlation(planned([0, 3, 1, 2], (1, 1, 1, 1)), lengths) < 0


def test_no_correlation_of_few_batches_or_equal_ones() -> None:
    assert neighbour_correlation(planned([0, 1]), LENGTHS) == 0
    assert neighbour_correlation(planned([0, 1, 2, 3], (1, 1, 1, 1)), Lengths.of([7, 7, 7, 7])) == 0
