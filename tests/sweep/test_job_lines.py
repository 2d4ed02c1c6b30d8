"""Lines about the jobs of a sweep, from what these have written."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mtx.records.job_status import JobStatus, write_status
from mtx.records.sweep_record import PlannedJob, SweepRecord
from mtx.sweep.job_lines import duration_line, first_line, job_line

BEGUN = datetime.now().astimezone()
GRID = [["sampler=random", "seed=1"], ["sampler=random", "seed=2"], ["sampler=bucket", "seed=1"]]
ERROR = "EmptyDatasetError: " + "no pair is left, " * 20


def sweep(folder: Path, jobs: Sequence[Sequence[str]] = GRID, **more: Any) -> SweepRecord:
    """Write what a sweep says of itself, and return it."""
    record = SweepRecord(
        attempt_started=BEGUN.isoformat(),
        jobs=tuple(PlannedJob(folder=str(i), overrides=tuple(overrides)) for i, overrides in enumerate(jobs)),
        **{"num_jobs": len(jobs), "varied": ("sampler", "seed"), **more},
    )
    folder.mkdir(exist_ok=True)
    record.write(folder)
    return record


def ended(folder: Path, overrides: list[str], state: Any = "completed", after_s: float = 1, **more: Any) -> Path:
    folder.mkdir(parents=True)
    begun = JobStatus.begin("hash", overrides=overrides, choices={})
    times = {name: (BEGUN + timedelta(seconds=s)).isoformat() for name, s in (("started", after_s), ("ended", 60))}
    write_status(folder, begun.end(state, seconds=133, **more).model_copy(update=times))
    return folder


def test_a_line_has_number_job_difference_result_time_and_time_left(tmp_path: Path) -> None:
    sweep(tmp_path)
    ended(tmp_path / "0", GRID[0], objectives={"padding_ratio": 0.25})
    folder = ended(tmp_path / "1", GRID[1], after_s=30, objectives={"bits_per_byte": 2.5, "n": 3.0})
    line = job_line(folder, tmp_path)
    assert line == "2/3  job 1  sampler=random seed=2  bits per byte 2.5000, n 3  2:13  0:30 left"


def test_the_last_line_has_no_time_left_and_jobs_of_an_earlier_attempt_count_but_have_no_line(tmp_path: Path) -> None:
    sweep(tmp_path, num_done=2)
    for job in (0, 1):
        assert job_line(ended(tmp_path / str(job), GRID[job], after_s=-9), tmp_path) is None
    line = job_line(ended(tmp_path / "2-2", GRID[2]), tmp_path)
    assert line == "3/3  job 2-2  sampler=bucket seed=1  completed  2:13"


def test_a_search_does_not_know_how_many_there_are(tmp_path: Path) -> None:
    told = sweep(tmp_path, [], num_jobs=None, varied=("sampler.max_tokens",))
    line = job_line(ended(tmp_path / "0", ["seed=1", "+sampler.max_tokens=8"]), tmp_path)
    assert line == "1  job 0  max_tokens=8  completed  2:13"
    assert first_line(Path("mine"), told) == "jobs in mine: max_tokens"


def test_an_error_is_cut_to_the_line_and_told_once(tmp_path: Path) -> None:
    sweep(tmp_path)
    first = job_line(ended(tmp_path / "0", GRID[0], "failed", 1, error=ERROR), tmp_path, width=100)
    again = job_line(ended(tmp_path / "1", GRID[1], "failed", 2, error=ERROR), tmp_path, width=100)
    other = job_line(ended(tmp_path / "2", GRID[2], "failed", 3, error="KeyError: 'x'\nmore"), tmp_path, width=100)
    assert first is not None
    assert len(first) == 100
    assert "  failed: EmptyDatasetError: no pair is left, no" in first
    assert "…  2:13  2:00 left" in first
    assert again == "2/3  job 1  sampler=random seed=2  failed, as job 0  2:13  0:30 left"
    assert other == "3/3  job 2  sampler=bucket seed=1  failed: KeyError: 'x'  2:13"


@pytest.mark.parametrize(
    ("jobs", "more", "told"),
    [
        (
            [[f"sampler={name}", f"seed={seed}"] for name in ("a", "b") for seed in (1, 2, 3)],
            {},
            "6 jobs in mine: 2 arms (sampler) x 3 seeds",
        ),
        ([["seed=1"], ["seed=2"]], {"varied": ("seed",)}, "2 jobs in mine: 2 seeds"),
        ([["seed=1"]], {"varied": ()}, "1 job in mine"),
        (
            [["a.n=1", "b.n=1"], ["a.n=2", "b.n=1"]],
            {"varied": ("a.n", "b.n"), "num_done": 1},
            "2 jobs in mine: a.n, b.n; 1 completed by an earlier attempt",
        ),
    ],
)
def test_the_first_line_says_how_many_jobs_and_what_differs(
    tmp_path: Path, jobs: list[list[str]], more: dict[str, Any], told: str
) -> None:
    assert first_line(Path("mine"), sweep(tmp_path, jobs, **more)) == told


def test_a_sweep_says_beforehand_how_long_its_training_takes(tmp_path: Path) -> None:
    assert duration_line(sweep(tmp_path), 60) == (
        "3 jobs of 60 s need 3:00 of training, one after another; validations and the first preparation come on top"
    )
    assert str(duration_line(sweep(tmp_path, num_done=1), 60)).startswith("2 jobs of 60 s need 2:00")
    assert str(duration_line(sweep(tmp_path), 60, 2)).startswith("3 jobs of 60 s need 2:00 of training, 2 at a time; ")
    varied = [["budget.seconds=30"], ["budget.seconds=90"]]
    assert str(duration_line(sweep(tmp_path, varied), None)).startswith("2 jobs need 2:00 of training")
    for record, seconds in ((sweep(tmp_path), None), (sweep(tmp_path, []), 60.0)):
        assert duration_line(record, seconds) is None
    assert duration_line(sweep(tmp_path, [["budget.seconds=null"]]), 60) is None
