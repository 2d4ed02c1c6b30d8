"""A selection: named rules over columns, and what each of them drops."""

import logging
import pickle
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import mtx
from mtx.components.identity import identity
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.errors import ConfigError, DataError

VALUES = [0.5, -1.0, float("nan"), 2.0, 0.0, 2.0]
PAIRS = pa.table(
    {
        "src": pa.array(["a", "bb", "ccc", "dddd", "", "ffff"], pa.large_string()),
        "tgt": pa.array(["x"] * 6, pa.large_string()),
        "rules.z": VALUES,
        "other": [1, 2, 3, 4, 5, 6],
        "lang": ["de", "de", None, "fr", "en", "de"],
    }
)


@mtx.rule
def short(pairs: pa.RecordBatch, *, max_chars: int = 3) -> pa.BooleanArray:
    """Keeps pairs with a short source."""
    return pc.less_equal(pc.utf8_length(pairs["src"]), max_chars)


def kept(pairs: Any = PAIRS, before: Any = None, **rules: Any) -> tuple[list[int], dict[str, int]]:
    dropped: dict[str, int] = {}
    batches = SelectionFilter(rules=rules, before=before).apply(pairs, dropped)
    return [number for batch in batches for number in batch["other"].to_pylist()], dropped


def funnel(**rules: Any) -> dict[str, Any]:
    counts = DropCounts()
    list(SelectionFilter(rules=rules).apply(PAIRS, counts))
    assert counts.funnel is not None
    return counts.funnel.as_json()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"min": 0.0}, [1, 4, 5, 6]),
        ({"max": 0.5}, [1, 2, 5]),
        ({"min": 0.0, "max": 0.5}, [1, 5]),
        ({"min": 0.0, "without_value": "keep"}, [1, 3, 4, 5, 6]),
        ({"min_quantile": 0.4}, [1, 4, 6]),  # of −1, 0, 0.5, 2, 2: the 40 % quantile among the values is 0.5
        ({"max_quantile": 0.5}, [1, 2, 5]),
        ({"best_n": 1}, [4]),  # of two equal values, the earlier one
        ({"best_n": 3}, [1, 4, 6]),
        ({"best_n": 0}, []),
        ({"best_n": 99}, [1, 2, 4, 5, 6]),
        ({"best_share": 0.5}, [1, 4, 6]),  # half of five pairs with a value, rounded up
        ({"min": 0.0, "best_share": 0.5}, [4, 6]),  # of four pairs
    ],
)
def test_criteria_keep_what_they_say(rule: dict[str, Any], expected: list[int]) -> None:
    assert kept(z=rule)[0] == expected
    assert kept(PAIRS.to_batches(max_chunksize=2), z=rule)[0] == expected, "whatever the batches"
    assert kept(iter(PAIRS.to_batches(max_chunksize=2)), z=rule)[0] == expected, "of a stream, too"


def test_each_pair_counts_under_the_first_rule_that_drops_it_and_nan_by_itself() -> None:
    found = kept(z={"min": 0.0}, long={"column": "source_chars", "max": 3})
    assert found == ([1, 5], {"z_without_value": 1, "z": 1, "long": 2})
    found = kept(long={"column": "source_chars", "max": 2}, z={"min": 0.0})
    assert found == ([1, 5], {"long": 3, "z": 1})


def test_ranks_count_only_pairs_that_earlier_rules_keep() -> None:
    assert kept(long={"column": "source_chars", "max": 3}, z={"best_n": 2}) == (
        [1, 5],
        {"long": 2, "z_without_value": 1, "z": 1},
    )
    assert kept(z={"best_n": 2}, long={"column": "source_chars", "max": 3})[0] == []


def test_quantiles_are_over_all_pairs_that_the_filter_before_keeps() -> None:
    assert kept(before=short(max_chars=3), z={"min_quantile": 0.5})[0] == [1, 5]
    assert kept(before=DefaultFilter(), z={"min": -5.0}) == ([1, 2, 4, 6], {"empty_source": 1, "z_without_value": 1})


def test_text_and_whole_number_columns_have_lists_of_values() -> None:
    assert kept(lang={"one_of": ["de"]}) == ([1, 2, 6], {"lang_without_value": 1, "lang": 2})
    assert kept(other={"one_of": [2, 4]})[0] == [2, 4]
    assert kept(other={"one_of": [2, 4], "max": 3})[0] == [2]
    with pytest.raises(DataError, match=r"compares the column lang with numbers, but its type is string"):
        kept(lang={"min": 1})


def test_a_function_of_ones_own_is_a_rule_if_it_is_marked() -> None:
    assert kept(mine=short(max_chars=2), z={"min": 0.0}) == ([1, 5], {"mine": 3, "z": 1})
    with pytest.raises(ConfigError, match=r"filter\.rules\.mine is DefaultFilter, which may depend on other pairs"):
        SelectionFilter(rules={"mine": DefaultFilter()})


