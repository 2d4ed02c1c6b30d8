"""Rules of a selection within parts: sources of a mixture, clusters, languages; and the counts of each part."""

import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import mtx
from mtx.app.command import compose
from mtx.app.override_errors import composition_error_message
from mtx.components.check_and_build import build
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.errors import ConfigError, DataError
from mtx.page.rules_section import rules_table
from mtx.records.noise_report import column_noise
from mtx.records.plot_data_computation import rule_samples
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_record import Report
from mtx.records.score_report import selection_report, selection_tables
from mtx.testing import check_filter

SOURCES = ("news", "web")
PAIRS = pa.table(
    {
        "src": pa.array([f"s{row}" for row in range(8)], pa.large_string()),
        "tgt": pa.array(["x"] * 8, pa.large_string()),
        "row": list(range(8)),
        "source": pa.array([0, 0, 0, 0, 1, 1, 1, 1], pa.uint16()),
        "number": list(range(8)),
        "z": [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, float("nan")],
        "dups.cluster": [5, 5, None, 7, 7, 5, 7, 7],
        "lang": ["de", "de", "fr", "de", "fr", None, "de", "de"],
    }
)


@mtx.rule
def odd(pairs: pa.RecordBatch, *, of: int = 2) -> tuple[list[bool], list[str | None]]:
    """Keeps even rows."""
    rows = pairs["row"].to_pylist()
    return [row % of == 0 for row in rows], [None if row == 7 else "low" if row < 4 else "high" for row in rows]


@mtx.rule
def unreasonable(pairs: pa.RecordBatch, *, reasons: Any = ()) -> Any:
    return [False] * pairs.num_rows, reasons


def kept(*, before: Any = None, pairs: Any = PAIRS, **rules: Any) -> tuple[list[int], dict[str, int]]:
    found = []
    for batches in (pairs, pairs.to_batches(max_chunksize=3)):
        dropped: dict[str, int] = {}
        selection = SelectionFilter(rules=rules, before=before).for_mixture(SOURCES)
        out = selection.apply(batches, dropped)
        found.append(([row for batch in out for row in batch["row"].to_pylist()], dropped))
    assert found[0] == found[1], "whatever the batches"
    return found[0]


@mtx.rule
def as_tuple(pairs: pa.RecordBatch) -> tuple[bool, ...]:
    return tuple(row == 3 for row in pairs["row"].to_pylist())


def test_two_booleans_for_two_pairs_are_no_reasons() -> None:
    assert kept(pairs=PAIRS.slice(2, 2), mine=as_tuple()) == ([3], {"mine": 1})


def test_within_needs_few_parts_with_names() -> None:
    rule = {"column": "z", "within": "z", "best_n": 1, "without_value": "keep"}
    with pytest.raises(ConfigError, match=r"within=z needs a column of texts or whole numbers, but z holds double\."):
        kept(mine=rule)
    many = pa.table({"src": ["s"] * 1001, "tgt": ["t"] * 1001, "document": list(range(1001))})
    with pytest.raises(ConfigError, match=r"at most 1,000 parts .* the column has 1,001 values\. Choose a column"):
        kept(pairs=many, mine={"column": "source_chars", "within": "document", "max_quantile": 0.5})


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"within": "source", "best_n": 1}, [3, 6]),
        ({"within": "source", "best_share": 0.5}, [2, 3, 5, 6]),  # 2 of 4, and 1.5 of 3 rounded up
        ({"within": "source", "min_quantile": 0.5}, [2, 3, 5, 6]),
        ({"within": "source", "only": ["news"], "min": 3}, [2, 3, 4, 5, 6, 7]),  # web is not judged: NaN is kept
        ({"within": "source", "only": ["web"], "best_n": 2}, [0, 1, 2, 3, 5, 6]),
        ({"within": "lang", "only": ["fr"], "max": 3}, [0, 1, 2, 3, 5, 6, 7]),
        ({"within": "lang", "best_n": 1}, [4, 5, 6]),  # de, fr, and the pair without a language
        ({"best_of": "dups.cluster"}, [2, 5, 6]),  # clusters 5 and 7, and the pair without one
        ({"best_of": "cluster", "without_value": "keep"}, [2, 5, 6, 7]),
        ({"best_of": "cluster", "within": "source"}, [1, 2, 3, 5, 6]),
        ({"best_of": "cluster", "max": 15}, [1, 2, 4]),  # the best of those that the bound keeps: 2.0 and 10.0
        ({"lose_at_most": 0.25}, [1, 2, 3, 4, 5, 6]),  # 2 of 8 below: the pair without a value, and 1.0
        ({"lose_at_most": 0.25, "without_value": "keep"}, [2, 3, 4, 5, 6, 7]),
        ({"lose_at_most": 0.0, "without_value": "keep"}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"lose_at_most": 0.5, "within": "source"}, [2, 3, 5, 6]),
    ],
)
def test_criteria_hold_within_parts(rule: dict[str, Any], expected: list[int]) -> None:
    assert kept(z=rule)[0] == expected


