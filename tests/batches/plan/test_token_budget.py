"""The token budget's batches by hand, and what sets it apart: little padding, fresh batches, a fixed number."""

from typing import Any

import numpy as np
import pytest

from mtx.batches.plan import token_budget
from mtx.batches.plan.planner import Int, Lengths, Plan, batch_shapes, padding_ratios
from mtx.batches.plan.snake_order import SnakeOrder
from mtx.batches.plan.token_budget import TokenBudgetPlanner


def like_text(num_rows: int) -> Lengths:
    """Lengths as of sentences: a log-normal source, and a target some 1.1 times as long, more or less."""
    random = np.random.default_rng(11)
    source = np.exp(random.normal(2.3, 0.9, num_rows))
    target = 1.1 * source * np.exp(random.normal(0, 0.25, num_rows))
    return Lengths.of(*(np.clip(side, 1, 250).astype(np.int32) for side in (source, target)))


TEXT = like_text(30_000)


def sorted_padding(lengths: Lengths, max_tokens: int) -> tuple[float, int]:
    """Padding and number of batches of the usual way: sort by (source, target), fill one batch after the other."""
    order = np.lexsort((lengths.target, lengths.source))
    slots = num_batches = pairs = source = target = 0
    for new_source, new_target in zip(lengths.source[order].tolist(), lengths.target[order].tolist(), strict=True):
        if (pairs + 1) * max(source, new_source, target, new_target) > max_tokens:
            slots, num_batches = slots + pairs * (source + target), num_batches + 1
            pairs = source = target = 0
        pairs, source, target = pairs + 1, max(source, new_source), max(target, new_target)
    slots += pairs * (source + target)
    return 1 - int(lengths.source.sum() + lengths.target.sum()) / slots, num_batches + 1


def batches(plan: Plan) -> list[list[int]]:
    return [sorted(rows.tolist()) for rows in plan]


#                       0  1  2  3  4  5  6  7  8  9
BY_HAND = Lengths.of([2, 3, 2, 2, 4, 2, 3, 2, 2, 2], [2, 3, 2, 2, 6, 2, 3, 2, 2, 2])


def test_ten_pairs_by_hand() -> None:
    # 12 tokens hold 6 pairs of length 2. The seventh goes with the two of length 3: 3 × 3 = 9. Then 2 × 6 = 12 would
    # still be in the budget, but there is only one pair of length 6.
    plan = TokenBudgetPlanner(max_tokens=12, shuffle=False).plan(BY_HAND, seed=0, epoch=0)
    assert batches(plan) == [[0, 2, 3, 5, 7, 8], [1, 6, 9], [4]]
    assert batch_shapes(plan, BY_HAND).tolist() == [[6, 2, 2], [3, 3, 3], [1, 4, 6]]
    assert padding_ratios(plan, BY_HAND)["padding_ratio"] == pytest.approx(2 / 52)


def test_ten_pairs_shuffled_have_the_same_shapes_and_the_long_pair_alone() -> None:
    draft = TokenBudgetPlanner(max_tokens=12).draft(BY_HAND)
    plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(30)]
    assert {len(plan) for plan in plans} == {3}
    assert all([4] in batches(plan) for plan in plans)
    with_row_1 = {tuple(batch) for plan in plans for batch in batches(plan) if 1 in batch}
    assert len(with_row_1) > 3, "any of the seven pairs of length 2 may fill up the batch of length 3"
    assert len({tuple(map(tuple, batches(plan))) for plan in plans}) > 20


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_pairs": 4}, [[0, 2, 3, 5], [7, 8, 9], [1, 6], [4]]),
        ({"max_tokens": 5}, [[0, 2], [3, 5], [7, 8], [9], [1], [6]]),
        ({"max_tokens": 5, "too_long": "alone"}, [[0, 2], [3, 5], [7, 8], [9], [1], [6], [4]]),
        ({"budget": "area"}, [[0, 2, 3], [5, 7, 8], [1, 9], [6], [4]]),
        ({"length_multiple": 4}, [[0, 1, 2], [3, 5, 6], [7, 8, 9], [4]]),
        ({"batch_multiple": 2}, [[0, 2, 3, 5, 7, 8], [1, 9], [4, 6]]),
    ],
    ids=str,
)
def test_options_by_hand(options: dict[str, Any], expected: list[list[int]]) -> None:
    planner = TokenBudgetPlanner(**{"max_tokens": 12, "shuffle": False, **options})
    assert batches(planner.plan(BY_HAND, seed=0, epoch=0)) == expected


def test_a_pair_above_the_budget_is_dropped_and_counted_with_those_excluded() -> None:
    excluded = np.arange(10) == 9
    plan = TokenBudgetPlanner(max_tokens=5).plan(BY_HAND, seed=0, epoch=0, excluded=excluded)
    assert plan.dropped_length.tolist() == [4, 9]


