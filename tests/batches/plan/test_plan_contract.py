"""What every planner promises, whatever its options and whatever the lengths."""

import contextlib
import dataclasses
import pickle
import pkgutil
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Plan, Planner, batch_shapes
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.errors import ConfigError

CONF = Path(__file__).parents[3] / "conf" / "sampler"
# Values that make several batches of few rows, and some that make odd ones, for options of these names.
SMALL = {"max_tokens": 64, "real_tokens": 64, "batch_size": 4, "num_buckets": 3, "num_shapes": 5, "row_tokens": 64}
OTHERS: dict[str, list[Any]] = {
    "max_tokens": [1, 50],
    "real_tokens": [1, 50],
    "look_ahead": [1],
    "batch_size": [1, 1000],
    "max_pairs": [3],
    "row_tokens": [1, 200],
    "num_rows": [1, 3],
    "num_shapes": [32],
    "pool_batches": [1],
    "boundaries": ["geometric", "optimal", (5, 30)],
    "batch_multiple": [4],
    "length_multiple": [8],
    "window": [1000],
}


def planner_classes() -> list[type[Planner]]:
    """Return the classes that the YAML files of the group name: a new sampler needs no edit here."""
    targets = [yaml.safe_load(path.read_text())["_target_"] for path in sorted(CONF.glob("*.yaml"))]
    return [pkgutil.resolve_name(target) for target in targets]


def variants(planner: type[Planner]) -> Iterator[Planner]:
    """Make a planner with small values, and with each other value of each of its options alone, and all together."""
    hints = typing.get_type_hints(planner)
    fields = [field.name for field in dataclasses.fields(planner)]  # type: ignore[arg-type]
    small = {name: value for name, value in SMALL.items() if name in fields}
    yield planner(**small)
    together = dict(small)
    for name in fields:
        kind = hints[name]
        choices = [*typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else []
        values = [True, False] if kind is bool else OTHERS.get(name, choices)
        for value in values:
            try:
                made = planner(**{**small, name: value})
            except ConfigError:  # options that do not go together
                continue
            yield made
            together[name] = value
    with contextlib.suppress(ConfigError):
        yield planner(**together)


PLANNERS = list(dict.fromkeys(made for planner in planner_classes() for made in variants(planner)))
each_planner = pytest.mark.parametrize("planner", PLANNERS, ids=str)
rows_of_pairs = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80), st.booleans()), max_size=70)


def lengths_of(rows: list[tuple[int, int, bool]]) -> tuple[Lengths, np.ndarray[Any, np.dtype[np.bool_]]]:
    return (
        Lengths.of([source for source, _, _ in rows], [target for _, target, _ in rows]),
        np.array([excluded for _, _, excluded in rows], dtype=bool),
    )


def many(num_rows: int = 3000, longest: int = 40) -> Lengths:
    random = np.random.default_rng(5)
    source = random.integers(1, longest, num_rows)
    return Lengths.of(source, np.maximum(1, source + random.integers(-5, 6, num_rows)))


def as_lists(plan: Plan) -> list[list[int]]:
    return [rows.tolist() for rows in plan]


@each_planner
@settings(max_examples=30, deadline=None)  # for each of some 60 planners, which share most of their code
@given(rows=rows_of_pairs, seed=st.integers(0, 3), epoch=st.integers(0, 3))
def test_every_row_is_in_one_batch_or_counted_as_dropped(
    planner: Planner, rows: list[tuple[int, int, bool]], seed: int, epoch: int
) -> None:
    lengths, excluded = lengths_of(rows)
    draft = planner.draft(lengths, excluded=excluded)
    plan = draft.plan(seed=seed, epoch=epoch)

    batches = as_lists(plan)
    served = [row for batch in batches for row in batch]
    assert sorted([*served, *plan.dropped_length, *plan.dropped_remainder]) == list(range(len(rows)))
    assert set(np.flatnonzero(excluded)) <= set(plan.dropped_length.tolist())
    assert all(batches), "no batch is empty"
    assert len(batches) == len(plan) == len(draft) == len(draft.plan(seed=seed, epoch=epoch + 1))
    assert plan.ledger() == {
        "num_pairs": len(rows),
        "batched": len(served),
        "dropped_length": len(plan.dropped_length),
        "dropped_remainder": len(plan.dropped_remainder),
        "repeated": 0,
    }
    for dropped in (plan.dropped_length, plan.dropped_remainder):
        assert dropped.tolist() == sorted(dropped.tolist())
    if isinstance(planner, TokenBudgetPlanner):
        check_budget(planner, plan, lengths, excluded)
    elif isinstance(planner, SortedPlanner | StaticShapesPlanner):
        check_side_budget(planner, plan, lengths, excluded)
    elif isinstance(planner, RandomTokensPlanner):
        tokens = lengths.source.astype(np.int64) + lengths.target
        assert all(tokens[batch].sum() <= planner.real_tokens for batch in batches)
        assert plan.dropped_length.tolist() == np.flatnonzero(excluded | (tokens > planner.real_tokens)).tolist()
        assert len(plan.dropped_remainder) == 0
    elif isinstance(planner, PackedRowsPlanner):
        tokens = np.maximum(lengths.source.astype(np.int64) + lengths.target, 1)
        room = planner.row_tokens * planner.num_rows
        assert all(tokens[batch].sum() <= room for batch in batches)
        assert plan.dropped_length.tolist() == np.flatnonzero(excluded | (tokens > planner.row_tokens)).tolist()
        assert len(plan.dropped_remainder) == 0
    else:
        assert max((len(batch) for batch in batches), default=0) <= planner.batch_size  # type: ignore[attr-defined]
        assert plan.dropped_length.tolist() == np.flatnonzero(excluded).tolist()


