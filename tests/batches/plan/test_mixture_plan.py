"""Epochs of several sources: shares by hand, servings exact to the row, and every planner over them."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan import mixture_epochs
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.mixture_epochs import (
    EpochQuotas,
    MixedDraft,
    epoch_quotas,
    source_ledgers,
)
from mtx.batches.plan.mixture_options import MixtureSampling
from mtx.batches.plan.mixture_proportions import apportioned_counts, shares_by_temperature, shares_by_weight
from mtx.batches.plan.planner import Lengths, Plan, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.errors import ConfigError, EmptyDatasetError

PLANNERS: list[Planner] = [
    TokenBudgetPlanner(max_tokens=256),
    BucketPlanner(batch_size=8),
    RandomPlanner(batch_size=8),
    SequentialPlanner(batch_size=8),
    SortedPlanner(max_tokens=256),
]
EVERY_PLANNER = pytest.mark.parametrize("planner", PLANNERS, ids=lambda planner: type(planner).__name__)


def some_lengths(num_rows: int, seed: int = 0) -> Lengths:
    random = np.random.default_rng(seed)
    source = random.integers(1, 60, num_rows)
    return Lengths.of(source, np.maximum(1, source + random.integers(-5, 6, num_rows)))


def sources(*sizes: int) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    return np.repeat(np.arange(len(sizes)), sizes).astype(np.uint16)


def mixing(*sizes: int, weights: tuple[float, ...] | None = None, **options: object) -> MixtureSampling:
    parts: dict[str, object] = {"temperature": None, "epoch_pairs": None, "seed": 0, **options}
    names = tuple(f"source{number}" for number in range(len(sizes)))
    return MixtureSampling(names=names, source=sources(*sizes), weights=weights, **parts)  # type: ignore[arg-type]


def counts(servings: EpochQuotas, epoch: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.bincount(np.concatenate(servings.parts(seed=seed, epoch=epoch)), minlength=servings.num_rows)


def test_shares_by_weight_are_their_ratios() -> None:
    assert shares_by_weight([1, 3]).tolist() == [0.25, 0.75]
    assert shares_by_weight([2, 6]).tolist() == [0.25, 0.75]


def test_shares_by_temperature_worked_by_hand() -> None:
    assert shares_by_temperature([900, 100], 1).tolist() == pytest.approx([0.9, 0.1])
    assert shares_by_temperature([900, 100], 2).tolist() == pytest.approx([0.75, 0.25])  # √900 : √100 = 30 : 10
    assert shares_by_temperature([900, 100], 1e9).tolist() == pytest.approx([0.5, 0.5])


def test_quotas_add_up_and_go_to_the_largest_remainders() -> None:
    assert apportioned_counts([0.5, 0.3, 0.2], 7).tolist() == [4, 2, 1]  # 3.5, 2.1, 1.4
    assert apportioned_counts([1 / 3, 1 / 3, 1 / 3], 10).tolist() == [4, 3, 3], "of equal ones the first"
    assert apportioned_counts([0.25, 0.75], 0).tolist() == [0, 0]


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=6), st.integers(0, 10_000))
def test_quotas_are_within_one_of_the_share(weights: list[float], total: int) -> None:
    quotas = apportioned_counts(shares_by_weight(weights), total)
    assert quotas.sum() == total
    assert (np.abs(quotas - shares_by_weight(weights) * total) < 1 + 1e-6).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    data=st.data(),
    seed=st.integers(0, 5),
    start=st.integers(0, 50),
    epochs=st.integers(1, 8),
)
def test_every_row_of_a_source_is_served_equally_often_in_an_epoch_and_over_epochs(
    sizes: list[int], data: st.DataObject, seed: int, start: int, epochs: int
) -> None:
    total = data.draw(st.integers(4 * len(sizes), 200))
    weights = data.draw(st.lists(st.floats(0.5, 1), min_size=len(sizes), max_size=len(sizes)))
    source = sources(*sizes)
    servings = epoch_quotas(
        [f"s{k}" for k in range(len(sizes))], source, shares=shares_by_weight(weights), epoch_pairs=total
    )
    assert servings.quotas.sum() == total
    over_all = np.zeros(len(source), dtype=np.int64)
    for epoch in range(start, start + epochs):
        served = counts(servings, epoch, seed)
        over_all += served
        for number, size in enumerate(sizes):
            own = served[source == number]
            assert own.sum() == servings.quotas[number]
            assert set(own.tolist()) <= {servings.quotas[number] // size, -(-servings.quotas[number] // size)}
    for number in range(len(sizes)):
        own = over_all[source == number]
        assert own.max() - own.min() <= 1
        assert own.sum() == epochs * servings.quotas[number]


def test_an_undersampled_source_takes_turns() -> None:
    servings = epoch_quotas(["big", "small"], sources(6, 2), shares=[0.5, 0.5])
    seen = [counts(servings, epoch) for epoch in range(3)]
    assert [served[:6].sum() for served in seen] == [4, 4, 4]
    assert sum(seen).tolist() == [2, 2, 2, 2, 2, 2, 6, 6]  # type: ignore[union-attr]


def test_a_source_keeps_its_order_when_others_change() -> None:
    alone = epoch_quotas(["news"], sources(50), shares=[1], epoch_pairs=20)
    beside = epoch_quotas(["web", "news"], sources(30, 50), shares=[0.5, 0.5], epoch_pairs=40)
    for epoch in range(3):
        assert counts(alone, epoch).tolist() == counts(beside, epoch)[30:].tolist()


def test_servings_of_one_row_are_dealt_out_to_parts_of_equal_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_epochs, "MIN_PART_ROWS", 10)
    servings = epoch_quotas(["big", "small"], sources(30, 10), shares=[0.5, 0.5], epoch_pairs=60)
    assert servings.num_parts == 3  # each row of `small` three times, those of `big` once
    for epoch in range(3):
        parts = servings.parts(seed=0, epoch=epoch)
        assert [len(part) for part in parts] == [20, 20, 20]
        for part in parts:
            assert len(np.unique(part)) == len(part), "no row twice in a part"
            assert (part < 30).sum() == 10, "and each part has its share of each source"


def test_parts_do_not_become_small() -> None:
    assert epoch_quotas(["big", "small"], sources(300, 1), shares=[0.5, 0.5]).num_parts == 1


@EVERY_PLANNER
@pytest.mark.parametrize("least_part", [100, 10_000])
def test_epochs_have_one_number_of_batches_and_lose_nothing(
    planner: Planner, least_part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixture_epochs, "MIN_PART_ROWS", least_part)
    lengths, mixed = some_lengths(550), mixing(500, 50, weights=(1, 1))
    draft = mixed.draft(planner, lengths)
    for epoch in range(8):
        plan = draft.plan(seed=0, epoch=epoch)
        assert len(plan) == len(draft)
        ledger = plan.ledger()  # which adds up, or raises
        assert len(plan.rows) == 550
        assert ledger == {
            "num_pairs": 550,
            "batched": 325,
            "dropped_length": 0,
            "dropped_remainder": 0,
            "repeated": 225,
            "not_drawn": 225,
        }
        assert source_ledgers(plan, mixed.names, mixed.source) == {
            "source0": {
                "num_pairs": 500,
                "batched": 275,
                "dropped_length": 0,
                "dropped_remainder": 0,
                "not_drawn": 225,
                "repeated": 0,
                "drawn": 275,
            },
            "source1": {
                "num_pairs": 50,
                "batched": 50,
                "dropped_length": 0,
                "dropped_remainder": 0,
                "not_drawn": 0,
                "repeated": 225,
                "drawn": 275,
            },
        }


def as_lists(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


@EVERY_PLANNER
def test_a_plan_is_a_function_of_seed_and_epoch(planner: Planner) -> None:
    lengths, mixed = some_lengths(330), mixing(300, 30, weights=(1, 2))
    draft, again = mixed.draft(planner, lengths), pickle.loads(pickle.dumps(mixed)).draft(planner, lengths)
    assert as_lists(draft.plan(seed=0, epoch=3)) == as_lists(again.plan(seed=0, epoch=3))
    assert as_lists(draft.plan(seed=0, epoch=3)) == as_lists(pickle.loads(pickle.dumps(draft)).plan(seed=0, epoch=3))
    assert as_lists(draft.plan(seed=0, epoch=3)) != as_lists(draft.plan(seed=0, epoch=4))
    assert as_lists(draft.plan(seed=0, epoch=3)) != as_lists(draft.plan(seed=1, epoch=3))


def test_a_temperature_of_one_serves_every_pair_once() -> None:
    draft = mixing(97, 13, 31, temperature=1.0).draft(TokenBudgetPlanner(max_tokens=256), some_lengths(141))
    for epoch in range(3):
        ledger = draft.plan(seed=0, epoch=epoch).ledger()
        assert (ledger["batched"], ledger["repeated"], ledger["not_drawn"]) == (141, 0, 0)


def test_rows_that_are_too_long_are_in_no_quota() -> None:
    lengths = Lengths.of([10] * 8 + [90] * 2 + [20] * 5)
    excluded = np.zeros(15, dtype=np.bool_)
    excluded[0] = True
    mixed = mixing(10, 5, weights=(1, 1))
    plan = mixed.draft(TokenBudgetPlanner(max_tokens=40), lengths, excluded=excluded).plan(seed=0, epoch=0)
    assert plan.dropped_length.tolist() == [0, 8, 9]
    by_source = source_ledgers(plan, mixed.names, mixed.source)
    assert [of["drawn"] for of in by_source.values()] == [6, 6], "half of the 12 that can be served, each"
    assert plan.ledger()["dropped_remainder"] == 0


def test_what_a_planner_leaves_out_as_remainder_is_told() -> None:
    planner = RandomPlanner(batch_size=16, drop_last=True)
    plan = mixing(100, 10, weights=(1, 1)).draft(planner, some_lengths(110)).plan(seed=0, epoch=0)
    assert len(plan.rows) == 96, "six batches of the 110 servings"
    ledger = plan.ledger()
    left = ledger["batched"] + ledger["repeated"]
    assert left == 96
    assert ledger["dropped_remainder"] == ledger["num_pairs"] - ledger["batched"] - ledger["not_drawn"]


def test_lengths_that_change_are_excluded_in_their_epoch_alone() -> None:
    mixed = mixing(100, 20, weights=(1, 1))
    servings = mixed.epoch_quotas(RandomPlanner(batch_size=8), some_lengths(120))
    excluded = np.zeros(120, dtype=np.bool_)
    excluded[5:15] = True
    draft = servings.draft(RandomPlanner(batch_size=8), some_lengths(120, seed=1), excluded=excluded)
    assert isinstance(draft, MixedDraft)
    plan = draft.plan(seed=0, epoch=2)
    assert plan.dropped_length.tolist() == list(range(5, 15))
    assert plan.ledger()["num_pairs"] == 120


def test_a_limit_of_real_tokens_is_never_exceeded() -> None:
    random = np.random.default_rng(0)
    lengths = Lengths.of(random.integers(1, 20, 48), random.integers(1, 20, 48))
    draft = mixing(40, 8, weights=(1, 3)).draft(RandomTokensPlanner(real_tokens=60), lengths)
    tokens = lengths.source + lengths.target
    for epoch in range(12):  # some of them need merged batches
        plan = draft.plan(seed=3, epoch=epoch)
        assert len(plan) == len(draft)
        assert max(tokens[rows].sum() for rows in plan) <= 60


def test_the_longest_epoch_is_known_beforehand() -> None:
    servings = epoch_quotas(["big"], sources(6), shares=[1], epoch_pairs=3)
    cost = np.array([1, 1, 1, 10, 10, 10])
    sums = [int(cost[np.concatenate(servings.parts(seed=4, epoch=epoch))].sum()) for epoch in range(2)]
    circle = servings._row_cycle(0, 4)
    windows = [int(cost[np.roll(circle, -k)[:3]].sum()) for k in range(6)]
    assert servings.max_cost_ratio(cost, seed=4) == max(windows) / windows[0]
    assert set(sums) <= set(windows)
    assert servings.max_cost_ratio(np.zeros(6, dtype=np.int64), seed=4) == 1.0, "nothing costs no more than nothing"


def test_a_source_without_a_row_that_fits_is_an_error() -> None:
    mixed = mixing(10, 2, weights=(1, 1))
    with pytest.raises(
        EmptyDatasetError, match=r"all pairs of the source 'source1' of the mixture are too long.*max_source_tokens"
    ):
        mixed.draft(TokenBudgetPlanner(max_tokens=40), Lengths.of([10] * 10 + [90] * 2))


def test_a_share_of_less_than_a_pair_is_an_error() -> None:
    with pytest.raises(
        ConfigError,
        match=r"the source 'source1' of the mixture, but its share is 1e-06 of 12 pairs.*downloader\.weights",
    ):
        mixing(10, 2, weights=(1, 1e-6)).draft(RandomPlanner(batch_size=2), some_lengths(12))
