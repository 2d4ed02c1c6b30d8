"""Texts of the page: a credential that comes into the environment between two pages is hidden on the second one."""

from pathlib import Path

import pytest
from jobs_on_disk import measured, write_job

from mtx.page.render import render
from mtx.records.job_records import read_results


def test_credentials_of_the_environment_are_read_for_each_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_job(tmp_path / "0", {"seed": 1, "note": "swordfish-1"}, measured())
    results = read_results([tmp_path / "0"])
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert "swordfish-1" in render(results, tmp_path)
    monkeypatch.setenv("HF_TOKEN", "swordfish-1")
    page = render(results, tmp_path)
    assert "swordfish-1" not in page
    assert "***" in page
    monkeypatch.delenv("HF_TOKEN")
    assert "swordfish-1" in render(results, tmp_path)
