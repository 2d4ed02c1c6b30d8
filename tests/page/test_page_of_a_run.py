"""When a run gets a page: at its end, alone, by the process that wrote its report."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from jobs_on_disk import measured, profile, trained, write_job

from mtx.errors import DataError, JobFailedError
from mtx.page.render import render
from mtx.records.job_records import read_results
from mtx.records.page_recipients import send_files_to
from mtx.sweep.job import run_job
from mtx.sweep.job_spec import Job


def writing(folder: Path) -> Callable[[], float]:
    def work() -> float:
        (folder / "report.json").write_text(json.dumps(measured(0.25)))
        return 0.25

    return work


def job(folder: Path, sweep_dir: Path | None = None) -> Job:
    folder.mkdir(parents=True)
    return Job({"seed": 0}, folder, choices={"task": "measure"}, sweep_dir=sweep_dir)


def test_a_run_ends_with_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = job(tmp_path / "run")
    assert run_job(run, writing(run.folder)) == 0.25
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "<dt>padding ratio (%)</dt><dd>25.0</dd>" in page
    assert "<dt>state</dt><dd>completed</dd>" in page
    assert "report.html" in capsys.readouterr().out.replace("\n", "")


def test_the_page_of_a_training_has_its_start_its_model_and_its_device(tmp_path: Path) -> None:
    facts = {"bits_per_byte_first": 4.25, "num_parameters": 1234567, "device": "cuda x 2", "num_threads": 3}
    write_job(tmp_path / "run", {"seed": 1}, trained(2.0, ended_by="budget.seconds=60", **facts), profile=profile())
    page = render(read_results([tmp_path / "run"]), tmp_path / "run")
    tiles = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)</dd>", page))
    assert tiles["bits per byte at the start"] == "4.2500"
    assert (tiles["parameters"], tiles["device"], tiles["threads"]) == ("1,234,567", "cuda x 2", "3")
    assert tiles["ended by"] == "budget.seconds=60"
    assert '"label": "this run"' in page


def test_a_job_of_a_sweep_leaves_the_page_to_the_sweep(tmp_path: Path) -> None:
    run = job(tmp_path / "sweep" / "0", sweep_dir=tmp_path / "sweep")
    run_job(run, writing(run.folder))
    assert not (run.folder / "report.html").exists()


def test_a_later_rank_writes_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    run = job(tmp_path / "run")
    run_job(run, writing(run.folder))
    assert not (run.folder / "report.html").exists()


def test_a_run_that_fails_keeps_no_page_of_an_earlier_attempt(tmp_path: Path) -> None:
    run = job(tmp_path / "run")
    run_job(run, writing(run.folder))

    def fails() -> None:
        raise DataError("no pair is left")

    told: list[bool] = []
    send_files_to(lambda _, has_failed: told.append(has_failed))
    with pytest.raises(DataError, match="no pair is left"):
        run_job(run, fails)
    assert told == [True]
    assert not (run.folder / "report.html").exists()


def test_a_job_that_fails_names_its_log_of_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, kept_in = job(tmp_path / "sweep" / "0", sweep_dir=tmp_path / "sweep"), []
    log = run.folder / "another.log"
    handler = logging.FileHandler(log)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    monkeypatch.setattr("mtx.sweep.job.keep_native_lines_in", kept_in.append)

    def fails() -> None:
        raise RuntimeError("of no use")

    with pytest.raises(JobFailedError) as found:
        run_job(run, fails)
    handler.close()
    assert str(found.value).endswith(f"See {log}")
    assert kept_in == [log]
    assert log.read_text(encoding="utf-8").endswith("RuntimeError: of no use\n\n")