def test_the_funnel_counts_in_order_alone_and_only_here() -> None:
    found = funnel(z={"min": 0.0}, long={"column": "source_chars", "max": 3}, odd={"column": "other", "max": 5})
    assert (found["num_pairs"], found["num_kept"]) == (6, 2)
    counts = {
        name: (rule["dropped_in_order"], rule["dropped_alone"], rule["dropped_only_here"])
        for name, rule in found["rules"].items()
    }
    assert counts["z"] == (1, 1, 1)
    assert counts["z_without_value"] == (1, 1, 1)
    assert counts["long"] == (2, 2, 1)
    assert counts["odd"] == (0, 1, 0)
    assert found["rules"]["long"]["overlap"] == {"odd": 1}
    assert found["rules"]["odd"]["samples"] == [{"source": "ffff", "target": "x"}]
    assert found["rules"]["odd"]["samples_only_here"] == []
    assert [pair["source"] for pair in found["rules"]["long"]["samples_only_here"]] == ["dddd"]
    near = found["rules"]["z"]["samples_near"]
    assert [(pair["value"], pair["is_dropped"]) for pair in near] == [
        *((-1.0, True), (0.0, False), (0.5, False), (2.0, False), (2.0, False))
    ]
    assert found["rules"]["z"]["criteria"] == {"column": "z", "min": 0.0}
    assert funnel(z={"best_n": 1})["rules"]["z"]["criteria"]["thresholds"] == [2.0]


def test_a_sample_has_ten_pairs_and_those_near_the_threshold_are_the_nearest() -> None:
    values = np.arange(100) / 10
    texts = pa.array([str(number) for number in range(100)], pa.large_string())
    pairs = pa.table({"src": texts, "tgt": texts, "z": values})
    counts = DropCounts()
    list(SelectionFilter(rules={"z": {"min": 5.0}}).apply(pairs.to_batches(max_chunksize=7), counts))
    assert counts.funnel is not None
    rule = counts.funnel.as_json()["rules"]["z"]  # type: ignore[index,call-overload]
    assert len(rule["samples"]) == 10  # type: ignore[index]
    assert [pair["row"] for pair in rule["samples_near"]] == list(range(45, 55))  # type: ignore[index]


def test_a_column_that_does_not_exist_names_those_that_do() -> None:
    message = r"the rule zz needs the column zz, which does not exist\. There are: lang, other, rules\.z, source_bytes"
    with pytest.raises(ConfigError, match=message):
        kept(zz={"min": 0})
    twice = PAIRS.append_column("words.z", pa.array(VALUES))
    with pytest.raises(ConfigError, match=r"several columns are called z: rules\.z, words\.z\. Give the whole name"):
        kept(twice, z={"min": 0})
    assert kept(twice, z={"column": "words.z", "min": 2})[0] == [4, 6]


def test_a_selection_that_drops_nearly_all_warns_and_names_the_rule(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kept(z={"min": 0.0})
    assert not caplog.messages
    with caplog.at_level(logging.WARNING):
        assert kept(z={"min": 0.0}, other={"min": 99})[0] == []
    assert caplog.messages == [
        "the rules of filter=selection drop 6 of 6 pairs (100.0 %). The rule other drops most, 6 pairs alone, by "
        "column=other, min=99. Relax it, or turn it off with filter.rules.other=null"
    ]


def test_rules_without_criteria_are_off_and_change_no_id() -> None:
    off = {"z": {"min": 1.0}, "x": {"column": "nowhere", "min": None}, "y": None}
    assert kept(**off)[0] == [4, 6]
    assert identity(SelectionFilter(rules=off)) == identity(SelectionFilter(rules={"z": {"min": 1.0}}))
    assert identity(SelectionFilter(rules=off)) != identity(SelectionFilter(rules={"z": {"min": 2.0}}))


def test_the_identity_names_the_filters_inside() -> None:
    found = identity(SelectionFilter(before=DefaultFilter(max_chars=7), rules={"mine": short(max_chars=2)}))
    assert found["kind"] == "filter/selection"
    assert (found["before"]["kind"], found["before"]["max_chars"]) == ("filter/default", 7)  # type: ignore[index,call-overload]
    ((name, mine),) = found["rules"]  # type: ignore[misc,union-attr]
    assert (name, mine["kind"], mine["max_chars"]) == ("mine", "short", 2)  # type: ignore[index,call-overload]
    assert identity(SelectionFilter(before=NoFilter())) != identity(SelectionFilter())


def test_a_selection_says_which_columns_it_reads() -> None:
    assert SelectionFilter(rules={"z": {"min": 1}, "long": {"column": "source_chars", "max": 3}}).columns == (
        *("z", "source_chars"),
    )
    assert SelectionFilter(rules={"mine": short()}).columns is None, "a function may read any column"
    assert SelectionFilter(before=DefaultFilter()).columns == ()
    assert pickle.loads(pickle.dumps(SelectionFilter(rules={"z": {"min": 1}}))).columns == ("z",)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"least": 1}, r"filter\.rules\.z\.least is not a key of a rule\. Its keys: .*min"),
        ({"min": "x"}, r"filter\.rules\.z\.min is a number, or null, but is 'x'"),
        ({"min": 2, "max": 1}, r"filter\.rules\.z\.min=2 is above filter\.rules\.z\.max=1, which keeps no pair"),
        ({"best_share": 1.5}, r"filter\.rules\.z\.best_share is a number above 0 and of at most 1, or null"),
        (3, r"filter\.rules\.z must be a mapping of criteria, such as \{min: 0\.5\}, but is 3"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectionFilter(rules={"z": rule})


def test_a_corpus_without_pairs_is_judged(caplog: pytest.LogCaptureFixture) -> None:
    assert kept(PAIRS.slice(0, 0), z={"min": 1, "best_n": 3, "min_quantile": 0.5}) == ([], {})
    assert not caplog.messages
