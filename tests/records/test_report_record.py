"""Reports: every key is declared, reports of former versions open, and what is no report is refused by name.

`former/` holds what mtx wrote before `report_version` 2, of small jobs on the sample corpus.
"""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_on_disk import measured, write_job
from rich.console import Console

from mtx.errors import ConfigError, DamagedError, DataError, NewerFormatError, StoreError
from mtx.experiment.compare import compare
from mtx.experiment.run_context import Run
from mtx.records.evaluation_report import EvaluationReport
from mtx.records.job_records import read_results
from mtx.records.plot_data_record import RunProfile
from mtx.records.record_file import Record
from mtx.records.report_record import (
    DataReport,
    DrawReport,
    Ledger,
    PlanReport,
    Report,
    TrainingReport,
    TranslationReport,
)

FORMER = Path(__file__).parent / "former"
DOCS = Path(__file__).parents[2] / "docs" / "report.md"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def former(kind: str) -> dict[str, Any]:
    return dict[str, Any](json.loads((FORMER / kind / "report.json").read_text()))


def keys_of(*parts: type[Record]) -> set[str]:
    return {name for part in parts for name in part.model_fields}


def plain(report: Report) -> dict[str, Any]:
    return dict[str, Any](json.loads(json.dumps(report.to_json())))


@pytest.mark.parametrize("kind", ["measure", "fit", "mixture"])
def test_a_report_of_the_former_version_is_read_whole(kind: str) -> None:
    report, was = Report.read(FORMER / kind), former(kind)
    assert report is not None
    assert report.own == {}, "every key is declared"
    now = plain(report)
    assert now.pop("report_version") == Report.VERSION == was.pop("report_version") + 1
    for name in ("batches", "pairs"):
        if kind != "fit":
            assert now.pop(f"num_{name}_drawn") == was.pop(f"num_{name}_served")
    for source, ledger in was.get("ledger_by_source", {}).items():
        assert now["ledger_by_source"][source].pop("drawn") == ledger.pop("servings")
    assert now == was


def test_keys_that_scripts_read_have_kept_their_names() -> None:
    report = Report.read(FORMER / "measure")
    assert report is not None
    now, was = plain(report), former("measure")
    for name in ("num_pairs_raw", "num_pairs_kept", "dropped", "ledger", "padding_ratio", "real_tokens_per_s"):
        assert now[name] == was[name]


def test_a_profile_of_the_former_version_is_read_whole() -> None:
    profile = RunProfile.read(FORMER / "fit")
    assert profile is not None
    was = json.loads((FORMER / "fit" / "profile.json").read_text())
    now = json.loads(json.dumps(profile.to_json()))
    assert (now.pop("profile_version"), was.pop("profile_version")) == (2, 1)
    assert now.pop("validations") == was.pop("curve")
    assert now == was


def test_runs_of_the_former_version_are_compared_with_those_of_this_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(FORMER, tmp_path / "runs")
    write_job(tmp_path / "runs" / "now", {"seed": 1}, measured(0.01, num_pairs_drawn=940), choices={"task": "measure"})
    run = Run({"sweep": {"objective": "num_pairs_drawn"}}, output_dir=tmp_path / "out", console=Console(width=200))
    compare(run, runs=[str(tmp_path / "runs")])
    table = pyarrow.parquet.read_table(tmp_path / "out" / "results.parquet")
    assert table["job"].to_pylist() == ["fit", "measure", "mixture", "now"]
    assert table["objective.num_pairs_drawn"].to_pylist() == [None, 391, former("mixture")["num_pairs_served"], 940]
    assert "metric.num_pairs_served" not in table.column_names
    page = (tmp_path / "out" / "report.html").read_text()
    assert "cannot be read" not in page + capsys.readouterr().out
    bits = former("fit")["bits_per_byte"]
    assert f"{bits:.4f}" in page


def test_an_objective_of_the_former_version_has_its_name_of_today(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"seed": 1}, {**former("measure")}, objective="num_pairs_served")
    (job,) = read_results([tmp_path]).jobs
    assert job.objectives == {"num_pairs_drawn": 391}
    assert Report.current_name("ledger_by_source.a.b.servings") == "ledger_by_source.a.b.drawn"
    assert Report.current_name("padding_ratio") == "padding_ratio"


