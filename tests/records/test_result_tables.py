"""`results.csv` and `results.parquet`, read back."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest
from jobs_on_disk import measured, write_job

from mtx.errors import DamagedError, NewerFormatError
from mtx.records.job_records import read_results
from mtx.records.report_metrics import metric_heading, percent, sentence_start
from mtx.records.result_tables import CSV_FILE, PARQUET_FILE, read_tidy, result_rows, write_results
from mtx.records.result_types import Results
from mtx.records.setting_notation import named_metric_text


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """A completed and a failed job."""
    config = {"seed": 1, "sampler": {"max_tokens": 512, "by": "max"}}
    write_job(tmp_path / "jobs" / "0", config, measured(0.25), choices={"sampler": "token_budget"})
    write_job(
        tmp_path / "jobs" / "1",
        {**config, "note": "x, y", "empty": "", "word": "null"},
        choices={"sampler": "bucket"},
        error="E: broken",
    )
    return read_results([tmp_path / "jobs"])


@pytest.mark.parametrize("name", [CSV_FILE, PARQUET_FILE])
def test_rows_are_read_as_they_were_written(tmp_path: Path, results: Results, name: str) -> None:
    write_results(results, tmp_path)
    rows = result_rows(results)
    assert read_tidy(tmp_path / name) == rows
    assert [row.job for row in rows] == ["0", "1"]
    assert [row.verdict for row in rows] == [
        {"arm": "token_budget", "result": "open"},
        {"arm": "bucket, empty=, note=x, y, word=null"},
    ]


def test_rows_have_the_verdict_on_their_arm(tmp_path: Path) -> None:
    for number, (a, padding) in enumerate([(0, 0.1), (0, 0.12), (1, 0.5), (1, 0.52), (2, 0.11), (2, 0.12)]):
        write_job(tmp_path / str(number), {"a": a, "seed": number % 2}, measured(padding))
    rows = result_rows(read_results([tmp_path]))
    assert [row.verdict["result"] for row in rows] == ["tied", "tied", "worse", "worse", "tied", "tied"]
    assert "difference" not in rows[0].verdict
    assert rows[4].verdict["difference"] == pytest.approx(0.005)
    assert rows[2].verdict["arm"] == "a=1"


def test_a_table_of_a_newer_mtx_is_refused(tmp_path: Path, results: Results) -> None:
    _, path = write_results(results, tmp_path)
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(table.replace_schema_metadata({b"mtx.results_version": b"2"}), path)
    with pytest.raises(NewerFormatError, match=r"results\.parquet has version 2, but this mtx reads versions up to 1"):
        read_tidy(path)


def test_what_is_no_table_of_results_is_refused_by_name(tmp_path: Path) -> None:
    for name in (CSV_FILE, PARQUET_FILE):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(DamagedError, match=rf"{name} cannot be read: .*Write it again with mtx task=compare"):
            read_tidy(tmp_path / name)
    pyarrow.parquet.write_table(pa.table({"job": ["0"], "state": ["happy"]}), tmp_path / PARQUET_FILE)
    with pytest.raises(DamagedError, match=r"results\.parquet is no table of results: .*folder is missing"):
        read_tidy(tmp_path / PARQUET_FILE)


@pytest.mark.parametrize(("share", "text"), [(0.0, "0.0 %"), (79 / 310_062, "< 0.1 %"), (0.125, "12.5 %")])
def test_a_share_that_is_not_zero_does_not_read_as_zero(share: float, text: str) -> None:
    assert percent(share) == text


def test_padding_ratios_of_one_side_are_percent_too() -> None:
    assert named_metric_text("source_padding_ratio", 0.125) == "padding ratio, source 12.5 %"
    assert metric_heading("target_padding_ratio") == "padding ratio, target (%)"


@pytest.mark.parametrize(
    ("text", "start"), [("bits per byte", "Bits per byte"), ("BLEU", "BLEU"), ("chrF", "chrF"), ("a.b", "a.b")]
)
def test_the_name_of_a_metric_begins_a_sentence(text: str, start: str) -> None:
    assert sentence_start(text) == start
