"""Sweeps as a user types them: what they leave, what they survive, and how they go on."""

import csv
import json
import re
import shlex
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
import warm_process
from command_line import Mtx
from filelock import FileLock

from mtx.records.job_status import read_status

SMALL = ["downloader.n=300", "tokenizer=byte", "datamodule.num_workers=0"]
QUICK = ["task=check"]  # a job of some milliseconds

SLOW_TASK = """
import time
from pathlib import Path

def work(run, *, epoch, world_size):
    Path(f"began-{run.seed}").touch()
    if run.seed == 1 and Path("hang").exists():
        time.sleep(60)
    return float(run.seed)
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")


def only_sweep() -> Path:
    (folder,) = Path("multirun").glob("*/*")
    return folder


def status(folder: Path) -> dict[str, Any]:
    read = json.loads((folder / "status.json").read_text())
    assert isinstance(read, dict)
    return read


def test_a_failed_job_keeps_its_trace_and_the_others_go_on(mtx: Mtx) -> None:
    result = mtx("-m", *SMALL, "filter.max_chars=1,200,300")
    folder = only_sweep()
    assert result.code == 1
    assert [status(folder / str(job))["state"] for job in range(3)] == ["failed", "completed", "completed"]
    told = status(folder / "0")
    assert told["error"].startswith("EmptyDatasetError: ")
    assert "Traceback (most recent call last)" in told["traceback"]
    assert told["overrides"] == [*SMALL, "filter.max_chars=1"]
    assert told["choices"]["tokenizer"] == "byte"
    assert told["seconds"] >= 0
    assert "Traceback (most recent call last)" in (folder / "0/mtx.log").read_text()
    assert "Traceback" not in result.out + result.err
    assert "2 completed, 1 failed" in result.end
    assert "job 0 failed" in result.end
    assert str(folder / "0/mtx.log") in result.end
    assert "No winner: each arm has one seed, and one seed does not show how much seeds vary." in " ".join(
        result.end.split()
    )
    assert re.search(r"built in this sweep: .*\d filtered", " ".join(result.end.split()))
    table = result.end[: result.end.index("Compared by")].splitlines()
    assert max(len(line) for line in table if not line.startswith("3 jobs in ")) <= 80, "paths alone are not broken"
    assert not list(folder.rglob("*.lock"))


def test_results_are_read_by_pandas_in_one_line(mtx: Mtx) -> None:
    mtx("-m", *SMALL, "sampler=random,bucket", "filter.max_chars=1,300")
    folder = only_sweep()
    frame = pd.read_parquet(folder / "results.parquet")
    assert list(frame["job"]) == ["0", "1", "2", "3"]
    assert list(frame["state"]) == ["failed", "completed", "failed", "completed"]
    assert list(frame["choice.sampler"]) == ["random", "random", "bucket", "bucket"]
    assert list(frame["filter.max_chars"]) == [1, 300, 1, 300]
    assert frame["metric.padding_ratio"].notna().tolist() == [False, True, False, True]
    assert frame["objective.padding_ratio"][1] == frame["metric.padding_ratio"][1]
    assert pyarrow.parquet.read_schema(folder / "results.parquet").field("filter.max_chars").type == "int64"
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == list(frame["state"])
    assert float(rows[1]["metric.padding_ratio"]) == frame["metric.padding_ratio"][1]


def test_a_value_of_a_group_whose_options_vary_goes_to_each_job(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "sampler=random,bucket", "sampler.batch_size=8", "+sampler.seed_of_mine=null")
    assert result.code == 1
    assert "2 of 2 jobs have an invalid config, so no job was started:" in result.err
    assert "seed_of_mine" in result.err
    result = mtx("-m", *QUICK, "sampler=random,bucket", "sampler.batch_size=8")
    assert result.code == 0, result.err
    configs = [json.loads((only_sweep() / f"{job}/config.json").read_text())["sampler"] for job in range(2)]
    assert [config["batch_size"] for config in configs] == [8, 8]
    assert status(only_sweep() / "0")["overrides"] == [*QUICK, "sampler=random", "sampler.batch_size=8"]


def test_a_value_that_one_of_the_options_does_not_take_is_told_for_its_jobs(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "sampler=random,token_budget", "sampler.batch_size=8,16")
    assert result.code == 1
    assert "2 of 4 jobs have an invalid config, so no job was started:" in result.err
    assert "sampler has no key 'batch_size'" in result.err


def test_an_option_that_is_not_there_is_told_as_in_a_single_run(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "seed=1,2", "sampler=bukcet", "tokenizer=bpe2")
    assert result.code == 1
    assert result.err.startswith("mtx: sampler has no option 'bukcet'. Its options: bucket, ")
    assert "tokenizer has no option 'bpe2'. Its options: " in result.err
    assert len(result.err.splitlines()) == 2
    assert not Path("multirun").exists()


def test_a_value_of_an_option_that_an_experiment_chooses_goes_to_its_jobs(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "experiment=none,original", "sampler=bucket", "sampler.batch_size=8")
    assert result.code == 0, result.err


def test_the_same_command_goes_on_with_what_is_missing_or_failed(mtx: Mtx) -> None:
    command = ["-m", *SMALL, "seed=1,2", "filter.max_chars=1,300"]
    mtx(*command)
    folder = only_sweep()
    before = {job: status(folder / str(job)) for job in range(4)}
    (folder / "3/status.json").unlink()
    config = (folder / "1/config.json").read_bytes()
    (folder / "1/config.json").unlink()

    again = mtx(*command, "sweep.resume=true")
    assert (folder / "1/config.json").read_bytes() == config  # by which results are compared
    assert only_sweep() == folder
    after = {job: status(folder / str(job)) for job in range(4)}
    assert [after[job] == before[job] for job in range(4)] == [False, True, False, False]
    assert [after[job]["state"] for job in range(4)] == ["failed", "completed", "failed", "completed"]
    assert again.code == 1
    assert "4 jobs" in again.end
    assert "2 completed, 2 failed; 1 of them from an earlier attempt" in again.end
    assert "sweep.resume=true" not in (folder / "multirun.yaml").read_text()
    assert "jobs 0, 2 failed (filter.max_chars=1)\n  EmptyDatasetError: " in again.end
    assert again.end.count("EmptyDatasetError") == 1
    (go_on,) = [line for line in again.end.splitlines() if "sweep.resume=" in line]
    assert shlex.split(go_on) == ["mtx", *command, f"sweep.resume={folder}"]


def test_a_sweep_that_is_done_is_told_again_in_no_time(mtx: Mtx) -> None:
    command = ["-m", *SMALL, "sampler=random,bucket"]
    first = mtx(*command)
    folder = only_sweep()
    lines = first.out.removesuffix(first.end).splitlines()
    assert lines[0] == f"2 jobs in {folder}: sampler"
    assert lines.pop(1) == f"page, which follows the sweep: {folder / 'report.html'}"
    told_once = "assumed: validation and test are neither filtered"
    assert [line[: len(told_once)] for line in lines[1:2]] == [told_once]
    assert [line[: len("1/2  job 0  sampler=random  padding ")] for line in lines[2:]] == [
        "1/2  job 0  sampler=random  padding ",
        "2/2  job 1  sampler=bucket  padding ",
    ]
    assert "prepare " not in first.err
    assert "padding ratio" in (folder / "1/mtx.log").read_text()
    before = [status(folder / str(job)) for job in range(2)]
    again = mtx(*command, f"sweep.resume={folder}")
    assert [status(folder / str(job)) for job in range(2)] == before
    assert again.code == 0
    assert again.out.removesuffix(again.end).splitlines() == [f"{lines[0]}; 2 completed by an earlier attempt"]
    rows = [line for line in first.end.splitlines() if "bucket" in line]
    assert rows
    assert rows == [line for line in again.end.splitlines() if "bucket" in line]


def test_a_larger_grid_takes_over_what_a_smaller_one_did(mtx: Mtx) -> None:
    mtx("-m", *QUICK, "seed=1,2")
    folder = only_sweep()
    before = [status(folder / name) for name in ("0", "1")]
    again = mtx("-m", *QUICK, "seed=3,2,1", f"sweep.resume={folder}")
    assert again.code == 0, again.err
    assert [status(folder / name) for name in ("0", "1")] == before
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["0", "1", "2-0"]
    assert json.loads((folder / "2-0/config.json").read_text())["seed"] == 3
    assert "3 jobs" in again.end


def test_without_an_earlier_sweep_resuming_begins_one(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "seed=1,2", "sweep.resume=true")
    assert result.code == 0
    assert "no earlier sweep of this command was found" in result.out
    assert status(only_sweep() / "1")["state"] == "completed"


@pytest.mark.parametrize(
    ("resume", "told"),
    [
        ("nowhere", "which contains sweep.json, but is 'nowhere'"),
        ("3", "sweep.resume is true, false, or the folder"),
    ],
)
def test_a_folder_that_holds_no_sweep_is_refused(mtx: Mtx, resume: str, told: str) -> None:
    result = mtx("-m", *QUICK, "seed=1,2", f"sweep.resume={resume}")
    assert result.code == 1
    assert told in result.err
    assert not Path("multirun").exists()


def test_all_mistakes_of_a_grid_are_told_before_its_first_job(mtx: Mtx) -> None:
    result = mtx("-m", *SMALL, "sampler=bucket", "sampler.batch_size=8,0", "datamodule.too_long=drop,cut", "seed=1,2")
    assert result.code == 1
    assert "6 of 8 jobs have an invalid config, so no job was started:" in result.err
    assert "sampler.batch_size" in result.err
    assert "datamodule.too_long is one of drop, truncate, but is 'cut'" in result.err
    assert "sampler.batch_size=8 datamodule.too_long=cut seed=2" in result.err
    assert not Path("multirun").exists()


def test_a_wrong_key_in_a_grid_is_told_before_its_first_job(mtx: Mtx) -> None:
    result = mtx("-m", *SMALL, "sampler.max_tokns=1,2")
    assert result.code == 1
    assert "sampler has no key 'max_tokns'. There are: max_tokens," in result.err
    assert not Path("multirun").exists()


def test_large_grids_are_checked_in_part_and_say_so(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "seed=range(0,600)", "datamodule.too_long=cut")
    assert result.code == 1
    assert "600 jobs: 1 of 2 is checked before the first job starts" in result.out
    assert "300 of 600 jobs have an invalid config" in result.err
    assert "and 297 more" in result.err


def test_a_folder_with_an_earlier_sweep_is_not_overwritten(mtx: Mtx) -> None:
    command = ["-m", *QUICK, "hydra.sweep.dir=mine", "seed=1,2"]
    assert mtx(*command).code == 0
    result = mtx(*command)
    assert result.code == 1
    assert (
        "mine contains an earlier sweep, which this sweep would overwrite. Resume it with sweep.resume=mine, or"
        in result.err
    )
    assert mtx(*command, "sweep.resume=true").code == 0


def test_two_sweeps_at_once_in_one_folder_are_refused(mtx: Mtx) -> None:
    Path("mine").mkdir()
    with FileLock("mine/sweep.lock"):
        result = mtx("-m", *QUICK, "hydra.sweep.dir=mine", "seed=1,2")
    assert result.code == 1
    assert "another sweep is running in mine. Wait until it has ended, or choose another folder" in result.err


def test_a_single_run_in_a_folder_in_use_is_refused(mtx: Mtx) -> None:
    Path("mine").mkdir()
    with FileLock("mine/running.lock"):
        result = mtx(*SMALL, "hydra.run.dir=mine")
    assert result.code == 1
    assert "another process runs a job in it" in result.err
    assert "hydra.run.dir=FOLDER" in result.err


def test_a_single_run_leaves_its_status_and_config_too(mtx: Mtx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIGN_IN", "hf_abcdefgh")
    result = mtx(*SMALL, "hydra.run.dir=mine", "+downloader.token=${oc.env:SIGN_IN}")
    assert result.code == 1  # the sample takes no token
    told = status(Path("mine"))
    assert told["state"] == "failed"
    assert "downloader.token" in told["error"]
    assert json.loads(Path("mine/config.json").read_text())["downloader"]["token"] == "***"
    assert "hf_abcdefgh" not in Path("mine/status.json").read_text()


def test_the_objective_is_a_number_of_the_report(mtx: Mtx) -> None:
    mtx("-m", *SMALL, "sampler=random,bucket", "sweep.objective=real_tokens_per_batch.mean", "sweep.direction=maximize")
    folder = only_sweep()
    reports = [json.loads((folder / f"{job}/report.json").read_text()) for job in range(2)]
    for job, report in enumerate(reports):
        assert status(folder / str(job))["objectives"] == {
            "real_tokens_per_batch.mean": report["real_tokens_per_batch"]["mean"]
        }


def test_several_objectives_are_kept_by_name(mtx: Mtx) -> None:
    mtx("-m", *SMALL, "seed=1", "sweep.objective=[num_batches,padding_ratio]")
    assert list(status(only_sweep() / "0")["objectives"]) == ["num_batches", "padding_ratio"]


def test_an_unknown_objective_costs_no_work_and_is_told(mtx: Mtx) -> None:
    result = mtx("-m", *SMALL, "seed=1", "sweep.objective=paddding")
    assert result.code == 0
    assert "sweep.objective=paddding is no number in report.json, which has" in result.out
    told = "The task returned no number to compare jobs by. Choose one of report.json with sweep.objective=NAME."
    assert told in " ".join(result.end.split())


def test_a_wrong_direction_is_told(mtx: Mtx) -> None:
    result = mtx("-m", *QUICK, "seed=1", "sweep.direction=up")
    assert result.code == 1
    assert "sweep.direction is minimize, maximize, or null, or a list of them, but is 'up'" in result.err


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_kill_and_ctrl_c_lose_only_the_job_under_way(
    tmp_path: Path, sent: signal.Signals, mtx: Mtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "slow_task")
    Path("slow_task.py").write_text(SLOW_TASK)
    Path("hang").touch()
    command = ["-m", "task._target_=slow_task.work", "seed=0,1,2"]
    with warm_process.started("-m", "mtx", *command) as sweep:
        deadline = time.monotonic() + 90
        while not Path("began-1").exists() and sweep.returncode is None and time.monotonic() < deadline:
            time.sleep(0.05)
        folder = only_sweep()
        running = read_status(folder / "1")
        assert running is not None
        assert running.state == "running"
        sweep.send_signal(sent)
        ended = sweep.wait(60)
    deadline = time.monotonic() + 10  # the process of the jobs ends a moment after the one that started it
    while (told := read_status(folder / "1")) is not None and told.state == "running" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert told is not None
    assert told.state == "interrupted"
    assert status(folder / "0")["state"] == "completed"
    if sent == signal.SIGINT:
        assert ended.returncode == 130
        assert "1 completed, 1 interrupted, 1 missing" in ended.stdout, ended.stdout
        assert "sweep.resume=" in ended.stdout
        assert "Traceback" not in ended.stderr
    Path("hang").unlink()
    before = status(folder / "0")
    again = mtx(*command, "sweep.resume=true")
    assert again.code == 0, again.err
    assert status(folder / "0") == before
    assert [status(folder / str(job))["objectives"] for job in range(3)] == [{"objective": float(n)} for n in range(3)]
    assert "3 completed" in again.end