def test_what_each_task_reports_is_what_its_part_declares() -> None:
    """Whole reports of the former version; a mixture adds its sources, and today's names more stages."""
    of_sources = {"sources", "ledger_by_source", "ledger_by_group", "scorers", "selection"}
    later = {
        "contaminated",
        "num_pairs_changed",
        "changed_by_step",
        "slices",
        "contrastive",
        "length_variation",
        "stream",
    }
    later |= {"pass_s", "num_parameters", "device", "num_threads"}
    later |= keys_of(EvaluationReport)
    of_sources |= later
    of_plan = keys_of(DataReport, PlanReport)
    assert set(Report.of(former_read("measure")).model_fields_set) == (of_plan | keys_of(DrawReport)) - of_sources | {
        "own"
    }
    fitted = of_plan | keys_of(TrainingReport, TranslationReport)
    assert set(Report.of(former_read("fit")).model_fields_set) == fitted - of_sources | {"own"}
    assert of_sources - later - {"ledger_by_group", "scorers", "selection"} <= set(
        former_read("mixture").model_fields_set
    )


def former_read(kind: str) -> Report:
    report = Report.read(FORMER / kind)
    assert report is not None
    return report


@pytest.mark.parametrize("record", [Report, RunProfile])
def test_the_documentation_explains_every_key(record: type[Report | RunProfile]) -> None:
    text = DOCS.read_text(encoding="utf-8").replace(
        "`…_validation`, `…_test`", "`num_pairs_validation`, `num_pairs_test`"
    )
    missing = [name for name in {*record.model_fields, record.VERSION_KEY} - {"own"} if f"`{name}`" not in text]
    assert missing == []


def test_a_key_that_mtx_does_not_declare_cannot_be_reported_by_mtx() -> None:
    with pytest.raises(ValueError, match=r"num_pear\s+Extra inputs are not permitted"):
        PlanReport(num_pear=1)  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="frozen"):
        Report().epoch = 3  # type: ignore[misc]


def test_a_task_of_ones_own_reports_what_it_likes(tmp_path: Path) -> None:
    run = Run({"seed": 0}, output_dir=tmp_path / "out")
    run.write_report({"own": 1, "mine": {"score": 2.5, "name": "x"}, "padding_ratio": 0.5})
    written = json.loads((tmp_path / "out" / "report.json").read_text())
    assert written == {"report_version": 2, "own": 1, "mine": {"score": 2.5, "name": "x"}, "padding_ratio": 0.5}
    report = Report.read(tmp_path / "out")
    assert report is not None
    assert report.padding_ratio == 0.5
    assert report.numbers() == {"own": 1, "mine.score": 2.5, "padding_ratio": 0.5}


def test_a_value_that_does_not_fit_under_a_name_of_mtx_is_refused(tmp_path: Path) -> None:
    run = Run({"seed": 0}, output_dir=tmp_path)
    with pytest.raises(DataError, match=r"padding_ratio should be .*, but is 'low'.*Choose another name"):
        run.write_report({"padding_ratio": "low"})
    assert not (tmp_path / "report.json").exists()


def test_numbers_of_a_ledger_that_were_not_counted_are_left_out() -> None:
    ledger = Ledger(num_pairs=3, batched=2, dropped_length=1, dropped_remainder=0, repeated=0)
    assert "ledger.not_drawn" not in Report.of(PlanReport(ledger=ledger)).numbers()
    assert Report.of(PlanReport(ledger=ledger)).to_json()["ledger"] == {
        "num_pairs": 3, "batched": 2, "dropped_length": 1, "dropped_remainder": 0, "repeated": 0,
    }  # fmt: skip


