"""`task=translate`: a checkpoint and a file of text are enough, and each line gets its translation."""

import gzip
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from command_line import Mtx
from tiny_checkpoint import shared

import mtx.experiment.translate as module
import mtx.experiment.translation_files as module_of_files
from mtx.errors import ConfigError, InUseError, SourceError, StoreError
from mtx.experiment.translation_files import InputLines, TranslationOutput
from mtx.training.checkpoint_translator import CheckpointTranslator, ScoredText, load_translator

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")

LINES = ["train 1", "", "a\x00b", "日本語", "train 9"]
TEXT = "".join(f"{line}\n" for line in LINES)
GREEDY = ("task=translate", "ckpt=model.ckpt", "task.beam=1")


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return shared()[0]


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with a checkpoint and a text."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.ckpt").write_bytes(checkpoint.read_bytes())
    (tmp_path / "text.en").write_bytes(TEXT.encode())
    return tmp_path


@pytest.fixture
def expected(checkpoint: Path) -> list[str]:
    return load_translator(checkpoint).translate(LINES, beam=1)


def test_a_checkpoint_and_a_text_are_enough(folder: Path, mtx: Mtx, expected: list[str]) -> None:
    done = mtx(*GREEDY, "input=text.en", "output=text.de", f"storage.root={folder / 'store'}")
    assert done.code == 0, done.err
    assert Path("text.de").read_text(encoding="utf-8").split("\n") == [*expected, ""]
    assert {path.name for path in folder.iterdir()} == {"model.ckpt", "text.en", "text.de"}


def test_standard_input_and_output(
    folder: Path, mtx: Mtx, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + TEXT.encode())))
    assert mtx(*GREEDY).out.split("\n") == [*expected, ""]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert "standard input has no lines to translate. Set another file with input=FILE" in mtx(*GREEDY).err


