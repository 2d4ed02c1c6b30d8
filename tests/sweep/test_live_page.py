"""The page of a sweep that still runs: it exists before the first job, counts jobs, and reloads until the end."""

import errno
import json
import os
import shutil
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from jobs_on_disk import profile, trained, write_job
from lxml import html

from mtx.page.render import render, write_results_page
from mtx.progress.literal_console import PlainConsole
from mtx.records.job_records import read_results
from mtx.records.job_status import LOCK_FILE, JobStatus, write_status
from mtx.records.running_training import read_running_profile
from mtx.records.sweep_progress import is_sweep_running, sweep_progress
from mtx.records.sweep_record import PlannedJob, SweepRecord, read_sweep
from mtx.sweep.live_page import LivePage, results_so_far, running_results, write_page_of_running_sweep

RELOADS = '<meta http-equiv="refresh"'
BEGUN = datetime.now().astimezone() - timedelta(seconds=100)


def plan(folder: Path, samplers: Sequence[str] = ("a", "b", "c", "d")) -> None:
    jobs = tuple(PlannedJob(folder=str(i), overrides=(f"sampler={name}",)) for i, name in enumerate(samplers))
    folder.mkdir(exist_ok=True)
    SweepRecord(num_jobs=len(jobs), jobs=jobs, varied=("sampler",), attempt_started=BEGUN.isoformat()).write(folder)


def finish(folder: Path, sampler: str, bits: float) -> None:
    config = {"sampler": {}, "seed": 1}
    write_job(folder, config, trained(bits), choices={"sampler": sampler}, objective="bits_per_byte", profile=profile())


def begin(folder: Path, validations: list[dict[str, Any]]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"sampler": {}, "seed": 1}))
    write_status(folder, JobStatus.begin("running", overrides=["sampler=c"], choices={"sampler": "c"}))
    (folder / "training.json").write_text(json.dumps({"validations": validations}))


@pytest.mark.usefixtures("undrawn")
def test_the_page_exists_before_the_first_job_and_says_that_all_wait(tmp_path: Path) -> None:
    plan(tmp_path)
    LivePage(tmp_path).write()
    tree = html.fromstring((tmp_path / "report.html").read_bytes())
    (status,) = tree.xpath("//*[@role='status']")
    assert "0 of 4 done, 0 running, 4 waiting, 0 failed, as of " in status.text_content()
    assert tree.xpath("//meta[@http-equiv='refresh']/@content") == ["20"]
    assert "Interim, no winner yet: 0 jobs are completed, 4 run or wait." in tree.text_content()


def test_a_running_sweep_shows_curves_so_far_and_no_winner_and_its_end_stops_the_reloading(tmp_path: Path) -> None:
    plan(tmp_path)
    finish(tmp_path / "0", "a", 2.0)
    finish(tmp_path / "1", "b", 3.0)
    seen = [{"step": step, "seconds": step, "real_tokens": step, "val/bits_per_byte": 4 - step} for step in (0, 1)]
    begin(tmp_path / "2", seen)
    with FileLock(tmp_path / "2" / LOCK_FILE):
        page = html.fromstring(render(running_results(tmp_path), tmp_path).encode())
    words = " ".join(page.text_content().split())
    assert "2 of 4 done, 1 running, 1 waiting, 0 failed" in words
    assert "Interim, no winner yet: 2 jobs are completed, 2 run or wait." in words
    assert "missing" not in words
    assert "sampler=d: waiting, 0 of 1 jobs done" in words
    curves = page.xpath("//section[@aria-labelledby='learning']//figure/@aria-label")
    assert any("c: 3.0000" in label for label in curves)
    done = html.fromstring(render(read_results([tmp_path]), tmp_path).encode())
    assert not done.xpath("//meta[@http-equiv='refresh']")
    assert "sampler=d: missing, 0 of 1 jobs done" in " ".join(done.text_content().split())


@pytest.mark.parametrize("content", ["", "[]", '{"validations": 3}', '{"validations": [{"step": "x"}]}', "\x00"])
def test_a_training_file_that_cannot_be_read_leaves_the_curve_out(tmp_path: Path, content: str) -> None:
    plan(tmp_path)
    begin(tmp_path / "2", [])
    (tmp_path / "2" / "training.json").write_text(content)
    with FileLock(tmp_path / "2" / LOCK_FILE):
        assert "1 running" in render(running_results(tmp_path), tmp_path)


