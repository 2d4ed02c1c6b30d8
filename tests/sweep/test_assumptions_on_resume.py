"""What a resumed sweep assumes about jobs of earlier attempts: in the terminal, in `sweep.json`, and on the page."""

import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx

from mtx.sweep.job_processes import DIED

QUICK = ["-m", "task=check", "hydra.sweep.dir=swept"]
ABORTED = f"{DIED}: its process was ended by SIGABRT"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def assumptions() -> list[str]:
    read: list[str] = json.loads(Path("swept/sweep.json").read_text())["assumptions"]
    return read


def change_status(job: str, **fields: Any) -> None:
    path = Path("swept", job, "status.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_a_config_whose_process_died_is_passed_over_and_noted_until_it_runs_again(mtx: Mtx) -> None:
    mtx(*QUICK, "seed=1,2")
    assert assumptions() == []
    change_status("1", state="failed", error=ABORTED)
    resumed = mtx(*QUICK, "seed=2,3", "sweep.resume=swept")  # in another grid, where the config has another number
    assert resumed.code == 1
    told = f"job 1 is passed over, because sweep.retry is false: {ABORTED}"
    assert told in " ".join((resumed.out + resumed.err).split())
    assert assumptions() == [told]
    assert "passed over, because sweep.retry is false" in Path("swept/report.html").read_text()
    assert sorted(path.name for path in Path("swept").iterdir() if path.is_dir()) == ["0", "1", "2-1"]
    assert "2 completed, 1 failed" in resumed.end
    retried = mtx(*QUICK, "seed=2,3", "sweep.resume=swept", "sweep.retry=true")
    assert retried.code == 0
    assert assumptions() == []
    assert "passed over" not in retried.out + retried.err + Path("swept/report.html").read_text()
