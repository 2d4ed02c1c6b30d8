"""Lengths, plans and what is counted from them, by hand."""

import doctest

import numpy as np
import pytest

from mtx.batches.plan import planner
from mtx.batches.plan.planner import Lengths, Plan, batch_shapes, padding_ratios, random_generator


def a_plan() -> Plan:
    """Batches [3], [0, 2], [1, 4] of the cut; served: the last first. Row 5 is too long, row 6 is left over."""
    return Plan(
        num_rows=7,
        rows=np.array([3, 0, 2, 1, 4], dtype=np.int32),
        offsets=np.array([0, 1, 3, 5]),
        order=np.array([2, 0, 1]),
        dropped_length=np.array([5], dtype=np.int32),
        dropped_remainder=np.array([6], dtype=np.int32),
    )


LENGTHS = Lengths.of([2, 4, 3, 1, 5, 99, 2], [2, 3, 1, 2, 6, 99, 2])


def test_batches_come_in_serving_order() -> None:
    plan = a_plan()
    assert len(plan) == 3
    assert [rows.tolist() for rows in plan] == [[1, 4], [3], [0, 2]]
    assert plan[0].tolist() == [1, 4]


@pytest.mark.parametrize("batch", [-1, 3])
def test_a_batch_beyond_the_plan_is_an_index_error(batch: int) -> None:
    with pytest.raises(IndexError, match=f"numbered from 0 to 2, but {batch} was requested"):
        a_plan()[batch]


def test_the_ledger_adds_up() -> None:
    ledger = a_plan().ledger()
    assert ledger == {"num_pairs": 7, "batched": 5, "dropped_length": 1, "dropped_remainder": 1, "repeated": 0}
    assert ledger["num_pairs"] == ledger["batched"] + ledger["dropped_length"] + ledger["dropped_remainder"]


def test_a_row_served_twice_is_counted_as_repeated() -> None:
    plan = Plan(**{**vars(a_plan()), "rows": np.array([3, 0, 2, 1, 4, 4]), "offsets": np.array([0, 1, 3, 6])})
    assert plan.ledger()["batched"] == 5
    assert plan.ledger()["repeated"] == 1


@pytest.mark.parametrize(
    "change",
    [{"num_rows": 8}, {"dropped_length": np.array([], dtype=np.int32)}, {"dropped_remainder": np.array([4])}],
    ids=["more rows", "one forgotten", "one served and dropped"],
)
def test_a_plan_that_loses_a_row_does_not_pass(change: dict[str, object]) -> None:
    with pytest.raises(AssertionError, match="rows are lost or counted twice"):
        Plan(**{**vars(a_plan()), **change}).ledger()  # type: ignore[arg-type]


def test_shapes_are_pairs_and_longest_of_each_side_in_serving_order() -> None:
    assert batch_shapes(a_plan(), LENGTHS).tolist() == [[2, 5, 6], [1, 1, 2], [2, 3, 2]]
    assert batch_shapes(a_plan(), LENGTHS, length_multiple=4).tolist() == [[2, 8, 8], [1, 4, 4], [2, 4, 4]]


def test_padding_is_the_share_of_slots_that_hold_none() -> None:
    # source: 10 + 1 + 6 slots for 9 + 1 + 5 tokens; target: 12 + 2 + 4 slots for 9 + 2 + 3 tokens
    assert padding_ratios(a_plan(), LENGTHS) == pytest.approx(
        {"padding_ratio": 6 / 35, "source_padding_ratio": 2 / 17, "target_padding_ratio": 4 / 18}
    )
    assert padding_ratios(a_plan(), LENGTHS, length_multiple=4)["padding_ratio"] == pytest.approx((56 - 29) / 56)


def test_padding_of_nothing_is_zero() -> None:
    none = np.empty(0, dtype=np.int32)
    empty = Plan(0, none, np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int64), none, none)
    assert batch_shapes(empty, Lengths.of([])).shape == (0, 3)
    assert set(padding_ratios(empty, Lengths.of([])).values()) == {0.0}


def test_lengths_are_taken_from_any_integers_and_one_side_counts_for_both() -> None:
    lengths = Lengths.of([1, 2], np.array([3, 4], dtype=np.uint16))
    assert (lengths.source.dtype, lengths.target.dtype) == (np.int32, np.int32)
    assert Lengths.of([1, 2]).target.tolist() == [1, 2]
    assert len(Lengths.of([])) == 0


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ([1, 2], [1], r"two arrays \[n\] of one n, but their shapes are \(2,\) and \(1,\)"),
        ([[1]], [[1]], r"two arrays \[n\] of one n, but their shapes are \(1, 1\)"),
        ([1, -2], [1, 1], "source lengths are at least 0, but row 1 has -2"),
        ([1.0], [1], "source lengths are integers, but are float64"),
        ([1], ["a"], "target lengths are integers, but are <U1"),
        ([2**31], [1], r"source lengths are below 2\*\*31, but one is 2147483648"),
    ],
)
def test_lengths_that_are_none_are_refused(source: list[int], target: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Lengths.of(source, target)


def test_lengths_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match=r"source lengths are int32, but are int64\. Convert them with Lengths\.of"):
        Lengths(np.array([1]), np.array([1]))  # type: ignore[arg-type]


def test_generators_of_different_purposes_differ_and_equal_ones_agree() -> None:
    drawn = {
        (seed, epoch, purpose): random_generator(seed, epoch, purpose).integers(2**62)
        for seed in range(3)
        for epoch in range(3)
        for purpose in range(2)
    }
    assert len(set(drawn.values())) == len(drawn)
    assert random_generator(1, 2).integers(2**62) == drawn[1, 2, 0]


def test_the_examples_in_the_docstrings_hold() -> None:
    assert doctest.testmod(planner) == doctest.TestResults(failed=0, attempted=6)
