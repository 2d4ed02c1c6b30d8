"""Orders of batches that must not change: a run is repeated, or resumed by number, with another version of mtx.

Where a change is meant, write the file anew and say so in the changelog:

    MTX_WRITE_GOLDEN=1 python -m pytest tests/batches/plan/test_golden_orders.py
"""

import json
import os
from pathlib import Path

import pytest
from conf_options import options, target

from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.sorted import SortedPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner

GOLDEN = Path(__file__).with_name("golden_orders.json")
PLANNERS: dict[str, Planner] = {
    "token_budget": TokenBudgetPlanner(max_tokens=64),
    "token_budget, area, alone": TokenBudgetPlanner(max_tokens=40, budget="area", too_long="alone"),
    "token_budget, multiples": TokenBudgetPlanner(max_tokens=96, batch_multiple=2, length_multiple=4),
    "token_budget, sorted": TokenBudgetPlanner(max_tokens=64, shuffle=False),
    "bucket": BucketPlanner(batch_size=5, num_buckets=4),
    "bucket, drop_last": BucketPlanner(batch_size=5, boundaries="optimal", num_buckets=3, drop_last=True),
    "random": RandomPlanner(batch_size=7),
    "random_tokens": RandomTokensPlanner(real_tokens=96),
    "packed_rows": PackedRowsPlanner(row_tokens=64, num_rows=2),
    "sequential": SequentialPlanner(batch_size=7),
    "sorted": SortedPlanner(max_tokens=64),
    "sorted, not shuffled": SortedPlanner(max_tokens=64, shuffle=False),
    "static_shapes": StaticShapesPlanner(num_shapes=4, max_tokens=64),
    "static_shapes, drop": StaticShapesPlanner(num_shapes=3, max_tokens=96, remainder="drop", batch_multiple=2),
}


def lengths() -> Lengths:
    rows = range(40)
    source = [1 + row * 7919 % 23 for row in rows]
    return Lengths.of(
        source, [max(1, length + row * 104_729 % 9 - 4) for row, length in zip(rows, source, strict=True)]
    )


def orders(planner: Planner) -> dict[str, list[list[int]]]:
    plans = {
        f"seed {seed}, epoch {epoch}": planner.plan(lengths(), seed=seed, epoch=epoch)
        for seed, epoch in ((0, 0), (0, 1), (7, 0))
    }
    return {name: [rows.tolist() for rows in plan] for name, plan in plans.items()}


@pytest.mark.skipif("MTX_WRITE_GOLDEN" not in os.environ, reason="writes the golden file only when told to")
def test_renew() -> None:
    golden = {name: orders(planner) for name, planner in PLANNERS.items()}
    text = json.dumps(golden, indent=1)
    for plan in (plan for planned in golden.values() for plan in planned.values()):
        text = text.replace(json.dumps(plan, indent=1).replace("\n", "\n  "), json.dumps(plan))
    GOLDEN.write_text(text + "\n")


@pytest.mark.parametrize("name", PLANNERS)
def test_orders_are_as_they_were(name: str) -> None:
    assert orders(PLANNERS[name]) == json.loads(GOLDEN.read_text())[name]


def test_the_golden_file_has_no_order_that_is_not_checked() -> None:
    assert set(json.loads(GOLDEN.read_text())) == set(PLANNERS)


def test_every_sampler_has_a_golden_order() -> None:
    assert {type(planner) for planner in PLANNERS.values()} == {target("sampler", name) for name in options("sampler")}
