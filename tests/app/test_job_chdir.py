"""Relative paths count from the folder where the command was typed, also with hydra.job.chdir=true."""

from pathlib import Path

import pytest
from command_line import Mtx

PREPARE = ("task=prepare", "downloader=local", "filter=none", "tokenizer=byte", "page=false")
NO_HELD_OUT = ("datamodule.validation=null", "datamodule.test=null")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamps.en").write_text("The lamp is on.\nThe cup is blue.\n")
    (tmp_path / "lamps.de").write_text("Die Lampe ist an.\nDie Tasse ist blau.\n")
    (tmp_path / "lamps.tsv").write_text("The lamp is off.\tDie Lampe ist aus.\n")
    return tmp_path


PLACES = {
    "two files and the store": ("downloader.source_path=lamps.en", "downloader.target_path=lamps.de"),
    "a file in the folder above": ("downloader.path=sub/../lamps.tsv", "downloader.header=false"),
}


@pytest.mark.parametrize("paths", PLACES.values(), ids=PLACES)
def test_paths_of_a_run_count_from_the_working_folder(mtx: Mtx, folder: Path, paths: tuple[str, ...]) -> None:
    (folder / "sub").mkdir()
    result = mtx(*PREPARE, *NO_HELD_OUT, *paths, "storage.root=my_store", "hydra.job.chdir=true", "hydra.run.dir=run")
    assert result.code == 0, result.err
    assert (folder / "my_store" / "datasets").is_dir()
    assert (folder / "run" / "report.json").exists()
    assert f"assumed: relative paths count from {folder}" in result.out + result.err


MISSING = {
    "a file": ("downloader.path=gone.tsv", "there is no file gone.tsv"),
    "a pattern": ("downloader.path=gone/*.tsv", "gone/*.tsv"),
    "a folder above": ("downloader.path=../gone.tsv", "there is no file ../gone.tsv"),
    "two files": ("downloader.source_path=lamps.en", "downloader.target_path=gone.de", "gone.de"),
    "rules of OpusFilter": ("downloader.path=lamps.tsv", "filter=opusfilter", "filter.path=gone.yaml", "gone.yaml"),
    "one source of several": ("downloader=mixture", "downloader.sources={a: gone.tsv}", "gone.tsv"),
}
FORMS = ("hydra.job.chdir=true", "hydra.job.chdir=True", "++hydra.job.chdir=true", "hydra.job.chdir=yes")


@pytest.mark.parametrize("case", MISSING.values(), ids=MISSING)
def test_a_missing_file_is_told_by_the_typed_path(mtx: Mtx, folder: Path, case: tuple[str, ...]) -> None:
    *settings, told = case
    result = mtx(*PREPARE, *settings, "hydra.job.chdir=true", "hydra.run.dir=run")
    assert result.code == 1
    assert told in result.err
    assert str(folder / "run") not in result.err
    assert Path.cwd() == folder


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_the_setting_leaves_the_working_folder(mtx: Mtx, folder: Path, form: str) -> None:
    result = mtx(*PREPARE, "downloader.path=gone.tsv", form, "hydra.run.dir=run")
    assert "there is no file gone.tsv" in result.err
    assert Path.cwd() == folder
