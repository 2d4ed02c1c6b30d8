"""Sweeps whose jobs run in other processes, by the launchers that are installed with the tests."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx

from mtx.cpu_count import cores_for_each

LAUNCHERS = {  # the package of each, and the number of jobs that share the cores
    "joblib": ("hydra_plugins.hydra_joblib_launcher", 2),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", 4),
}
SMALL = ["downloader.n=300", "tokenizer=byte", "datamodule.num_workers=0", "storage.root=store"]
# Prepares the data, says what this took, and then fails for seed 1 as long as there is a file `broken`.
TASK = """
import os
from pathlib import Path

import torch
from mtx.experiment.run_context import DATA_GROUPS, needs

@needs(*DATA_GROUPS)
def work(run, *, epoch, world_size):
    run.datamodule.prepare_data()
    told = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS")}
    told |= {"torch": torch.get_num_threads(), "pid": os.getpid(), "built": run.datamodule.ids.built}
    run.write_report({**told, "padding_ratio": run.seed / 10})
    if run.seed == 1 and Path("broken").exists():
        raise ZeroDivisionError("broken on purpose")
    return run.seed / 10
"""

pytestmark = pytest.mark.slow


@pytest.fixture(params=LAUNCHERS)
def launcher(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A launcher, with a folder, a store and a task of the test's own."""
    name = str(request.param)
    pytest.importorskip(LAUNCHERS[name][0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("own_task.py").write_text(TASK)
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "own_task")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    yield name
    if name == "joblib":  # its processes wait for more work, in this test's folder and with its environment
        from joblib.externals.loky import get_reusable_executor

        get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)


def read(path: Path) -> dict[str, Any]:
    loaded = json.loads(path.read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_jobs_share_the_store_and_the_cores_and_one_that_failed_is_run_again(launcher: str, mtx: Mtx) -> None:
    Path("broken").touch()
    command = ["-m", f"launcher={launcher}", "task._target_=own_task.work", *SMALL, "seed=1,2"]
    result = mtx(*command)
    (folder,) = Path("multirun").glob("*/*")
    before = [read(folder / f"{job}/status.json") for job in range(2)]
    assert result.code == 1, result.err
    assert [status["state"] for status in before] == ["failed", "completed"]
    assert before[0]["error"] == "ZeroDivisionError: broken on purpose"
    assert "Traceback (most recent call last)" in (folder / "0/mtx.log").read_text()
    assert "1 completed, 1 failed" in result.end
    assert "job 0 failed" in result.end

    reports = [read(folder / f"{job}/report.json") for job in range(2)]
    built = Counter(name for report in reports for name in report["built"])
    assert set(built.values()) == {1}, "each output is built by one job"
    assert {"raw", "filtered", "tokenizer", "encoded"} <= {name.partition("-")[0] for name in built}

    each = cores_for_each(LAUNCHERS[launcher][1])
    for report in reports:
        told = (report["OMP_NUM_THREADS"], report["RAYON_NUM_THREADS"], report["torch"])
        assert told == (str(each), str(each), each)
        assert report["pid"] != os.getpid()

    Path("broken").unlink()
    again = mtx(*command, "sweep.resume=true")
    after = [read(folder / f"{job}/status.json") for job in range(2)]
    assert list(Path("multirun").glob("*/*")) == [folder]
    assert again.code == 0, again.err
    assert after[0]["state"] == "completed"
    assert after[1] == before[1]
    assert read(folder / "0/report.json")["built"] == []
    assert "2 completed; 1 of them from an earlier attempt" in again.end
