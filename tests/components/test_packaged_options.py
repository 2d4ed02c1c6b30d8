"""Options as mtx ships them are not checked again: a test of every option does that."""

from pathlib import Path
from typing import Any

import pytest

from mtx.app.command import compose
from mtx.components.check_and_build import check_config
from mtx.components.unchanged_packaged_options import is_packaged
from mtx.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return compose()


def test_all_groups_of_the_default_config_are_packaged(config: dict[str, Any]) -> None:
    groups = [name for name, options in config.items() if isinstance(options, dict) and "_target_" in options]
    assert {"budget", "model", "trainer", "storage", "task"} <= set(groups)
    assert [name for name in groups if not is_packaged(name, config)] == []


@pytest.mark.parametrize(
    ("group", "change"),
    [
        ("sampler", {"max_tokens": 1}),
        ("sampler", {"max_tokens": 4096.0}),
        ("sampler", {"shuffle": 1}),
        ("sampler", {"more": 1}),
        ("sampler", {"_target_": "os.system"}),
        ("sampler", {"max_pairs": {"_target_": "os.system"}}),
        ("storage", {"root": {"_target_": "os.system"}}),
        ("storage", {"files": {"_target_": "os.system", "_partial_": True}}),
        ("trainer", {"callbacks": [{"_target_": "os.system"}]}),
        ("budget", {"steps": 3}),
        ("trainer", {"max_steps": "many"}),
        ("trainer", {"max_epochs": "many"}),
        ("trainer", {"max_steps": 7}),
        ("storage", {"root": 5}),
    ],
)
def test_a_changed_value_is_checked(config: dict[str, Any], group: str, change: dict[str, Any]) -> None:
    assert not is_packaged(group, {**config, group: {**config[group], **change}})


def test_a_value_less_is_checked(config: dict[str, Any]) -> None:
    fewer = {key: value for key, value in config["sampler"].items() if key != "shuffle"}
    assert not is_packaged("sampler", {**config, "sampler": fewer})


def test_options_of_another_group_are_checked(config: dict[str, Any]) -> None:
    assert not is_packaged("logger", {**config, "logger": {"csv": config["sampler"]}}, "csv")
    assert not is_packaged("mine", {"mine": {"_target_": "os.system"}})


def test_what_a_budget_makes_of_the_trainer_is_packaged_too() -> None:
    assert is_packaged("trainer", compose(["budget.seconds=3"]))


def test_a_wrong_value_in_place_of_an_interpolation_is_told() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.max_steps is an integer, but is 'many'"):
        check_config(compose(["trainer.max_steps=many"]))