def test_the_curve_of_an_earlier_attempt_is_not_that_of_a_job_that_runs_again(tmp_path: Path) -> None:
    begin(tmp_path / "2", [{"step": 1, "seconds": 1.0, "val/bits_per_byte": 3.0}])
    started = datetime.now().astimezone()
    assert len(read_running_profile(tmp_path / "2", started.isoformat()).validations) == 1
    assert not read_running_profile(tmp_path / "2", (started + timedelta(seconds=60)).isoformat()).validations


def test_the_time_left_follows_from_the_jobs_that_ended(tmp_path: Path) -> None:
    plan(tmp_path)
    finish(tmp_path / "0", "a", 2.0)
    (job, *_) = read_results([tmp_path]).jobs
    assert job.ended is not None
    at_end = datetime.fromisoformat(job.ended)
    found = sweep_progress(read_results([tmp_path]).jobs, read_sweep(tmp_path), at_end + timedelta(seconds=30))
    assert found.left_s == pytest.approx((at_end - BEGUN).total_seconds() * 3 - 30)
    assert sweep_progress([], None, at_end).left_s is None


@pytest.mark.usefixtures("undrawn")
def test_a_page_is_written_again_only_after_progress_and_not_too_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(tmp_path)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    page, path = LivePage(tmp_path), tmp_path / "report.html"
    page.write()
    path.unlink()
    finish(tmp_path / "0", "a", 2.0)
    page.tick()
    assert not path.exists()  # the last page is younger than 20 s
    now[0] += 25
    page.tick()
    assert "1 of 4 done" in path.read_text()
    path.unlink()
    now[0] += 25
    page.tick()
    assert not path.exists()  # nothing has changed


@pytest.mark.usefixtures("undrawn")
def test_a_page_without_progress_is_written_again_after_five_minutes_and_says_that_it_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(tmp_path)
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    page, path = LivePage(tmp_path), tmp_path / "report.html"
    page.write()
    assert '"is_followed": false' in path.read_text()  # a launcher that never ticks writes at the ends of jobs only
    path.unlink()
    now[0] += 301
    page.tick()
    assert '"is_followed": true' in path.read_text()


@pytest.mark.usefixtures("undrawn")
def test_another_process_writes_the_page_only_if_it_is_old_and_no_failure_ends_the_sweep(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page_of_running_sweep(tmp_path)
    assert not path.exists()
    LivePage(tmp_path / "gone").write()
    LivePage(tmp_path / "gone").tick()
    plan(tmp_path)
    path.write_text("old")
    with FileLock(tmp_path / "sweep.lock"):
        write_page_of_running_sweep(tmp_path)
        assert path.read_text() == "old"
        os.utime(path, (1, 1))
        write_page_of_running_sweep(tmp_path)
    assert "refresh" in path.read_text()


def test_a_page_of_many_jobs_is_written_less_often_and_by_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    plan(tmp_path)
    path.write_text("old")
    for number in range(8):
        (tmp_path / str(number)).mkdir()
    monkeypatch.setattr("mtx.sweep.live_page.SECONDS_PER_JOB", 0.1)  # so 8 jobs ask for 40 s
    ages: list[float] = []
    monkeypatch.setattr(LivePage, "write", lambda self: ages.append(time.time() - path.stat().st_mtime))
    with FileLock(tmp_path / "sweep.lock"):
        for age, num_written in ((30, 0), (50, 1), (None, 1)):
            if age is not None:
                os.utime(path, (time.time() - age,) * 2)
            write_page_of_running_sweep(tmp_path)
            assert len(ages) == num_written
    assert ages[0] < 10, "a page that is being written counts as young"


@pytest.mark.usefixtures("undrawn")
def test_a_job_that_ends_while_another_writes_the_page_is_on_the_page_that_this_one_writes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan(tmp_path)
    path, write, written = tmp_path / "report.html", LivePage.write, []
    finish(tmp_path / "0", "a", 2.0)
    path.write_text("old")
    os.utime(path, (1, 1))

    def write_while_another_job_ends(page: LivePage) -> None:
        write(page)
        written.append(path.read_text())
        if len(written) == 1:
            finish(tmp_path / "1", "b", 3.0)
            other = threading.Thread(target=write_page_of_running_sweep, args=[tmp_path])
            other.start()
            other.join()

    monkeypatch.setattr(LivePage, "write", write_while_another_job_ends)
    with FileLock(tmp_path / "sweep.lock"):
        write_page_of_running_sweep(tmp_path)
    assert ["1 of 4 done" in written[0], "2 of 4 done" in written[1], len(written)] == [True, True, 2]
    assert not (tmp_path / "page.request").exists()


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("age_s", [0, 1000])
def test_without_a_launcher_jobs_that_end_while_another_reads_results_are_on_the_last_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age_s: int
) -> None:
    plan(tmp_path, "abc")
    path, read, num_running = tmp_path / "report.html", read_results, []
    finish(tmp_path / "0", "a", 2.0)
    path.write_text("old")
    os.utime(path, (time.time() - age_s,) * 2)

    def read_while_another_job_ends(folders: list[Path]) -> Any:
        folder = tmp_path / str(len(num_running) + 1)
        if folder.name == "3":
            num_running.append(0)
            return read(folders)
        begin(folder, [])
        with FileLock(folder / LOCK_FILE):
            results = read(folders)
        num_running.append(results.count("running"))
        shutil.rmtree(folder)
        finish(folder, "abc"[int(folder.name)], 2.0 + int(folder.name))
        other = threading.Thread(target=write_page_of_running_sweep, args=[tmp_path])
        other.start()
        other.join()
        return results

    monkeypatch.setattr("mtx.sweep.live_page.read_results", read_while_another_job_ends)
    write_page_of_running_sweep(tmp_path)
    assert num_running == [1, 1, 0]
    text = path.read_text()
    assert "missing" not in text
    assert all(f"{bits:.4f}" in text for bits in (2, 3, 4))
    assert not (tmp_path / "page.request").exists()