def check_budget(
    planner: TokenBudgetPlanner, plan: Plan, lengths: Lengths, excluded: np.ndarray[Any, np.dtype[np.bool_]]
) -> None:
    for pairs, source, target in batch_shapes(plan, lengths, length_multiple=planner.length_multiple).tolist():
        tokens = pairs * (source + target if planner.budget == "area" else max(source, target))
        assert tokens <= planner.max_tokens or (planner.too_long == "alone" and pairs == 1)
        assert pairs <= (planner.max_pairs or pairs)
        assert pairs % planner.batch_multiple == 0 or pairs < planner.batch_multiple
    assert len(plan.dropped_remainder) == 0
    sides = (lengths.source, lengths.target)
    needed = [-(-side.astype(np.int64) // planner.length_multiple) * planner.length_multiple for side in sides]
    alone = needed[0] + needed[1] if planner.budget == "area" else np.maximum(*needed)
    too_long = (alone > planner.max_tokens) & (planner.too_long == "drop")
    assert plan.dropped_length.tolist() == np.flatnonzero(excluded | too_long).tolist()


def check_side_budget(
    planner: SortedPlanner | StaticShapesPlanner,
    plan: Plan,
    lengths: Lengths,
    excluded: np.ndarray[Any, np.dtype[np.bool_]],
) -> None:
    multiple = getattr(planner, "length_multiple", 1)
    for pairs, source, target in batch_shapes(plan, lengths, length_multiple=multiple).tolist():
        assert pairs * max(source, target) <= planner.max_tokens
        assert pairs <= (planner.max_pairs or pairs)
    needed = -(-np.maximum(lengths.source, lengths.target).astype(np.int64) // multiple) * multiple
    assert plan.dropped_length.tolist() == np.flatnonzero(excluded | (needed > planner.max_tokens)).tolist()


@each_planner
def test_the_same_seed_and_epoch_give_the_same_bytes_and_types(planner: Planner) -> None:
    first, again = (planner.plan(many(), seed=3, epoch=2) for _ in range(2))
    kinds = {"rows": "int32", "offsets": "int64", "order": "int64", "dropped_length": "int32"}
    for name, kind in {**kinds, "dropped_remainder": "int32"}.items():
        assert getattr(first, name).dtype == kind
        assert getattr(first, name).tobytes() == getattr(again, name).tobytes()
    if len(first):
        assert first[0].dtype == np.int64


@each_planner
def test_epochs_and_seeds_differ_where_rows_are_shuffled(planner: Planner) -> None:
    draft = planner.draft(many())
    plans = [as_lists(draft.plan(seed=seed, epoch=epoch)) for seed, epoch in ((0, 0), (0, 1), (1, 0))]
    if not plans[0]:
        return
    if getattr(planner, "shuffle", not isinstance(planner, SequentialPlanner)):
        assert plans[0] != plans[1] != plans[2] != plans[0]
        together = [{frozenset(batch) for batch in plan if len(batch) > 1} for plan in plans]
        assert not together[0] or len(together[0] & together[1]) < len(together[0]) / 2, "batches are formed anew"
    else:
        assert plans[0] == plans[1] == plans[2]


@each_planner
def test_global_random_state_is_neither_read_nor_changed(planner: Planner) -> None:
    np.random.seed(1)
    plan = as_lists(planner.plan(many(300), seed=0, epoch=0))
    np.random.seed(2)
    before = np.random.get_state()[1].tolist()  # type: ignore[call-overload, index]
    assert as_lists(planner.plan(many(300), seed=0, epoch=0)) == plan
    assert np.random.get_state()[1].tolist() == before  # type: ignore[call-overload, index]


@each_planner
def test_planner_and_draft_pickle(planner: Planner) -> None:
    assert pickle.loads(pickle.dumps(planner)) == planner
    assert hash(planner) == hash(pickle.loads(pickle.dumps(planner)))
    draft = planner.draft(many(300))
    again = pickle.loads(pickle.dumps(draft))
    assert as_lists(again.plan(seed=1, epoch=1)) == as_lists(draft.plan(seed=1, epoch=1))


@each_planner
def test_lengths_and_mask_are_left_as_they_were(planner: Planner) -> None:
    lengths, excluded = many(100), np.arange(100) % 7 == 0
    for array in (lengths.source, lengths.target, excluded):
        array.flags.writeable = False
    assert planner.plan(lengths, seed=0, epoch=0, excluded=excluded).ledger()["dropped_length"] >= 15


@each_planner
@pytest.mark.parametrize(
    "lengths", [[], [7], [7] * 30, [0] * 9, [1, 2**31 - 1]], ids=["none", "one", "equal", "zero", "huge"]
)
def test_odd_datasets_are_planned(planner: Planner, lengths: list[int]) -> None:
    ledger = planner.plan(Lengths.of(lengths), seed=0, epoch=0).ledger()
    assert ledger["num_pairs"] == len(lengths)


@each_planner
def test_everything_excluded_gives_no_batch(planner: Planner) -> None:
    plan = planner.plan(many(5), seed=0, epoch=0, excluded=np.ones(5, dtype=bool))
    assert len(plan) == 0
    assert plan.dropped_length.tolist() == [0, 1, 2, 3, 4]


@each_planner
def test_a_mask_of_another_shape_is_refused(planner: Planner) -> None:
    with pytest.raises(ValueError, match=r"excluded must be bool \[5\], but is bool \[4\]"):
        planner.draft(many(5), excluded=np.zeros(4, dtype=bool))


WRONG: list[tuple[type[Planner], dict[str, Any], str]] = [
    (
        TokenBudgetPlanner,
        {"max_tokens": 0},
        r"sampler\.max_tokens is an integer of at least 1, but is 0\. Set sampler\.",
    ),
    (TokenBudgetPlanner, {"max_tokens": 1.5}, r"sampler\.max_tokens .* but is 1\.5"),
    (TokenBudgetPlanner, {"max_tokens": True}, r"sampler\.max_tokens .* but is True"),
    (TokenBudgetPlanner, {"max_pairs": -1}, r"sampler\.max_pairs .* at least 1, or null, but is -1"),
    (TokenBudgetPlanner, {"batch_multiple": 0}, r"sampler\.batch_multiple .* from 1 to 65536, but is 0"),
    (TokenBudgetPlanner, {"length_multiple": 0}, r"sampler\.length_multiple .* from 1 to 65536, but is 0"),
    (TokenBudgetPlanner, {"window": 999}, r"sampler\.window .* at least 1000, or null, but is 999"),
    (TokenBudgetPlanner, {"budget": "are"}, r"sampler\.budget is one of area, side, but is 'are'"),
    (TokenBudgetPlanner, {"too_long": "keep"}, r"sampler\.too_long is one of .*drop.*, but is 'keep'"),
    (TokenBudgetPlanner, {"shuffle": "no"}, r"sampler\.shuffle is true or false, but is 'no'"),
    (BucketPlanner, {"batch_size": 0}, r"sampler\.batch_size .* at least 1, but is 0"),
    (BucketPlanner, {"num_buckets": 0}, r"sampler\.num_buckets .* at least 1, but is 0"),
    (BucketPlanner, {"pool_batches": 0}, r"sampler\.pool_batches .* at least 1, but is 0"),
    (BucketPlanner, {"by": "src"}, r"sampler\.by is one of .*source.*, but is 'src'"),
    (BucketPlanner, {"boundaries": "equal"}, r"sampler\.boundaries is equal_mass, .* but is 'equal'"),
    (BucketPlanner, {"boundaries": [5, 5]}, r"sampler\.boundaries is .* ascending .* but is \[5, 5\]\. Set 'sampler"),
    (BucketPlanner, {"boundaries": [-1, 5]}, r"sampler\.boundaries is .* at least 0, but is \[-1, 5\]"),
    (BucketPlanner, {"boundaries": [1.5]}, r"sampler\.boundaries is .*ascending lengths.* but is \[1\.5\]"),
    (BucketPlanner, {"boundaries": 5}, r"sampler\.boundaries is .*ascending lengths.* but is 5"),
    (BucketPlanner, {"drop_last": 1}, r"sampler\.drop_last is true or false, but is 1"),
    (BucketPlanner, {"shuffle": None}, r"sampler\.shuffle is true or false, but is None"),
    (RandomTokensPlanner, {"real_tokens": 0}, r"sampler\.real_tokens is an integer of at least 1, but is 0\. Set samp"),
    (RandomTokensPlanner, {"look_ahead": 0}, r"sampler\.look_ahead is an integer of at least 1, but is 0"),
    (PackedRowsPlanner, {"row_tokens": 0}, r"sampler\.row_tokens is an integer of at least 1, but is 0\. Set sampler"),
    (PackedRowsPlanner, {"num_rows": "2"}, r"sampler\.num_rows is an integer of at least 1, but is '2'"),
    (RandomPlanner, {"batch_size": -4}, r"sampler\.batch_size .* at least 1, but is -4"),
    (RandomPlanner, {"drop_last": "yes"}, r"sampler\.drop_last is true or false, but is 'yes'"),
    (SequentialPlanner, {"batch_size": "4"}, r"sampler\.batch_size .* at least 1, but is '4'"),
    (SequentialPlanner, {"drop_last": 0}, r"sampler\.drop_last is true or false, but is 0"),
    (SortedPlanner, {"max_tokens": 0}, r"sampler\.max_tokens .* at least 1, but is 0"),
    (SortedPlanner, {"max_pairs": 0}, r"sampler\.max_pairs .* at least 1, or null, but is 0"),
    (SortedPlanner, {"shuffle": 1}, r"sampler\.shuffle is true or false, but is 1"),
    (StaticShapesPlanner, {"num_shapes": 0}, r"sampler\.num_shapes .* at least 1, but is 0"),
    (
        StaticShapesPlanner,
        {"num_shapes": 1},
        r"sampler\.num_shapes must be at least 2 with .* but is 1\. Set sampler\.",
    ),
    (StaticShapesPlanner, {"max_tokens": "4k"}, r"sampler\.max_tokens .* at least 1, but is '4k'"),
    (StaticShapesPlanner, {"max_pairs": 0}, r"sampler\.max_pairs .* at least 1, or null, but is 0"),
    (StaticShapesPlanner, {"batch_multiple": 0}, r"sampler\.batch_multiple .* from 1 to 65536, but is 0"),
    (StaticShapesPlanner, {"length_multiple": 0}, r"sampler\.length_multiple .* from 1 to 65536, but is 0"),
    (StaticShapesPlanner, {"remainder": "fill"}, r"sampler\.remainder is one of .*keep.*, but is 'fill'"),
    (StaticShapesPlanner, {"shuffle": "yes"}, r"sampler\.shuffle is true or false, but is 'yes'"),
]


@pytest.mark.parametrize(("planner", "options", "message"), WRONG, ids=lambda value: str(value)[:40])
def test_an_option_out_of_range_is_named_with_rule_and_value(
    planner: type[Planner], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        planner(**options)


def test_every_sampler_of_the_configs_is_tried_in_several_ways() -> None:
    assert {type(planner) for planner in PLANNERS} == set(planner_classes())
    for planner in planner_classes():
        assert sum(type(one) is planner for one in PLANNERS) > 1


def test_each_option_that_is_checked_above_exists() -> None:
    for planner, options, _ in WRONG:
        assert set(options) <= {field.name for field in dataclasses.fields(planner)}  # type: ignore[arg-type]


@each_planner
def test_a_negative_epoch_is_refused_where_it_matters(planner: Planner) -> None:
    if getattr(planner, "shuffle", not isinstance(planner, SequentialPlanner)):
        with pytest.raises(ConfigError, match="seed and epoch must be at least 0, but are 0 and -1"):
            planner.plan(many(30), seed=0, epoch=-1)
