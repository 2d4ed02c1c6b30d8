"""Options: declared once, checked where an object is made and where a config is checked."""

import copy
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import FrozenInstanceError, replace
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pytest
from pydantic import Field

from mtx.components.check_and_build import check_config
from mtx.components.checked_options import (
    Count,
    Natural,
    Probability,
    Seconds,
    checked,
    component,
    describe,
    problem_of,
)
from mtx.components.identity import identity
from mtx.errors import ConfigError


@component("part")
class Part:
    kind: ClassVar[str] = "part/one"
    version: ClassVar[int] = 1

    count: Count = 5
    limit: Count | None = None
    share: Probability = 0.1
    ratio: float | None = None
    mode: Literal["fast", "slow"] = "fast"
    flag: bool = True
    edges: Literal["equal"] | Sequence[int] = "equal"
    names: Annotated[tuple[str, str] | None, Field(strict=False)] = None
    size: Annotated[int, Field(ge=260, description="256 bytes and 4 special tokens")] = 300
    weights: Mapping[str, Annotated[float, Field(gt=0)]] | None = None

    def __post_init__(self) -> None:
        if self.count == 13:
            raise ConfigError("part.count=13 is refused")


@component("part")
class LargerPart(Part):
    needed: str


WRONG = [
    ({"count": 0}, "part.count is an integer of at least 1, but is 0. Set part.count=1 or more"),
    ({"count": "8"}, "part.count is an integer of at least 1, but is '8'. Set part.count=1 or more"),
    ({"count": 8.0}, "part.count is an integer of at least 1, but is 8.0. Set part.count=1 or more"),
    ({"count": True}, "part.count is an integer of at least 1, but is True. Set part.count=1 or more"),
    ({"limit": 0}, "part.limit is an integer of at least 1, or null, but is 0. Set part.limit=1 or more"),
    ({"share": 2}, "part.share is a number from 0 to 1, but is 2. Set part.share=1 or less"),
    ({"share": -1}, "part.share is a number from 0 to 1, but is -1. Set part.share=0 or more"),
    ({"ratio": float("nan")}, "part.ratio is a number, or null, but is nan. Set part.ratio=null, or leave it out"),
    ({"ratio": float("inf")}, "part.ratio is a number, or null, but is inf. Set part.ratio=null, or leave it out"),
    ({"mode": "slwo"}, "part.mode is one of slow, fast, but is 'slwo'. Set part.mode=slow"),
    ({"flag": 1}, "part.flag is true or false, but is 1. Set part.flag=true or part.flag=false"),
    ({"edges": [1, "x"]}, "part.edges is equal or a list, but is [1, 'x']. Set part.edges=equal"),
    ({"names": ["a"]}, "part.names is a list, or null, but is ['a']. Set part.names=null, or leave it out"),
    (
        {"size": 4},
        "part.size is an integer of at least 260 (256 bytes and 4 special tokens), but is 4. Set part.size=260 or more",
    ),
    ({"weights": {"a": 1, "b": 0}}, "part.weights.b is a number above 0, but is 0"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_a_wrong_value_is_told_the_same_where_it_is_made_and_where_it_is_checked(
    options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_ALLOW_TARGETS", __name__)
    with pytest.raises(ConfigError) as made:
        Part(**options)
    assert str(made.value) == message
    with pytest.raises(ConfigError) as found:
        check_config({"part": {"_target_": f"{__name__}.Part", **options}})
    assert str(found.value) == message


def test_all_that_is_wrong_is_told_at_once_in_the_order_of_the_fields() -> None:
    with pytest.raises(ConfigError) as caught:
        Part(size=1, mode="x", count=0)
    assert [line.split()[0] for line in str(caught.value).splitlines()] == ["part.count", "part.mode", "part.size"]


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(ConfigError) as caught:
        LargerPart(cuont=1)  # type: ignore[call-arg]
    required, unknown = str(caught.value).splitlines()
    assert required == "part.needed is required: set part.needed=VALUE"
    assert unknown.startswith("part.cuont is not a key of LargerPart. Its keys: count, ")


def test_what_fields_have_to_keep_together_is_checked_after_them() -> None:
    with pytest.raises(ConfigError, match=r"^part\.count=13 is refused$"):
        Part(count=13)


def test_an_object_is_plain_data() -> None:
    part = Part(count=7, names=["a", "b"], ratio=8)
    assert part == replace(part) == copy.deepcopy(part) == pickle.loads(pickle.dumps(part))
    assert (part.names, repr(part.ratio)) == (("a", "b"), "8.0")
    assert identity(part) == identity(Part(count=7, names=("a", "b"), ratio=8.0))
    with pytest.raises(FrozenInstanceError):
        part.count = 8  # type: ignore[misc]


@checked("task")
def measure(run: Any, *, epoch: Natural = 0, patience_s: Seconds = 1.0) -> int:
    return epoch


def test_what_a_function_is_called_with_is_checked() -> None:
    assert measure(None, epoch=3) == 3
    with pytest.raises(ConfigError) as caught:
        measure(None, epoch=-1, patience_s="x")  # type: ignore[arg-type]
    assert str(caught.value).splitlines() == [
        "task.epoch is an integer of at least 0, but is -1. Set task.epoch=0 or more",
        "task.patience_s is a number of at least 0, but is 'x'. Set task.patience_s=0 or more",
    ]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int, "an integer"),
        (float | None, "a number, or null"),
        (Annotated[float, Field(gt=0, lt=1)], "a number above 0 and below 1"),
        (str | Sequence[str] | None, "a text or a list, or null"),
        (Mapping[str, int], "a mapping"),
        (Literal["a"], "a"),
        (np.ndarray, "ndarray"),
    ],
)
def test_types_are_described_in_words(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_a_type_that_nobody_can_check_takes_anything() -> None:
    assert problem_of("part.x", "NoSuchName", object()) is None