def test_the_threshold_that_loses_a_share_is_the_one_that_scores_suggest() -> None:
    values = np.random.default_rng(3).normal(size=500)
    values[::100] = np.nan
    suggested = column_noise(values, {"bad": values[:9]}).loss_5
    assert suggested is not None
    texts = pa.array(["a"] * 500, pa.large_string())
    counts = DropCounts()
    pairs = pa.table({"src": texts, "tgt": texts, "z": values})
    list(SelectionFilter(rules={"z": {"lose_at_most": 0.05}}).apply(pairs, counts))
    assert counts.funnel is not None
    assert counts.funnel.criteria[-1]["thresholds"] == [suggested.threshold]
    assert sum(counts.values()) == 25


def test_of_equal_pairs_of_a_cluster_the_first_is_kept_after_the_rules_before() -> None:
    equal = PAIRS.set_column(5, "z", pa.array([1.0] * 8))
    assert kept(pairs=equal, z={"best_of": "cluster"})[0] == [0, 2, 3]
    not_first = {"column": "number", "min": 1}
    assert kept(pairs=equal, late=not_first, z={"best_of": "cluster"}) == ([1, 2, 3], {"late": 1, "z": 4})


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            {"only": ["news"], "min": 1},
            r"filter\.rules\.z\.only=\['news'\] lists values .* Set filter\.rules\.z\.within",
        ),
        ({"best_of": "c", "best_n": 1}, r"filter\.rules\.z\.best_of=c goes with no best_n or best_share"),
        ({"lose_at_most": 2}, r"filter\.rules\.z\.lose_at_most is a number from 0 to 1"),
    ],
)
def test_criteria_that_contradict_one_another_are_refused(rule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectionFilter(rules={"z": rule})


def test_parts_that_do_not_exist_are_named_before_any_work() -> None:
    def check(names: Any, columns: list[str], **rule: Any) -> None:
        SelectionFilter(rules={"z": {"min": 0, **rule}}).for_mixture(names).check_columns(columns)

    check(SOURCES, ["z", "source"], within="source", only=["web"])
    with pytest.raises(ConfigError, match=r"only lists parts of the mixture, but wbe is none\. There are: web, news"):
        check(SOURCES, ["z", "source"], within="source", only=["wbe"])
    with pytest.raises(
        ConfigError, match=r"within names the column source, which does not exist\. There are: l\.source"
    ):
        check((), ["z", "l.source"], within="source")
    with pytest.raises(ConfigError, match=r"best_of names the column cluster, which does not exist"):
        check((), ["z"], best_of="cluster")


def test_a_function_gives_reasons_that_the_report_counts() -> None:
    assert kept(mine=odd()) == ([0, 2, 4, 6], {"mine": 1, "mine.low": 2, "mine.high": 1})
    counts = DropCounts(2)
    list(SelectionFilter(rules={"late": {"column": "number", "min": 2}, "mine": odd()}).apply(PAIRS, counts))
    assert counts == {"late": 2, "mine": 1, "mine.low": 1, "mine.high": 1}
    assert counts.funnel is not None
    rule = counts.funnel.as_json()["rules"]["mine"]  # type: ignore[index,call-overload]
    assert (rule["dropped_alone"], rule["reasons"]) == (4, {"low": 2, "high": 1})  # type: ignore[index]
    dropped: dict[str, int] = {}
    list(odd().apply(PAIRS, dropped))
    assert dropped == {"odd": 1, "odd.low": 2, "odd.high": 1}
    assert check_filter(odd(), PAIRS) == dropped


@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        (["a"], r"not one text or null for each of 8 pairs, but list of 1\. Return \(keep, reasons\)"),
        ([1.5] * 8, r"not one text or null for each of 8 pairs, but list\."),
        ([str(row) for row in range(101)], r"gave 101 different reasons, but a report has room for 100"),
    ],
)
def test_reasons_that_are_none_are_refused(reasons: Any, message: str) -> None:
    pairs = pa.concat_tables([PAIRS] * 13).slice(0, 101) if len(reasons) == 101 else PAIRS
    with pytest.raises(DataError, match=message):
        list(unreasonable(reasons=reasons).apply(pairs, {}))


