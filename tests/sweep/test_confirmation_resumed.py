"""A sweep with `sweep.confirm` that was cut short: resuming it runs what is missing, and nothing twice."""

import json
import sys
from pathlib import Path

import pytest
from command_line import Mtx

from mtx.records.job_records import read_results
from mtx.records.sweep_record import read_sweep

TASK = """
from pathlib import Path
from mtx.experiment.run_context import needs

@needs()
def work(run, *, epoch, world_size):
    with Path("ran").open("a") as file:
        file.write(f"{epoch}/{run.seed} ")
    if f"{epoch}/{run.seed}" in Path("broken").read_text().split():
        raise RuntimeError("broken")
    return epoch + run.seed / 100
"""
GRID = ["0/1", "0/2", "1/1", "1/2"]
CONFIRMED = ["0/3", "0/4", "1/3", "1/4"]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command of a sweep over two arms and two seeds, whose jobs append their names to the file `ran`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "confirmed_task", raising=False)
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "confirmed_task")
    Path("confirmed_task.py").write_text(TASK)
    Path("broken").write_text("")
    return ["-m", "task._target_=confirmed_task.work", "task.epoch=0,1", "seed=1,2", "sweep.confirm=2"]


def ran() -> list[str]:
    """Return the jobs that ran since the last call."""
    found = Path("ran").read_text().split() if Path("ran").exists() else []
    Path("ran").write_text("")
    return found


def folder() -> Path:
    (only,) = Path("multirun").glob("*/*")
    return only


def test_a_resumed_sweep_runs_what_is_missing_and_keeps_its_verdict(mtx: Mtx, command: list[str]) -> None:
    Path("broken").write_text("1/2 0/4 1/4")  # a job of the grid, and two that the confirmation added
    assert mtx(*command).code == 1
    assert ran() == [*GRID, *CONFIRMED]
    Path("broken").write_text("")
    resumed = mtx(*command, "sweep.resume=true")
    assert resumed.code == 0, resumed.err
    assert ran() == ["1/2", "0/4", "1/4"]
    assert "8 completed; 5 of them from an earlier attempt" in resumed.end
    results = read_results([folder()])
    assert sorted(results.verdict.order) == ["epoch=0 (new seeds)", "epoch=1 (new seeds)"]
    assert [job.folder.name for job in results.jobs if job.confirms] == ["4", "5", "6", "7"]


def test_jobs_of_the_grid_that_were_left_run_before_the_confirmation(mtx: Mtx, command: list[str]) -> None:
    grid = [*command[:-1], "sweep.confirm=0"]
    Path("broken").write_text("1/2")
    mtx(*grid)
    assert ran() == GRID
    Path("broken").write_text("")
    resumed = mtx(*command, f"sweep.resume={folder()}")
    assert resumed.code == 0, resumed.err
    assert ran() == ["1/2", *CONFIRMED]
    assert "8 completed; 3 of them from an earlier attempt" in resumed.end


def test_a_larger_grid_takes_over_the_jobs_of_a_confirmation(mtx: Mtx, command: list[str]) -> None:
    mtx(*command)
    assert ran() == [*GRID, *CONFIRMED]
    larger = [text.replace("task.epoch=0,1", "task.epoch=0,1,2") for text in command]
    resumed = mtx(*larger, f"sweep.resume={folder()}")
    assert resumed.code == 0, resumed.err
    assert ran() == ["2/1", "2/2"]
    assert "10 jobs" in resumed.end
    assert "10 completed; 8 of them from an earlier attempt" in resumed.end
    sweep = read_sweep(folder())
    assert sweep is not None
    assert sorted(json.loads((folder() / "sweep.json").read_text())["done"].values()) == [str(n) for n in range(8)]
    assert sorted(read_results([folder()]).verdict.order) == ["epoch=0 (new seeds)", "epoch=1 (new seeds)"]
