"""Which way a search goes, by what its jobs are compared by."""

from typing import Any

import pytest

from mtx.errors import ConfigError
from mtx.sweep.search_directions import check_search, search_directions


@pytest.mark.parametrize(
    ("objective", "direction", "expected"),
    [
        (None, None, "minimize"),
        ("padding_ratio", None, "minimize"),
        ("real_tokens_per_s", None, "maximize"),
        ("padding_ratio", "maximize", "maximize"),
        (["padding_ratio", "real_tokens_per_s"], None, ["minimize", "maximize"]),
        (["padding_ratio", "real_tokens_per_s"], "minimize", ["minimize", "minimize"]),
        (["padding_ratio", "num_batches"], ["minimize", "maximize"], ["minimize", "maximize"]),
        (["padding_ratio"], None, ["minimize"]),
        (None, ["minimize", "maximize"], ["minimize", "maximize"]),
    ],
)
def test_there_is_a_direction_for_each_objective(objective: Any, direction: Any, expected: Any) -> None:
    assert search_directions(objective, direction) == expected


@pytest.mark.parametrize(
    ("direction", "objective", "mtx_task"),
    [
        (None, ["padding_ratio", "num_batches"], True),
        ("minimize", None, True),
        ("maximize", "num_batches", True),
        (["minimize"], ["num_batches"], True),
        (["minimize", "maximize"], None, False),
    ],
)
def test_what_fits_is_taken(direction: Any, objective: Any, mtx_task: bool) -> None:
    check_search(direction, objective, mtx_task=mtx_task)


@pytest.mark.parametrize(
    ("direction", "objective", "told"),
    [
        ("least", None, r"direction is minimize or maximize, or a list of them, but is least"),
        (["minimize", None], None, r"or a list of them, but is \[minimize,null\]"),
        (
            "minimize",
            ["a", "b"],
            r"direction=minimize has 1 and sweep\.objective=\[a,b\] has 2\. Set .*=\[minimize,min",
        ),
        (["minimize"] * 2, "a", r"has 2 and sweep\.objective=a has 1\. Set hydra\.sweeper\.direction=minimize, or"),
    ],
)
def test_what_does_not_fit_is_told(direction: Any, objective: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        check_search(direction, objective, mtx_task=True)
