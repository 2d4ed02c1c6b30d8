"""task=compare: the same page and tables from any set of runs."""

from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from jobs_on_disk import measured, trained, write_job
from rich.console import Console

from mtx.errors import ConfigError, StoreError
from mtx.experiment.compare import compare
from mtx.experiment.run_context import Run


def run_in(folder: Path, **sweep: Any) -> Run:
    return Run({"sweep": sweep}, output_dir=folder, console=Console(width=200))


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A sweep, a single run, an old run without a status, and runs of other tasks."""
    folder = tmp_path / "runs"
    for number, padding in enumerate([0.3, 0.1]):
        write_job(folder / "sweep" / str(number), {"a": number}, measured(padding), choices={"task": "measure"})
    write_job(folder / "single", {"a": 2}, measured(0.2), choices={"task": "measure"})
    write_job(folder / "old", {"a": 3}, measured(0.4))
    (folder / "old" / "status.json").unlink()
    for task in ("show", "compare"):
        write_job(folder / task, {"a": 4}, choices={"task": task})
    return folder


def test_any_runs_make_a_page_and_tables(tmp_path: Path, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compare(run_in(tmp_path / "out"), runs=[str(runs)])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "report.html",
        "results.csv",
        "results.parquet",
    ]
    table = pyarrow.parquet.read_table(tmp_path / "out" / "results.parquet")
    assert table["job"].to_pylist() == ["old", "single", "sweep/0", "sweep/1"]
    assert table["metric.padding_ratio"].to_pylist() == [0.4, 0.2, 0.3, 0.1]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "No winner: each arm has one seed" in page
    assert "Compared by padding ratio in percent (lower is better)." in page
    assert "measure, a=1 has the lowest number, 10 lower than measure, a=2." in page
    assert table["verdict.result"].to_pylist() == ["open"] * 4
    assert table["verdict.difference"].to_pylist() == pytest.approx([0.3, 0.1, 0.2, None])
    assert 'href="../runs/single/report.json"' in page
    told = capsys.readouterr().out
    assert "2 runs of other tasks left out" in told
    assert "page: " in told


def test_the_folder_for_the_page_may_be_given_and_so_may_what_is_compared(tmp_path: Path, runs: Path) -> None:
    run = run_in(tmp_path / "own", objective="num_batches", direction="maximize")
    compare(run, runs=str(runs / "sweep"), to=str(tmp_path / "a" / "b"))
    assert not (tmp_path / "own").exists()
    page = (tmp_path / "a" / "b" / "report.html").read_text()
    assert "Compared by batches (higher is better)." in page


def test_several_objectives_make_a_front(tmp_path: Path, runs: Path) -> None:
    compare(run_in(tmp_path / "out", objective=["padding_ratio", "num_pairs_train"], direction=None), runs=[str(runs)])
    assert "padding ratio (%) and num_pairs_train" in (tmp_path / "out" / "report.html").read_text()


def test_the_comparison_leaves_itself_out(tmp_path: Path) -> None:
    write_job(tmp_path / "0", {"a": 0}, measured())
    write_job(tmp_path / "1", {"a": 1}, trained(2.0))
    compare(run_in(tmp_path / "1"), runs=[str(tmp_path)])
    assert pyarrow.parquet.read_table(tmp_path / "1" / "results.parquet")["job"].to_pylist() == ["0"]


@pytest.mark.parametrize("nothing", [None, []])
def test_no_folder_is_refused(tmp_path: Path, nothing: list[str] | None) -> None:
    with pytest.raises(ConfigError, match="task=compare needs folders of runs or sweeps: mtx task=compare 'runs="):
        compare(run_in(tmp_path), runs=nothing)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs has .*typo, which is no folder\. Set .runs="):
        compare(run_in(tmp_path), runs=[str(runs), str(tmp_path / "typo")])


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is nothing to compare in .*: no run of task=measure or task=fit"):
        compare(run_in(tmp_path / "out"), runs=[str(tmp_path)])


def test_an_objective_that_no_run_has_is_refused(tmp_path: Path, runs: Path) -> None:
    with pytest.raises(ConfigError, match=r"sweep\.objective=bleu is no number in the report of any of these runs"):
        compare(run_in(tmp_path, objective="bleu"), runs=[str(runs)])


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, runs: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.* cannot be written"):
        compare(run_in(tmp_path / "out"), runs=[str(runs)], to=str(tmp_path / "file" / "inside"))
