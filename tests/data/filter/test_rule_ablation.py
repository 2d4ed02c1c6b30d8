"""Ablations of a selection: which rules apply, and as many pairs dropped at random instead of by one rule."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.components.identity import identity
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.filter.rule_ablation import ablation_arms, active_rules
from mtx.data.filter.selection import SelectionFilter
from mtx.errors import ConfigError

NUM_PAIRS = 100
PAIRS = pa.table(
    {
        "src": pa.array(["a"] * NUM_PAIRS, pa.large_string()),
        "tgt": pa.array(["x"] * NUM_PAIRS, pa.large_string()),
        "low": pa.array(np.arange(NUM_PAIRS, dtype=np.float64)),
        "high": pa.array(np.arange(NUM_PAIRS, dtype=np.float64)),
    }
)
RULES = {"low": {"min": 20.0}, "high": {"max": 89.0}, "same": {"column": "low", "min": 5.0}, "off": {"column": "low"}}


def selection(ablation: str, **options: Any) -> SelectionFilter:
    return SelectionFilter(rules=options.pop("rules", RULES), ablation=ablation, **options)


def kept(ablation: str, *, batch_rows: int = NUM_PAIRS, **options: Any) -> tuple[list[int], dict[str, int]]:
    dropped: dict[str, int] = {}
    batches = iter(PAIRS.to_batches(max_chunksize=batch_rows))
    found = [int(v) for b in selection(ablation, **options).apply(batches, dropped) for v in b["low"].to_pylist()]
    return found, dropped


def test_an_ablation_applies_all_rules_none_or_all_but_one() -> None:
    assert kept("all")[0] == list(range(20, 90))
    assert kept("none")[0] == list(range(NUM_PAIRS))
    assert kept("without_low")[0] == list(range(5, 90))
    assert kept("without_same")[0] == list(range(20, 90)), "low drops all that same drops"


@pytest.mark.parametrize(("rule", "num_at_random"), [("low", 15), ("high", 10), ("same", 0)])
def test_the_control_has_as_many_pairs_as_all_rules_of_those_kept_without_the_rule(
    rule: str, num_at_random: int
) -> None:
    found, dropped = kept(f"random_for_{rule}")
    assert len(found) == len(kept("all")[0])
    assert set(found) <= set(kept(f"without_{rule}")[0])
    assert found == sorted(found)
    assert dropped.get(f"at_random_for_{rule}", 0) == num_at_random
    assert sum(dropped.values()) + len(found) == NUM_PAIRS


@pytest.mark.parametrize(("rule", "num_at_random"), [("low", 15), ("high", 10), ("same", 0)])
def test_the_control_besides_all_rules_drops_as_many_more_as_only_the_rule_drops(rule: str, num_at_random: int) -> None:
    found, dropped = kept(f"random_besides_{rule}", ablation_seed=4)
    assert len(found) == len(kept("all")[0]) - num_at_random
    assert set(found) <= set(kept("all")[0])
    assert dropped.get(f"at_random_for_{rule}", 0) == num_at_random
    assert sum(dropped.values()) + len(found) == NUM_PAIRS
    assert kept(f"random_besides_{rule}", ablation_seed=4, batch_rows=7) == (found, dropped)
    assert num_at_random == 0 or kept(f"random_besides_{rule}", ablation_seed=5)[0] != found


def test_the_control_besides_all_rules_drops_no_more_pairs_than_there_are() -> None:
    assert kept("random_besides_low", rules={"low": {"min": 90.0}})[0] == []


def test_the_control_counts_the_random_drops_and_warns_once(caplog: pytest.LogCaptureFixture) -> None:
    counts = DropCounts()
    rules = {"low": {"min": 95.0}, "high": {"max": 97.0}}
    found = sum(b.num_rows for b in selection("random_for_high", rules=rules).apply(PAIRS, counts))
    assert counts.funnel is not None
    assert counts.funnel.num_kept == found == 3
    assert len([message for message in caplog.messages if "95.0 %" in message]) == len(caplog.messages) == 1


def test_the_control_follows_its_seed_and_not_the_batches() -> None:
    first = kept("random_for_low", ablation_seed=1)
    assert kept("random_for_low", ablation_seed=1, batch_rows=7) == first
    assert kept("random_for_low", ablation_seed=2)[0] != first[0]


def test_the_control_of_a_rule_that_depends_on_all_pairs_has_as_many_pairs() -> None:
    rules = {"best": {"column": "low", "best_share": 0.5}, "high": {"max": 89.0}}
    assert len(kept("random_for_best", rules=rules)[0]) == len(kept("all", rules=rules)[0]) == 40
    assert len(kept("without_best", rules=rules)[0]) == 90


def test_only_what_decides_about_the_pairs_is_part_of_the_identity() -> None:
    assert identity(selection("all")) == identity(selection("all", ablation_seed=5))
    without = {**RULES, "low": None}
    assert identity(selection("without_low")) == identity(selection("all", rules=without)), "one dataset for both"
    assert identity(selection("random_for_low")) != identity(selection("random_for_low", ablation_seed=5))
    assert identity(selection("random_for_low")) != identity(selection("random_for_high"))
    assert identity(selection("random_for_low")) != identity(selection("random_besides_low"))
    assert identity(selection("random_besides_low")) != identity(selection("random_besides_low", ablation_seed=5))
    assert identity(selection("none")) == identity(selection("all", rules={}))


@pytest.mark.parametrize("ablation", ["without_", "same", "without_off", "random_for_low2", ""])
def test_an_ablation_that_names_no_active_rule_is_refused(ablation: str) -> None:
    with pytest.raises(ConfigError, match=r"filter\.ablation"):
        selection(ablation)


def test_the_error_lists_the_rules_that_are_on() -> None:
    with pytest.raises(ConfigError, match=r"names the rule hig, which is not on\. Rules that are on: high, low, same"):
        selection("without_hig")
    with pytest.raises(ConfigError, match=r"choose a scorer, such as 'score=\[rules\]'"):
        selection("without_low", rules={})


def test_the_arms_follow_from_the_rules_that_are_on() -> None:
    options = {**RULES, "none": None, "own": {"_target_": "my_rules.short"}}
    assert active_rules(options) == ["low", "high", "same", "own"]
    assert ablation_arms(["low", "own"]) == [
        *("all", "none", "without_low", "random_besides_low", "without_own", "random_besides_own"),
    ]