def test_the_rounded_length_decides_on_what_is_too_long() -> None:
    lengths = Lengths.of([7, 9], [1, 1])
    assert TokenBudgetPlanner(max_tokens=9).plan(lengths, seed=0, epoch=0).dropped_length.tolist() == []
    rounded = TokenBudgetPlanner(max_tokens=9, length_multiple=8).plan(lengths, seed=0, epoch=0)
    assert rounded.dropped_length.tolist() == [1]
    area = TokenBudgetPlanner(max_tokens=9, budget="area").plan(lengths, seed=0, epoch=0)
    assert area.dropped_length.tolist() == [1]


@pytest.mark.parametrize("max_tokens", [1024, 2048, 8192])
def test_padding_is_about_half_of_a_sort_at_fewer_batches(max_tokens: int) -> None:
    plan = TokenBudgetPlanner(max_tokens=max_tokens).plan(TEXT, seed=0, epoch=0)
    sort, num_batches = sorted_padding(TEXT, max_tokens)
    assert padding_ratios(plan, TEXT)["padding_ratio"] < 0.52 * sort
    assert len(plan) <= num_batches
    used = np.maximum(TEXT.source, TEXT.target).sum() / max_tokens
    assert len(plan) < 1.05 * used + 3, "batches are full"


def test_smaller_windows_pad_more_and_stay_in_the_budget() -> None:
    ratios = []
    for window in (None, 10_000, 1000):
        draft = TokenBudgetPlanner(max_tokens=2048, window=window).draft(TEXT)
        plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(2)]
        assert {len(plan) for plan in plans} == {len(draft)}
        for plan in plans:
            assert plan.ledger()["batched"] == len(TEXT)
            pairs, source, target = batch_shapes(plan, TEXT).T
            assert (pairs * np.maximum(source, target)).max() <= 2048
        ratios.append(padding_ratios(plans[0], TEXT)["padding_ratio"])
        if window:
            assert len(set(batches(plans[0])[0]) & {row for rows in batches(plans[1])[:1] for row in rows}) < 10
    assert ratios[0] < 0.7 * ratios[1] < 0.5 * ratios[2]


@pytest.mark.parametrize("window", [None, 5000])
def test_rows_meet_others_in_each_epoch(window: int | None) -> None:
    draft = TokenBudgetPlanner(max_tokens=2048, window=window).draft(TEXT)
    first, second = (draft.plan(seed=0, epoch=epoch) for epoch in range(2))
    home = np.empty(len(TEXT), dtype=np.int64)
    for number, rows in enumerate(second):
        home[rows] = number
    kept = []  # of each batch, the share of the pairs that are together again
    for rows in first:
        count = np.bincount(home[rows])
        if len(rows) > 1:
            kept.append((count * (count - 1)).sum() / (len(rows) * (len(rows) - 1)))
    assert np.mean(kept) < 0.6


def test_batches_of_the_cut_cost_about_as_much_as_their_neighbours_and_are_served_in_random_order() -> None:
    plan = TokenBudgetPlanner(max_tokens=1024).plan(TEXT, seed=0, epoch=0)
    served = batch_shapes(plan, TEXT)[:, 1:].max(axis=1)
    cut = np.empty_like(served)
    cut[plan.order] = served

    def correlation(longest: np.ndarray[Any, Any]) -> float:
        return float(np.corrcoef(longest[:-1], longest[1:])[0, 1])

    assert correlation(cut) > 0.95
    assert abs(correlation(served)) < 0.1


def test_the_number_of_batches_holds_where_no_way_to_cut_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    draft = TokenBudgetPlanner(max_tokens=2048).draft(TEXT)
    monkeypatch.setattr(token_budget, "MAX_ATTEMPTS", 0)
    plans = [draft.plan(seed=0, epoch=epoch) for epoch in range(2)]
    assert {len(plan) for plan in plans} == {len(draft)}
    assert batches(plans[0]) != batches(plans[1]), "rows of equal lengths still change places"
    assert plans[0].ledger()["batched"] == len(TEXT)


def test_each_epoch_places_the_bands_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    ways = []
    order = SnakeOrder.order

    def noted(snake: SnakeOrder, *, phase: float = 0.0, is_reversed: bool = False) -> Int:
        ways.append((phase, is_reversed))
        return order(snake, phase=phase, is_reversed=is_reversed)

    draft = TokenBudgetPlanner(max_tokens=2048).draft(TEXT)
    monkeypatch.setattr(SnakeOrder, "order", noted)
    for epoch in range(12):
        draft.plan(seed=0, epoch=epoch)
    assert {turned for _, turned in ways} == {False, True}
    assert len({phase for phase, _ in ways}) == len(ways)


def test_a_shuffled_plan_has_one_batch_in_two_hundred_to_spare() -> None:
    shuffled, fixed = (
        len(TokenBudgetPlanner(max_tokens=512, shuffle=shuffle).draft(TEXT)) for shuffle in (True, False)
    )
    assert shuffled == fixed + fixed // 200