@pytest.mark.usefixtures("undrawn")
def test_without_a_launcher_jobs_that_never_start_do_not_keep_the_last_job_off_a_young_page(tmp_path: Path) -> None:
    plan(tmp_path, ["a", "b"])
    LivePage(tmp_path).write()
    finish(tmp_path / "0", "a", 2.0)
    write_page_of_running_sweep(tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "2.0000" in text
    assert RELOADS not in text


@pytest.mark.usefixtures("undrawn")
def test_a_job_that_ends_after_its_launcher_died_writes_a_page_that_does_not_reload(tmp_path: Path) -> None:
    plan(tmp_path, ["a"])
    LivePage(tmp_path).write()
    assert RELOADS in (tmp_path / "report.html").read_text()
    finish(tmp_path / "0", "a", 2.0)
    write_page_of_running_sweep(tmp_path)
    assert RELOADS not in (tmp_path / "report.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_a_file_that_vanishes_does_not_end_the_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan(tmp_path)
    finish(tmp_path / "model" / "0", "a", 2.0)
    page = LivePage(tmp_path)
    assert len(page._signature()) == 2  # type: ignore[arg-type]  # jobs may lie in folders of folders

    def refuse(*_: object) -> None:
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("mtx.sweep.live_page.job_folders", refuse)
    page.write()
    page.tick()


@pytest.mark.usefixtures("undrawn")
def test_results_of_folders_of_which_one_is_a_running_sweep_are_interim_and_their_page_does_not_reload(
    tmp_path: Path,
) -> None:
    for name in ("one", "two"):
        plan(tmp_path / name, ["a", "b"])
        finish(tmp_path / name / "0", "a", 2.0)
        finish(tmp_path / name / "1", "b", 3.0)
    assert not results_so_far([tmp_path / "one", tmp_path / "two"]).is_interim
    with FileLock(tmp_path / "two" / "sweep.lock"):
        for folders in ([tmp_path], [tmp_path / "two"], [tmp_path / "one", tmp_path / "two"]):
            results = results_so_far(folders)
            assert results.is_interim
            assert RELOADS not in render(results, tmp_path)


def test_if_the_last_page_cannot_be_written_the_former_one_stops_reloading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path)
    LivePage(tmp_path).write()

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of no use")

    monkeypatch.setattr("mtx.page.render.page_content", broken)
    write_results_page(read_results([tmp_path]), tmp_path, PlainConsole())
    assert "ZeroDivisionError" in capsys.readouterr().out
    text = (tmp_path / "report.html").read_text()
    assert RELOADS not in text
    assert "The page of the end could not be written." in text


def test_a_page_that_may_still_reload_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan(tmp_path)
    LivePage(tmp_path).write()

    def full(*_: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    write_results_page(read_results([tmp_path]), tmp_path, PlainConsole())
    assert "report.html is of the time before the end, and may still reload." in capsys.readouterr().out


def test_a_sweep_runs_while_its_lock_is_held(tmp_path: Path) -> None:
    assert not is_sweep_running(tmp_path)
    with FileLock(tmp_path / "sweep.lock"):
        assert is_sweep_running(tmp_path)
