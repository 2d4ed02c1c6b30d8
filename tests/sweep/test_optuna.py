"""Sweeps that search, by Optuna: what they look at, what they keep, and how they go on."""

import csv
import gc
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from command_line import Mtx

optuna = pytest.importorskip("optuna")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")

SEARCH = ["-m", "sweeper=optuna"]
SMALL = ["downloader.n=300", "tokenizer=byte", "datamodule.num_workers=0"]
RANGE = "sampler.max_tokens=range(2048,1000000)"
# A job of some milliseconds; the first one fails where there is a file `fails`.
TASK = """
from pathlib import Path

def work(run, *, epoch, world_size):
    if Path("fails").exists():
        Path("fails").unlink()
        raise ZeroDivisionError("broken on purpose")
    return run.config["sampler"]["max_tokens"] / 1e6
"""
QUICK = ["task._target_=searched_task.work", RANGE]

# Optuna leaves its connections to the collector of garbage, of which Python 3.13 warns.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning")]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("MTX_ALLOW_TARGETS", "searched_task")
    Path("searched_task.py").write_text(TASK)
    optuna.logging.disable_default_handler()  # it writes to what was the terminal when it was made: the first test's
    yield
    gc.collect()  # while the warning is ignored, and not in the next test


def kept(query: str) -> list[tuple[object, ...]]:
    """Ask the file of studies."""
    with closing(sqlite3.connect("mtx-study.db")) as studies:
        return studies.execute(query).fetchall()


def tried() -> list[int]:
    """Return the values of max_tokens of all trials, in order."""
    return [int(str(value)) for (value,) in kept("select cast(param_value as int) from trial_params order by trial_id")]


def sweeps() -> list[Path]:
    return sorted(path.parent for path in Path("multirun").glob("*/*/sweep.json"))


def test_a_search_keeps_its_study_and_ends_with_the_table_and_files_of_any_sweep(mtx: Mtx) -> None:
    result = mtx(*SEARCH, *SMALL, "hydra.sweeper.n_trials=2", "sampler.max_tokens=range(1024,8192)")
    assert result.code == 0, result.err
    (folder,) = sweeps()
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["sampler.max_tokens"]) for row in rows] == tried()
    assert all(1024 <= value < 8192 for value in tried())
    values = [float(str(value)) for (value,) in kept("select value from trial_values order by trial_id")]
    assert values == [float(row["metric.padding_ratio"]) for row in rows]
    assert kept("select direction from study_directions") == [("MINIMIZE",)]
    assert "2 completed" in result.end
    assert "No winner: each arm has one seed" in " ".join(result.end.split())
    assert (folder / "report.html").exists()
    assert "Warning" not in result.err


def test_two_objectives_are_searched_each_in_its_direction(mtx: Mtx) -> None:
    objectives = "sweep.objective=[padding_ratio,real_tokens_per_batch.mean]"
    command = [*SEARCH, *SMALL, "hydra.sweeper.n_trials=2", RANGE, objectives, "sweep.direction=[minimize,maximize]"]
    result = mtx(*command)
    assert result.code == 0, result.err
    assert kept("select direction from study_directions order by objective") == [("MINIMIZE",), ("MAXIMIZE",)]
    (folder,) = sweeps()
    reports = [json.loads((folder / f"{job}/report.json").read_text()) for job in range(2)]
    told = [[report["padding_ratio"], report["real_tokens_per_batch"]["mean"]] for report in reports]
    values = [value for (value,) in kept("select value from trial_values order by trial_id, objective")]
    assert values == [number for both in told for number in both]
    assert "Number of Pareto solutions:" in result.out


def test_a_direction_of_the_sweepers_own_is_taken_too(mtx: Mtx) -> None:
    objectives = ["sweep.objective=[padding_ratio,num_batches]", "hydra.sweeper.direction=[minimize,minimize]"]
    result = mtx(*SEARCH, *SMALL, "hydra.sweeper.n_trials=1", RANGE, *objectives)
    assert result.code == 0, result.err
    assert kept("select direction from study_directions order by objective") == [("MINIMIZE",), ("MINIMIZE",)]