def test_compressed_files_and_n_best(folder: Path, mtx: Mtx, expected: list[str]) -> None:
    Path("text.en.gz").write_bytes(gzip.compress(TEXT.replace("\n", "\r\n").encode()))
    assert mtx(*GREEDY, "input=text.en.gz", "output=text.de.gz").code == 0
    assert gzip.decompress(Path("text.de.gz").read_bytes()).decode().split("\n") == [*expected, ""]
    options = ("task=translate", "ckpt=model.ckpt", "task.beam=2", "task.n_best=2")
    assert mtx(*options, "input=text.en.gz", "output=best.tsv").code == 0
    rows = [line.split("\t") for line in Path("best.tsv").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [row[0] for row in rows] == ["0", "0", "1", "2", "2", "3", "3", "4", "4"]
    assert float(rows[0][1]) >= float(rows[1][1])


@pytest.mark.parametrize("n_best", [None, 2])
def test_a_stopped_translation_resumes_by_line(
    folder: Path, mtx: Mtx, monkeypatch: pytest.MonkeyPatch, n_best: int | None
) -> None:
    monkeypatch.setattr(module, "LINES_AT_ONCE", 2)
    options = ("task=translate", "ckpt=model.ckpt", "task.beam=2", f"task.n_best={n_best or 'null'}", "input=text.en")
    assert mtx(*options, "output=whole").code == 0
    whole, calls = CheckpointTranslator.n_best_of_ids, []

    def stopping(self: Any, rows: Any, *rest: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(self, rows, *rest)

    monkeypatch.setattr(CheckpointTranslator, "n_best_of_ids", stopping)
    done = mtx(*options, "output=out")
    assert done.code == 130
    assert "2 translated lines are kept. The same command resumes with the next line." in done.err
    assert not Path("out").exists()
    (partial,) = folder.glob(".out.*.partial")
    partial.write_bytes(partial.read_bytes() + b"half")  # as a kill in the middle of a write leaves it
    assert mtx(*options, "output=out").code == 0
    assert Path("out").read_bytes() == Path("whole").read_bytes()
    assert calls == [2, 2, *([2, 1] if n_best is None else [2, 2])]  # of a table, the last line is translated again
    assert not list(folder.glob(".out*"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ckpt=null"], "task=translate needs a checkpoint, but ckpt is null. Set ckpt=FILE."),
        (["ckpt=no.ckpt"], "does not exist. Set ckpt=FILE."),
        (["ckpt=text.en"], "cannot be read as a checkpoint"),
        (["input=none.en"], "none.en"),
        (["input=empty.en"], "empty.en is empty: 0 bytes. Set another file with input=FILE"),
        (["input=latin.en"], "latin.en, line 2: "),
        (["output=text.en"], "exists, and is not replaced. Set output="),
        (["output=none/text.de"], "does not exist. Create it, or set another with output=FILE"),
        (["output=."], "is a folder. Set output="),
        (["task.n_best=2"], "task.n_best must be at most task.beam=1, but is 2"),
        (["task.beam=0"], "task.beam is an integer of at least 1"),
        (["task.device=none"], "task.device=none is no device of torch here"),
        (["input=text.en", "model._target_=torch.nn.Linear"], "model"),
    ],
)
def test_bad_input_is_told_in_one_line(folder: Path, mtx: Mtx, arguments: list[str], told: str) -> None:
    Path("empty.en").touch()
    Path("latin.en").write_bytes(b"a\n\xe4\n")
    done = mtx(*GREEDY, "input=text.en", "output=text.de", *arguments)
    assert done.code == 1
    assert told in done.err
    assert "Traceback" not in done.err
    assert not Path("text.de").exists()
    assert not list(folder.glob(".text.de*"))


def test_long_lines_are_truncated_and_told(folder: Path, mtx: Mtx) -> None:
    Path("long.en").write_text("a" * 100_000 + "\nb\n")
    done = mtx(*GREEDY, "input=long.en", "output=long.de")
    assert "1 of 2 lines have more than 40 tokens, the maximum of the training, and are truncated." in done.err
    assert Path("long.de").read_text().count("\n") == 2


@pytest.mark.parametrize("name", ["out", "out.gz"])
def test_an_output_is_written_by_one_process(tmp_path: Path, name: str) -> None:
    found = [[ScoredText("a\nb\rc\td", 0.0)]]
    path, options = tmp_path / name, {"is_table": False, "overwrite": False}
    first, late = (TranslationOutput(str(path), settings=[each], **options) for each in ("a", "b"))
    with first as file:
        file.write(0, found)
        with ThreadPoolExecutor(1) as pool, pytest.raises(InUseError, match="is in use by another process"):
            pool.submit(late.__enter__).result()
    content = path.read_bytes()
    assert (gzip.decompress(content) if name == "out.gz" else content) == b"a b c\td\n"
    with pytest.raises(ConfigError, match="exists, and is not replaced"):
        late.__enter__()
    path.unlink()
    told = r"has written .* in the meantime.*Set another file with output=FILE"
    again = TranslationOutput(str(path), settings=["a"], **options).__enter__()
    again.write(0, found)
    path.write_text("by another program")
    with pytest.raises(ConfigError, match=told):
        again.__exit__(None, None, None)
    assert path.read_text() == "by another program"
    path.unlink()
    with TranslationOutput(str(path), settings=["a"], **options) as file:
        assert file.num_lines == 1  # kept by the process that could not write it
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == [name]


def test_links_are_followed_and_other_outputs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"settings": None, "is_table": False}
    (tmp_path / "kept").write_text("old")
    (tmp_path / "link").symlink_to("kept")
    with TranslationOutput(str(tmp_path / "link"), overwrite=True, **options) as file:
        file.write(0, [[ScoredText("new", 0.0)]])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "kept").read_text() == "new\n"
    with pytest.raises(ConfigError, match=r"/dev/null is a device or a pipe. Set output=-, and redirect"):
        TranslationOutput("/dev/null", overwrite=True, **options)
    monkeypatch.setattr(module_of_files, "_complete_lines", Mock(side_effect=OSError(28, "No space left on device")))
    told = r"out cannot be written: No space left on device. Free .* another file with output=FILE"
    with pytest.raises(StoreError, match=told), TranslationOutput(str(tmp_path / "out"), overwrite=False, **options):
        pass
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(ConfigError, match=r"standard output is closed. Set a file for the translations: output=FILE"):
        TranslationOutput("-", overwrite=False, **options)