WRONG = {
    "empty": (b"", DamagedError, r"its 0 bytes are no complete JSON .*The file was truncated or changed"),
    "cut short": (b'{"report_version": 2, "num_pai', DamagedError, r"its 30 bytes are no complete JSON"),
    "no text": (b"\xff\xfe\x00", DamagedError, "are no complete JSON"),
    "deep": (b"[" * 100_000, DamagedError, "are no complete JSON"),
    "a list": (b"[1]", DamagedError, "is no report of mtx: it holds a list, no JSON object"),
    "foreign": (
        b'{"created": 1.5, "summary": {}}',
        DamagedError,
        "it has neither report_version nor another key of a report of mtx",
    ),
    "no version": (b'{"report_version": "new"}', DamagedError, "report_version is 1 to 2, but is 'new'"),
    "true": (b'{"report_version": true}', DamagedError, "report_version is 1 to 2, but is True"),
    "zero": (b'{"report_version": 0}', DamagedError, "report_version is 1 to 2, but is 0"),
    "newer": (
        b'{"report_version": 3, "x": 1}',
        NewerFormatError,
        r"has report_version=3, but this mtx reads .* up to 2",
    ),
    "a text for a number": (
        b'{"report_version": 2, "ledger": {"num_pairs": "many"}, "epoch": -1}',
        DamagedError,
        r"epoch should be greater than or equal to 0, but is -1; ledger.num_pairs should be an integer, but is "
        r"'many'; ledger.batched is missing; and 2 more",
    ),
    "a list for a mapping": (
        b'{"report_version": 2, "dropped": [1]}',
        DamagedError,
        r"dropped should be .*, but is \[1\]",
    ),
}


@pytest.mark.parametrize(("content", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_report_is_refused_with_its_name_and_what_to_do(
    tmp_path: Path, content: bytes, error: type[StoreError], message: str
) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        Report.read(tmp_path)
    told = str(caught.value)
    assert told.startswith(str(tmp_path / "report.json"))
    assert "leave its folder out" in told
    assert "\n" not in told


def test_a_report_that_cannot_be_opened_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "report.json").mkdir()
    with pytest.raises(DamagedError, match=r"report\.json cannot be read: Is a directory"):
        Report.read(tmp_path)
    assert Report.read(tmp_path / "nowhere") is None


@pytest.mark.parametrize(("content", "error", "message"), WRONG.values(), ids=WRONG)
def test_a_comparison_leaves_such_runs_out_and_counts_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, error: type[StoreError], message: str
) -> None:
    for number in range(3):
        write_job(tmp_path / "runs" / str(number), {"a": number}, measured(0.1), choices={"task": "measure"})
    (tmp_path / "runs" / "1" / "report.json").write_bytes(content)
    if b"created" in content:  # where mtx left a status, it is the report of a task of a user's own
        (tmp_path / "runs" / "1" / "status.json").unlink()
    compare(Run({}, output_dir=tmp_path / "out", console=Console(width=400)), runs=[str(tmp_path / "runs")])
    told = capsys.readouterr().out
    assert "1 of 3 runs left out: their reports cannot be read, as noted above" in told
    assert f"note: job 1 is left out: {tmp_path / 'runs' / '1' / 'report.json'}" in told
    assert pyarrow.parquet.read_table(tmp_path / "out" / "results.parquet")["job"].to_pylist() == ["0", "2"]
    assert "job 1 is left out: " in (tmp_path / "out" / "report.html").read_text()


def test_a_comparison_of_nothing_else_says_what_is_wrong_with_each(tmp_path: Path) -> None:
    write_job(tmp_path / "runs" / "0", {"a": 0}, measured(0.1))
    (tmp_path / "runs" / "0" / "report.json").write_text('{"report_version": 9}')
    with pytest.raises(
        ConfigError, match=r"no run of .* that can be read\. .*\n  job 0 is left out: .*report_version=9"
    ):
        compare(Run({}, output_dir=tmp_path / "out"), runs=[str(tmp_path / "runs")])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_report_ends_in_anything_but_a_record_or_an_error_of_the_store(tmp_path: Path, data: st.DataObject) -> None:
    value = copy.deepcopy(former(data.draw(st.sampled_from(["measure", "fit", "mixture"]))))
    place = value
    for _ in range(data.draw(st.integers(0, 2))):
        inner = [item for item in place.values() if isinstance(item, dict) and item]
        place = data.draw(st.sampled_from(inner)) if inner else place
    place[data.draw(st.sampled_from(sorted(place)))] = data.draw(VALUES)
    text = json.dumps(value)
    (tmp_path / "report.json").write_text(text[: data.draw(st.sampled_from([len(text), len(text) // 2]))])
    refused = ""
    try:
        report = Report.read(tmp_path)
    except StoreError as error:
        refused, report = str(error), None
    assert report is not None or refused.startswith(str(tmp_path / "report.json"))
    json.dumps(report.to_json() if report else None)
