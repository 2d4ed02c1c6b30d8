"""Few shapes: exactly as many as allowed, the same in all epochs, and rows that fit them."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.planner import Lengths, batch_shapes, padding_ratios
from mtx.batches.plan.static_shapes import Remainder, StaticShapesPlanner

NUM_ROWS = 20_001  # with which the largest shape is left with a batch that is not full, so that its shape counts


def corpus(num_rows: int = 20_000) -> Lengths:
    random = np.random.default_rng(0)
    source = np.clip(random.lognormal(2, 0.8, num_rows), 1, 200).astype(int)
    return Lengths.of(source, np.clip(source * random.lognormal(0, 0.3, num_rows), 1, 200).astype(int))


def all_shapes(planner: StaticShapesPlanner, lengths: Lengths, *, num_epochs: int) -> set[tuple[int, ...]]:
    """Return the different shapes of some epochs together."""
    draft = planner.draft(lengths)
    multiple = planner.length_multiple
    plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(num_epochs)]
    return {tuple(shape) for plan in plans for shape in batch_shapes(plan, lengths, length_multiple=multiple).tolist()}


def test_leftovers_move_on_to_the_next_larger_shape() -> None:
    lengths = Lengths.of([2, 2, 2, 2, 2, 6, 6, 6], [3, 3, 3, 3, 3, 5, 5, 6])
    # Of five pairs of (2, 3) four fill 12 positions; the fifth is served at (6, 6) with one of the long ones.
    planner = StaticShapesPlanner(num_shapes=3, max_tokens=12, shuffle=False)
    plan = planner.plan(lengths, seed=0, epoch=0)
    assert batch_shapes(plan, lengths).tolist() == [[4, 2, 3], [2, 6, 6], [2, 6, 6]]
    assert [rows.tolist() for rows in plan] == [[0, 1, 2, 3], [5, 6], [7, 4]]
    assert planner.draft(lengths).edges(seed=0, epoch=0) == {"source": [2], "target": [3]}


@pytest.mark.parametrize(
    ("remainder", "batches"), [("keep", [[2, 4, 4], [2, 4, 4], [1, 4, 4]]), ("drop", [[2, 4, 4]] * 2)]
)
def test_what_fills_no_batch_of_the_largest_shape_is_kept_or_dropped(
    remainder: Remainder, batches: list[list[int]]
) -> None:
    lengths = Lengths.of([4] * 5)
    draft = StaticShapesPlanner(num_shapes=2, max_tokens=8, remainder=remainder).draft(lengths)
    plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(20)]
    assert all(sorted(batch_shapes(plan, lengths).tolist()) == sorted(batches) for plan in plans)
    dropped = {tuple(plan.dropped_remainder.tolist()) for plan in plans}
    assert dropped == ({()} if remainder == "keep" else {(0,), (1,), (2,), (3,), (4,)})


@pytest.mark.parametrize("remainder", ["keep", "drop"])
@pytest.mark.parametrize("num_shapes", [2, 16, 32])
def test_shapes_of_all_epochs_are_exactly_as_many_as_allowed(num_shapes: int, remainder: Remainder) -> None:
    planner = StaticShapesPlanner(num_shapes=num_shapes, max_tokens=512, remainder=remainder)
    assert len(all_shapes(planner, corpus(NUM_ROWS), num_epochs=3)) == num_shapes


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=80),
    num_shapes=st.integers(2, 8),
    remainder=st.sampled_from(["keep", "drop"]),
    batch_multiple=st.sampled_from([1, 3]),
    length_multiple=st.sampled_from([1, 8, 12]),
)
def test_shapes_are_never_more_than_allowed_and_hold_their_rows(
    rows: list[tuple[int, int]], num_shapes: int, remainder: Remainder, batch_multiple: int, length_multiple: int
) -> None:
    lengths = Lengths.of([source for source, _ in rows], [target for _, target in rows])
    planner = StaticShapesPlanner(
        num_shapes=num_shapes,
        max_tokens=70,
        remainder=remainder,
        batch_multiple=batch_multiple,
        length_multiple=length_multiple,
    )
    assert len(all_shapes(planner, lengths, num_epochs=3)) <= num_shapes
    plan = planner.plan(lengths, seed=0, epoch=0)
    assert plan.widths is not None
    assert not (plan.widths % length_multiple).any()
    num_odd = 0
    for batch, (pairs, *widths) in zip(plan, batch_shapes(plan, lengths, length_multiple=length_multiple), strict=True):
        assert len(batch) == pairs
        assert (lengths.source[batch] <= widths[0]).all()
        assert (lengths.target[batch] <= widths[1]).all()
        num_odd += bool(pairs % batch_multiple) and bool(pairs > batch_multiple)
    assert num_odd <= (remainder == "keep")


def test_32_shapes_pad_far_less_than_32_percentile_buckets() -> None:
    lengths = corpus()
    edges = np.unique(np.quantile(lengths.source, np.arange(1, 33) / 32, method="higher"))
    bucket = np.searchsorted(edges, lengths.source)
    parts = [bucket == number for number in np.unique(bucket)]
    slots = sum(int(part.sum() * (lengths.source[part].max() + lengths.target[part].max())) for part in parts)
    percentile = 1 - int(lengths.source.sum() + lengths.target.sum()) / slots
    planned = padding_ratios(StaticShapesPlanner().plan(lengths, seed=0, epoch=0), lengths)["padding_ratio"]
    assert planned < 0.5 * percentile


def test_more_shapes_pad_less() -> None:
    lengths = corpus()
    ratios = [
        padding_ratios(StaticShapesPlanner(num_shapes=number).plan(lengths, seed=0, epoch=0), lengths)["padding_ratio"]
        for number in (4, 16, 64)
    ]
    assert ratios == sorted(ratios, reverse=True)


def test_a_corpus_too_small_to_fill_many_shapes_gets_few_and_pads_no_more_for_it() -> None:
    lengths = corpus(2000)
    plans = [StaticShapesPlanner(num_shapes=number).plan(lengths, seed=0, epoch=0) for number in (32, 16, 8, 4)]
    ratios = [padding_ratios(plan, lengths)["padding_ratio"] for plan in plans]
    assert ratios[0] <= 1.02 * min(ratios)
    assert len(np.unique(batch_shapes(plans[0], lengths), axis=0)) < 20


def test_padding_counts_up_to_the_shapes() -> None:
    lengths = Lengths.of([1, 1, 1, 4], [1, 1, 1, 4])
    plan = StaticShapesPlanner(num_shapes=2, max_tokens=16).plan(lengths, seed=0, epoch=0)
    assert batch_shapes(plan, lengths).tolist() == [[4, 4, 4]]
    assert padding_ratios(plan, lengths)["padding_ratio"] == (32 - 14) / 32


@pytest.mark.slow
def test_two_million_pairs_are_planned_in_seconds() -> None:
    lengths = corpus(2_000_000)
    started = time.perf_counter()
    StaticShapesPlanner().plan(lengths, seed=0, epoch=0)
    assert time.perf_counter() - started < 6  # 2 s at most on a quiet machine