def test_a_closed_pipe_ends_the_command_without_a_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with (
            pytest.raises(SystemExit) as caught,
            TranslationOutput("-", settings=None, is_table=False, overwrite=False) as file,
        ):
            file.write(0, [[ScoredText("a" * 1_000_000, 0.0)]])
        assert caught.value.code == 1
        pipe.write("what Python flushes at the exit")


def test_lines_are_counted_as_they_are_read(tmp_path: Path) -> None:
    path = tmp_path / "text"
    for text in ("a", "a\n", "a\n\n", "\u2028\x0b", "a\r\nb\rc\r\n"):
        path.write_bytes(text.encode())
        lines = InputLines(str(path))
        blocks = list(lines.blocks(1))
        assert lines.count() == len(blocks)
        assert [first for first, _ in blocks] == list(range(len(blocks)))
        assert list(lines.blocks(5, skip=1)) == ([(1, [of[0] for _, of in blocks[1:]])] if blocks[1:] else [])


def test_blocks_are_bounded_and_inputs_that_cannot_be_read_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "text").write_text("aa\nbb\nc\n")
    monkeypatch.setattr(module_of_files, "MAX_BLOCK_CHARACTERS", 3)
    assert list(InputLines(str(tmp_path / "text")).blocks(9)) == [(0, ["aa", "bb"]), (2, ["c"])]
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceError, match=r"/pipe is a pipe or a device. Set input=-, and redirect: mtx … < /"):
        InputLines(str(tmp_path / "pipe"))
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(SourceError, match=r"standard input is closed. Set a file with input=FILE"):
        list(InputLines("-").blocks(1))


def test_lines_of_an_input_that_must_change_are_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = TranslationOutput(str(tmp_path / "out"), settings=["a"], is_table=False, overwrite=False).__enter__()
    file.write(0, [[ScoredText("a", 0.0)]])
    file.__exit__(SourceError, SourceError("the file was changed"), None)
    assert not list(tmp_path.iterdir())
    assert "resumes" not in capsys.readouterr().err


def test_typed_keys_of_the_reference_model_change_nothing(folder: Path, mtx: Mtx, expected: list[str]) -> None:
    done = mtx(*GREEDY, "task.n_best=1", "input=text.en", "output=text.de", "model.d_model=64", "model.dropout=0.5")
    assert done.code == 0, done.err
    lines = Path("text.de").read_text(encoding="utf-8").split("\n")[:-1]
    assert [line.split("\t")[2] for line in lines] == expected


def test_a_typed_key_has_priority_over_the_checkpoint_which_has_it_over_the_config(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "allowed_target", lambda *_: dict)
    config = {"model": {"_target_": "my.Model", "a": 1, "b": 1, "c": 1, "d": None}}
    run: Any = SimpleNamespace(config=config, overrides=["model=own", "+model.a=1", "models.b=3", "task.beam=1"])
    model = module._own_model(run)
    assert model(a=2, b=2) == {"a": 1, "b": 2, "c": 1}
    assert model.keywords == {"a": 1}  # a secret that the checkpoint does not hold


def test_a_translation_resumes_only_with_the_same_model_and_normaliser(
    folder: Path, mtx: Mtx, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = Mock(side_effect=ConfigError("stopped"))
    monkeypatch.setattr(module, "TranslationOutput", output)
    for more in ([], ["task.batch_tokens=9"], ["normalise=none"], ["normalise.form=NFKC"], ["model.dropout=0"]):
        assert "stopped" in mtx(*GREEDY, "input=text.en", "output=text.de", *more).err
    first, batches, *others = (tuple(call.kwargs["settings"]) for call in output.call_args_list)
    assert first == batches
    assert len({first, *others}) == 4


@pytest.mark.slow
def test_a_fresh_process_imports_no_lightning(folder: Path) -> None:
    code = (
        "import sys\nfrom mtx.__main__ import main\nmain()\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *GREEDY, "input=text.en", "output=text.de"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "'torch'" in done.stdout
    for name in ("pytorch_lightning", "lightning", "lightning_fabric", "transformers", "datasets", "torchmetrics"):
        assert f"'{name}'" not in done.stdout