def test_the_funnel_counts_sources_and_languages() -> None:
    counts = DropCounts(2)
    list(SelectionFilter(rules={"z": {"min": 3}}).for_mixture(SOURCES).apply(PAIRS, counts))
    assert counts.funnel is not None
    report = selection_report({"rules": counts.funnel.as_json()})
    assert report is not None
    found = {
        column: {name: (of.num_pairs, of.num_kept, dict(of.dropped)) for name, of in values.items()}
        for column, values in report.parts.items()
    }
    assert found == {
        "source": {"news": (4, 2, {"z": 2}), "web": (4, 3, {"z_without_value": 1})},
        "lang": {"de": (5, 2, {"z": 2, "z_without_value": 1}), "fr": (2, 2, {}), "(none)": (1, 1, {})},
    }
    titles = [str(table.title) for table in selection_tables(report)]
    assert titles[1:] == ["rules by source: pairs dropped in order", "rules by lang: pairs dropped in order"]


def test_the_page_has_a_table_of_parts_and_the_reasons_of_a_rule() -> None:
    counts = DropCounts(2)
    list(SelectionFilter(rules={"z": {"min": 3}, "mine": odd()}).for_mixture(SOURCES).apply(PAIRS, counts))
    assert counts.funnel is not None
    report = Report(selection=selection_report({"rules": counts.funnel.as_json()}))
    table = rules_table(report, RunProfile())
    assert table is not None
    by_source = table.parts[0]
    assert (by_source.column, by_source.rules) == ("source", ("z_without_value", "z", "mine"))
    assert [(row.name, row.num_kept, row.dropped) for row in by_source.rows] == [
        ("news", 1, ((0, 0.0), (2, 0.5), (1, 0.25))),
        ("web", 2, ((1, 0.25), (0, 0.0), (1, 0.25))),
    ]
    assert table.rows[-1].reasons == (("low", 2), ("high", 1))


def test_many_languages_are_counted_together() -> None:
    for number, others in ((30, 22), (1200, 2362)):
        rows = [{**PAIRS.to_pylist()[0], "row": row, "lang": f"l{row % number:04}"} for row in range(2 * number)]
        many = pa.Table.from_pylist(rows, schema=PAIRS.schema)
        counts = DropCounts(2)
        list(SelectionFilter(rules={"z": {"min": 3}}).apply(many, counts))
        assert counts.funnel is not None
        values = counts.funnel.as_json()["parts"]["lang"]  # type: ignore[index,call-overload]
        assert len(values) == 20  # type: ignore[arg-type]
        expected = {"num_pairs": others, "num_kept": 0, "dropped": {"z": others}}
        assert values["(others)"] == expected  # type: ignore[index,call-overload]


def test_a_source_that_loses_nearly_all_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        kept(z={"min": 9, "without_value": "keep"})
    assert caplog.messages[0] == (
        "the rules of filter=selection drop 100.0 % of the pairs with source=news. The rule z drops most of all, 4 "
        "pairs alone, by column=z, min=9. Relax it, or turn it off with filter.rules.z=null"
    )


