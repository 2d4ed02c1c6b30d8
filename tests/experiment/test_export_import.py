"""`task=export`, `task=import` and remote stores, as a user types them."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from mtx.app.command import compose
from mtx.components.check_and_build import build, check_config
from mtx.data.dataset import TranslationDataset
from mtx.errors import ConfigError, NotStoredError
from mtx.experiment.run_context import Run

PAIRS = [{"src": f"one {i}", "tgt": f"eins {i}"} for i in range(1200)]


def run_of(tmp_path: Path, *overrides: str) -> Run:
    config = compose(overrides)
    check_config(config)
    return Run(config, output_dir=tmp_path / "out", console=Console(file=io.StringIO(), width=200))


def said(run: Run) -> str:
    task: dict[str, Any] = {**run.config["task"], "_partial_": True}
    build({**run.config, "task": task}, "task")(run=run)
    assert isinstance(run.console.file, io.StringIO)
    return run.console.file.getvalue()


@pytest.fixture
def stored(tmp_path: Path) -> str:
    """The override that sets a store with one dataset, `small`."""
    root = f"storage.root={tmp_path / 'store'}"
    store = run_of(tmp_path, root).build("storage")
    rows = [*PAIRS, {"src": "a\u2028b", "tgt": "c"}, {"src": "a\nb", "tgt": "d"}]
    store.repo.add(
        TranslationDataset(id="small", name="n", stage="raw", split="train", languages=("en", "de"), data=rows)
    )
    return root


def test_export_and_import_say_what_they_did(tmp_path: Path, stored: str) -> None:
    target, other = tmp_path / "e.zip", f"storage.root={tmp_path / 'other'}"
    told = said(run_of(tmp_path, "task=export", "dataset=small", f"to={target}", stored))
    assert told.startswith(f"exported small to {target}: 1,202 pairs, ")
    assert said(run_of(tmp_path, "task=import", f"from={target}", other)) == (
        f"imported small\nstore: {tmp_path / 'other'}\n"
    )
    assert said(run_of(tmp_path, "task=import", f"from={target}", other)).startswith(
        "small is already stored; the stored dataset is kept\n"
    )


def test_what_lines_cannot_hold_is_told(tmp_path: Path, stored: str) -> None:
    overrides = ("task=export", "dataset=small", f"to={tmp_path / 'm'}", "format=moses", "task.newlines=drop", stored)
    told = said(run_of(tmp_path, *overrides))
    assert "1,201 pairs" in told
    assert "1 pairs were dropped because a text has a line break" in told
    assert "1 pairs contain characters such as U+2028" in told


@pytest.mark.parametrize("given", [["task=export", "dataset=small"], ["task=export", "to=x"]])
def test_export_says_what_it_needs(tmp_path: Path, stored: str, given: list[str]) -> None:
    with pytest.raises(ConfigError, match="task=export needs a dataset and a target: mtx task=export dataset=ID to="):
        said(run_of(tmp_path, *given, stored))


def test_import_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"task=import needs an export, .*: mtx task=import from=FOLDER"):
        said(run_of(tmp_path, "task=import"))
    with pytest.raises(ConfigError, match=r"task.max_ratio is a number above 0, but is 0"):
        said(run_of(tmp_path, "task=import", "from=x", "task.max_ratio=0"))


def test_an_unknown_dataset_is_told_with_the_way_to_see_all(tmp_path: Path, stored: str) -> None:
    with pytest.raises(NotStoredError, match=r"nothing is stored as 'smal' .*small.*mtx task=show lists all"):
        said(run_of(tmp_path, "task=export", "dataset=smal", f"to={tmp_path / 'e'}", stored))


def test_an_unknown_format_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^format is one of datasets, megatron, .*, but is 'tmx'"):
        run_of(tmp_path, "task=export", "dataset=small", "to=x", "format=tmx")


def test_a_whole_run_shares_its_stages_through_an_address(tmp_path: Path) -> None:
    """Two machines, each with a cache of its own: what the first built, the second reads."""
    common = ["storage.root=memory://shared/mtx", "task=prepare", "tokenizer=bpe", "tokenizer.vocab_size=300"]
    lines = "src\ttgt\n" + "".join(f"one {i}\teins {i}\n" for i in range(1200))
    (tmp_path / "corpus.tsv").write_text(lines)
    common += ["downloader=local", f"downloader.path={tmp_path / 'corpus.tsv'}", "downloader.source_language=en"]
    common += ["downloader.target_language=de", "datamodule.validation=20", "datamodule.test=20"]
    first = run_of(tmp_path, *common, f"storage.cache={tmp_path / 'one'}")
    said(first)
    second = run_of(tmp_path, *common, f"storage.cache={tmp_path / 'two'}")
    said(second)
    assert first.datamodule.ids.built
    assert second.datamodule.ids.built == []
    report = (tmp_path / "out" / "report.json").read_text()
    assert '"store": "memory://shared/mtx"' in report
    shown = said(run_of(tmp_path, *common, "task=show", f"storage.cache={tmp_path / 'two'}"))
    assert "in memory://shared/mtx" in shown
    for task in (["task=verify", "full=true"], ["task=gc"]):
        told = said(run_of(tmp_path, *common, *task, f"storage.cache={tmp_path / 'two'}"))
        assert "memory://shared/mtx" in told


@pytest.mark.parametrize("override", ["storage.root=s3://KEY:hidden@bucket/mtx", "+storage.secret=hidden"])
def test_a_secret_on_the_command_line_is_refused_before_it_is_written_down(
    tmp_path: Path, override: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mtx.app import command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["mtx", "task=show", override])
    with pytest.raises(SystemExit):
        command.main()
    told = capsys.readouterr()
    assert "redential" in told.err
    assert "hidden" not in told.err + told.out
    assert list(tmp_path.iterdir()) == []


def test_a_secret_in_the_environment_variable_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTX_STORE", "s3://KEY:hidden@bucket/mtx")
    with pytest.raises(ConfigError, match=r"but is s3://\*\*\*@bucket/mtx") as caught:
        run_of(tmp_path, "task=show").build("storage")
    assert "hidden" not in str(caught.value)