def test_the_default_direction_of_the_sweepers_own_config_is_taken_too(mtx: Mtx) -> None:
    study = ["hydra/sweeper=optuna", "hydra.sweeper.storage=sqlite:///mtx-study.db", "hydra.sweeper.n_jobs=1"]
    result = mtx("-m", *study, *QUICK, "hydra.sweeper.n_trials=1")
    assert result.code == 0, result.err
    assert kept("select direction from study_directions") == [("MINIMIZE",)]


def test_the_same_command_goes_on_with_its_study_and_tries_other_values(mtx: Mtx) -> None:
    command = [*SEARCH, *QUICK, "hydra.sweeper.n_trials=2"]
    assert mtx(*command).code == 0
    first = tried()
    assert mtx(*command, "launcher=basic").code == 0
    assert len(first) == 2
    assert tried()[:2] == first
    assert len(tried()) == 4
    assert not set(first) & set(tried()[2:]), "of a million values"
    assert len(sweeps()) == 2
    assert len(kept("select * from studies")) == 1
    assert mtx(*command, "sampler.max_pairs=10").code == 0
    assert len(kept("select * from studies")) == 2, "another command has a study of its own"


def test_a_search_goes_on_in_its_folder(mtx: Mtx) -> None:
    command = [*SEARCH, *QUICK, "hydra.sweeper.n_trials=2"]
    mtx(*command)
    again = mtx(*command, "sweep.resume=true")
    assert again.code == 0, again.err
    (folder,) = sweeps()
    assert sorted(path.parent.name for path in folder.glob("*/status.json")) == ["0", "1", "2-0", "2-1"]
    assert "4 completed; 2 of them from an earlier attempt" in again.end
    assert len(kept("select * from studies")) == 1


def test_a_search_is_repeatable_by_a_seed(mtx: Mtx) -> None:
    command = [*SEARCH, *QUICK, "hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.seed=3"]
    for name in ("one", "other"):
        assert mtx(*command, f"hydra.sweeper.study_name={name}").code == 0
    assert kept("select study_name from studies order by study_id") == [("one",), ("other",)]
    assert tried()[:2] == tried()[2:]


def test_a_failed_job_does_not_end_the_search(mtx: Mtx) -> None:
    Path("fails").touch()
    result = mtx(*SEARCH, *QUICK, "hydra.sweeper.n_trials=3")
    assert result.code == 1
    assert kept("select state from trials order by number") == [("FAIL",), ("COMPLETE",), ("COMPLETE",)]
    assert "2 completed, 1 failed" in result.end
    assert "ZeroDivisionError: broken on purpose" in result.end
    assert "Traceback" not in result.out + result.err


def test_a_search_whose_jobs_all_fail_says_so(mtx: Mtx) -> None:
    result = mtx(*SEARCH, *SMALL, "hydra.sweeper.n_trials=2", RANGE, "sweep.objective=padding")
    assert result.code == 1
    assert "2 failed" in result.end
    assert "sweep.objective=padding is no number in report.json, which has padding_ratio, " in result.end
    assert "A search needs this number from each job" in result.end
    assert "Traceback" not in result.out + result.err


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (
            ["hydra.sweeper.direction=up"],
            "hydra.sweeper.direction is minimize or maximize, or a list of them, but is up",
        ),
        (
            ["hydra.sweeper.direction=[minimize,minimize]"],
            "a search needs one direction for each objective, but hydra.sweeper.direction=[minimize,minimize] has 2 "
            "and sweep.objective=null (the number that the task returns) has 1. Set hydra.sweeper.direction=minimize, "
            "or set as many objectives: sweep.objective=[padding_ratio,num_batches]. ",
        ),
        (
            ["sweep.objective=[padding_ratio,num_batches]", "sweep.direction=[minimize]"],
            "but hydra.sweeper.direction=[minimize] has 1 and sweep.objective=[padding_ratio,num_batches] has 2. Set "
            "hydra.sweeper.direction=[minimize,minimize], or set as many objectives: sweep.objective=[padding_ratio]. ",
        ),
    ],
)
def test_directions_that_do_not_fit_are_told_before_the_first_job(mtx: Mtx, wrong: list[str], told: str) -> None:
    result = mtx(*SEARCH, *SMALL, RANGE, *wrong)
    assert result.code == 1
    assert told in result.err
    assert not Path("multirun").exists()
    assert not Path("mtx-study.db").exists()