def test_selections_chain_and_both_are_reported() -> None:
    first = SelectionFilter(before=DefaultFilter(), rules={"best": {"column": "z", "within": "source", "best_n": 3}})
    assert kept(before=first, z={"min_quantile": 0.5})[0] == [4, 5, 6]
    counts = DropCounts(2)
    list(SelectionFilter(before=first, rules={"z": {"min": 9}}).for_mixture(SOURCES).apply(PAIRS, counts))
    assert counts == {"best_without_value": 1, "best": 1, "z": 3}
    assert counts.funnel is not None
    report = selection_report({"rules": counts.funnel.as_json()})
    assert report is not None
    assert report.before is not None
    assert (report.before.num_pairs, report.before.num_kept, report.num_pairs, report.num_kept) == (8, 6, 6, 3)
    assert [name for name, _ in report.before.in_order] == ["best_without_value", "best"]
    page = rules_table(Report(selection=report), RunProfile())
    assert page is not None
    assert [(each.num_kept, [row.name for row in each.rows]) for each in page.before] == [
        (6, ["best_without_value", "best"])
    ]
    profile = RunProfile(rules=rule_samples({"rules": counts.funnel.as_json()})["rules"])
    page = rules_table(Report(selection=report), profile)
    assert page is not None
    assert [len(row.samples) for row in (*page.before[0].rows, *page.rows)][1:] == [1, 3], "samples of both selections"
    assert SelectionFilter(before=first, rules={"number": {"min": 9}}).columns == ("number", "z")


@pytest.mark.parametrize("columns", [["src", "tgt", "row", "source", "z"], ["src", "tgt", "z"]])
def test_a_filter_before_quantiles_counts_each_pair_once(columns: list[str]) -> None:
    pairs = pa.concat_tables([PAIRS.slice(0, 2), PAIRS.slice(0, 6)]).select(columns)
    if "row" in columns:
        pairs = pairs.set_column(2, "row", pa.array(range(10, 18)))
    plain, fitted = DropCounts(2), DropCounts(2)
    list(DefaultFilter().apply(pairs, plain))
    selection = SelectionFilter(before=DefaultFilter(), rules={"z": {"best_n": 4}}).for_mixture(SOURCES)
    kept_values = [value for batch in selection.apply(pairs, fitted) for value in batch["z"].to_pylist()]
    assert kept_values == [3.0, 4.0, 10.0, 20.0]
    assert plain == {"duplicate": 2}
    assert fitted == {"duplicate": 2, "z": 2}
    assert fitted.rejects()["duplicate"] == plain.rejects()["duplicate"]
    assert {name: counts.tolist() for name, counts in fitted.by_source.items()} == (
        {"duplicate": [2, 0], "z": [2, 0]} if "source" in columns else {}
    )


def test_a_chain_is_chosen_on_the_command_line() -> None:
    chain = ["filter=selection", "filter@filter.before=selection", "filter@filter.before.before=none"]
    found = build(compose([*chain, "+filter.before.rules.long={column: source_chars, max: 9}"]), "filter")
    assert isinstance(found, SelectionFilter)
    assert isinstance(found.before, SelectionFilter)
    assert found.before.reasons == ("long_without_value", "long")
    assert isinstance(found.before.before, NoFilter)
    arguments = ["filter=default", "filter@filter.before=none"]
    message = composition_error_message(ValueError("no other problem"), arguments)
    assert message.startswith(
        "filter@filter.before=none replaces an option at filter.before, but the chosen options have"
    )


@pytest.mark.parametrize(
    ("before", "rules", "message"),
    [
        (None, {"z": {"min": 1}, "z_without_value": {"column": "z", "min": 2}}, "both count .* as z_without_value"),
        (
            DefaultFilter(),
            {"too_long": {"column": "source_chars", "max": 9}},
            "filter.before both count .* as too_long",
        ),
        (SelectionFilter(rules={"z": {"min": 1}}), {"z": {"max": 1}}, "rename it"),
    ],
)
def test_two_rules_of_one_name_are_refused(before: Any, rules: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SelectionFilter(before=before, rules=rules)
