"""Checking and building components, shown on small ones of the tests' own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from mtx.components.check_and_build import build, check_config
from mtx.components.groups import GROUPS
from mtx.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: int = 1


@dataclass(frozen=True, kw_only=True)
class Part:
    count: int = 1
    ratio: float = 0.5
    name: str = "a"
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    paths: str | Sequence[str] = ""
    table: Mapping[str, int] | None = None
    flag: bool = False
    inner: Inner | None = None

    def __post_init__(self) -> None:
        if self.count == 13:
            raise DataError("13 is refused")
        if self.count == 14:
            raise ValueError("14 is refused too")


class Strict:
    def __init__(self, *, needed: int, vocab_size: int) -> None:
        self.needed, self.vocab_size = needed, vocab_size


def anything(**options: Any) -> dict[str, Any]:
    return options


NOT_CALLABLE = 3


@pytest.fixture(autouse=True)
def _allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The components here are of no kind of mtx's; tests/security has what is refused without this."""
    monkeypatch.setenv("MTX_ALLOW_TARGETS", __name__)


def part(target: str = "Part", **options: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{target}", **options}


def problem(group: str = "part", **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_config({group: part(**options), "seed": 0})
    return str(caught.value)


def test_a_valid_config_passes() -> None:
    check_config(
        {"seed": 0, "part": part(count=2, ratio=1, mode="slow", limit=None, paths=["a"], table={"a": 1}, flag=True)}
    )


def test_an_unknown_key_names_the_keys_that_exist_the_closest_first() -> None:
    assert problem(cuont=2).startswith("part.cuont is not a key of Part. Its keys: count, ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": "three"}, "part.count is an integer, but is 'three'"),
        ({"count": True}, "part.count is an integer, but is True"),
        ({"count": 1.5}, "part.count is an integer, but is 1.5"),
        ({"ratio": "x"}, "part.ratio is a number, but is 'x'"),
        ({"name": 3}, "part.name is a text, but is 3. Set part.name=TEXT"),
        ({"mode": "quick"}, "part.mode is one of fast, slow, but is 'quick'. Set part.mode=fast"),
        ({"limit": "no"}, "part.limit is an integer, or null, but is 'no'. Set part.limit=null, or leave it out"),
        ({"paths": 1}, "part.paths is a text or a list, but is 1. Set part.paths=TEXT"),
        ({"table": 1}, "part.table is a mapping, or null, but is 1. Set part.table=null, or leave it out"),
        ({"flag": "yes"}, "part.flag is true or false, but is 'yes'. Set part.flag=true or part.flag=false"),
        ({"count": "???"}, "part.count is required: set part.count=VALUE"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(options: dict[str, Any], message: str) -> None:
    assert problem(**options) == message


@pytest.mark.parametrize(
    ("task", "key", "typed", "message"),
    [
        ("import_.import_", "path", {"from": []}, "from is a text, or null, but is []"),
        ("import_.import_", "path", {}, "task.path is a text, or null, but is []"),
        ("import_.import_", "path", {"from": "a.zip"}, "task.path is a text, or null, but is []"),
        ("export.export", "to", {"to": []}, "to is a text, or null, but is []"),
        ("export.export", "dataset", {"dataset": [], "to": "x"}, "dataset is a text, or null, but is []"),
        ("compare.compare", "to", {"to": None}, "task.to is a text, or null, but is []"),
    ],
)
def test_an_option_of_a_task_is_named_by_the_key_that_set_it(
    task: str, key: str, typed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_config({"task": {"_target_": f"mtx.experiment.{task}", key: []}, **typed})
    assert str(caught.value).startswith(message)


def test_a_number_is_not_the_truth_value_that_equals_it() -> None:
    with pytest.raises(ConfigError, match=r"^task\.overwrite is true or false, but is 0\."):
        check_config({"task": {"_target_": "mtx.experiment.export.export", "overwrite": 0}, "overwrite": False})


def test_all_problems_are_told_together() -> None:
    told = problem(count="x", flag="y", other=1)
    assert len(told.splitlines()) == 3


def test_nested_components_are_checked() -> None:
    assert problem(inner=part("Inner", size="big")) == "part.inner.size is an integer, but is 'big'"


def test_a_parameter_without_default_is_required() -> None:
    assert problem(target="Strict", vocab_size=1) == "part.needed is required: set +part.needed=VALUE"


def test_a_model_may_leave_parameters_to_be_filled_in_from_the_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS, "model", replace(GROUPS["model"], base=f"{__name__}.Strict"))
    config = {"model": part("Strict", needed=1)}
    check_config(config)
    assert build(config, "model", vocab_size=7, unknown=1).vocab_size == 7


def test_what_the_config_sets_is_not_filled_in() -> None:
    assert build({"part": part(count=2, limit=None)}, "part", count=5, limit=6) == Part(count=2, limit=6)


def test_parameters_that_mtx_fills_in_cannot_be_set() -> None:
    with pytest.raises(ConfigError, match=r"datamodule\.storage is not a key of"):
        check_config({"datamodule": _with_datamodule(storage=1)})


def _with_datamodule(**options: Any) -> dict[str, Any]:
    return {"_target_": "mtx.training.datamodule.TranslationDataModule", **options}


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_such_module.Thing", "part._target_ names 'no_such_module.Thing', which cannot be imported"),
        (f"{__name__}.Nothing", "which cannot be imported"),
        (f"{__name__}.NOT_CALLABLE", "which is a int and cannot be called"),
    ],
)
def test_a_target_that_is_not_there(path: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace(".", r"\.")):
        check_config({"part": {"_target_": path}})


def test_an_option_has_to_be_of_its_groups_kind() -> None:
    assert problem(group="sampler") == f"sampler._target_ must name a Planner, but {__name__}.Part is not one"


def test_anything_goes_where_the_component_takes_anything() -> None:
    check_config({"part": part("anything", a=1, b={"c": [2]})})
    assert build({"part": part("anything", a=1, b={"c": [2]})}, "part") == {"a": 1, "b": {"c": [2]}}


def test_nested_components_and_partials_are_built() -> None:
    made = build({"part": part(inner=part("Inner", size=4))}, "part")
    assert made == Part(inner=Inner(size=4))
    assert build({"part": part(count=4, _partial_=True)}, "part")(ratio=2.0) == Part(count=4, ratio=2.0)


def test_an_error_of_mtx_comes_through_and_another_is_explained() -> None:
    with pytest.raises(DataError, match="13 is refused") as refused:
        build({"part": part(count=13)}, "part")
    assert refused.value.__cause__ is None  # not the error itself, at which a search of causes would not end
    with pytest.raises(
        ConfigError, match=r"part cannot be built: .*Part refuses its options: ValueError: 14 is refused too"
    ):
        build({"part": part(count=14)}, "part")


@pytest.mark.parametrize("text", ["a${b}c", r"a\${b}", r"\\${", "${oc.env:HOME}", r"c:\x", "???x"])
def test_texts_reach_a_component_as_they_are(text: str) -> None:
    """Also those that look like interpolations, at any depth."""
    config = {
        "downloader": {
            "_target_": "mtx.infra.dataset.sources.local.LocalDownloader",
            "path": {"train": text, "validation": [text]},
            "name": text,
        }
    }
    made = build(config, "downloader")
    assert (made.name, made.path) == (text, {"train": text, "validation": (text,)})
