"""Numbers that another program wrote into records, and that no table can hold."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from mtx.errors import DamagedError
from mtx.records.record_file import read_object
from mtx.records.report_record import REPORT_FILE, Report


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_an_integer_beyond_64_bits_is_found_in_any_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"a": 1 << 70, "b": 1}), encoding=encoding)
    assert read_object(tmp_path / "x.json", "report") == {"b": 1}


@pytest.mark.parametrize("number", [10**400, -(10**400), 1 << 64, -(1 << 64), 10**19 * 2])
def test_an_integer_beyond_64_bits_is_left_out_and_told(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    Report(num_pairs_raw=5, num_pairs_kept=4).write(tmp_path)
    found = json.loads((tmp_path / REPORT_FILE).read_text())
    (tmp_path / REPORT_FILE).write_text(json.dumps({**found, "num_pairs_raw": number}))
    with caplog.at_level(logging.WARNING):
        report = Report.read(tmp_path)
    assert report is not None
    assert "num_pairs_raw" not in report.numbers()
    assert report.numbers()["num_pairs_kept"] == 4
    assert f"num_pairs_raw is left out, because it has {number.bit_length()} bits, but at most 64" in caplog.text


@pytest.mark.parametrize(
    ("content", "left"),
    [
        ({"a": {"b": 1 << 70, "c": 1}}, {"a": {"c": 1}}),
        ({"a": [1, 1 << 70, 2]}, {"a": [1, 2]}),
        ({"a": [{"b": 1 << 70}]}, {"a": [{}]}),
        ({"a": (1 << 64) - 1, "b": True, "c": 1.5, "d": "1" * 400}, None),
    ],
)
def test_nested_values_are_looked_through(tmp_path: Path, content: dict[str, Any], left: dict[str, Any] | None) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    assert read_object(tmp_path / "x.json", "file") == (content if left is None else left)


@pytest.mark.parametrize("content", ['{"a": ' + "9" * 5000 + "}", "[" * 100_000, '{"a":' * 5000])
def test_what_json_refuses_is_damaged(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(DamagedError, match="cannot be read"):
        read_object(tmp_path / "x.json", "file")
