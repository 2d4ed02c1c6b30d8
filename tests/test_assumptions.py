"""What mtx assumes is one line in the terminal and the log, and an item of the report."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import Mtx

from mtx.assumption_log import assume, collected_assumptions
from mtx.errors import SourceError
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.progress.progress_log import ProgressExclusion
from mtx.records.data_assumptions import assume_about_data
from mtx.records.report_record import HeldOut


def test_equal_assumptions_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with collected_assumptions() as kept:
        for what in ("a is b", "a is b", "c is d"):
            assume(what)
        with collected_assumptions() as inner:
            assume("a is b")
    assert (kept, inner) == (["a is b", "c is d"], ["a is b"])
    assert caplog.messages == ["assumed: a is b", "assumed: c is d", "assumed: a is b"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_jobs_of_a_sweep_show_an_equal_assumption_once(caplog: pytest.LogCaptureFixture) -> None:
    for sweep in (None, "one", "one", "another", None):
        with collected_assumptions(sweep=Path(sweep) if sweep else None) as kept:
            assume("a is b")
        assert kept == ["a is b"]
    assert [ProgressExclusion().filter(record) for record in caplog.records] == [True, True, False, True, True]
    assert caplog.messages == ["assumed: a is b"] * 5  # in the log of each job


def test_an_assumption_is_in_the_terminal_the_log_and_the_report(
    mtx: Mtx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lamps.tsv").write_text("en\tfr\n" + "".join(f"lamp {i}\tlampe {i}\n" for i in range(9)))
    options = ["task=prepare", "downloader=local", "downloader.path=lamps.tsv", "filter=none", "tokenizer=byte"]
    for _ in range(2):  # the second run builds nothing
        found = mtx(*options, "datamodule.validation=null", "datamodule.test=null")
        assert found.code == 0, found.err
        (log,) = Path.cwd().glob("outputs/*/*/mtx.log")
        what = "the columns 'en' and 'fr' are source and target, in the order of the columns"
        assert f"assumed: lamps.tsv, line 1: {what}" in log.read_text()
        log.unlink()
        assert what in found.out + found.err
        assert any(what in assumed for assumed in found.report["assumptions"])


PO = 'msgid "a"\nmsgstr "b"\n'
TRANSLATION = '{"translation": {"en": "a", "de": "b"}}\n'
TMX = '<tmx><header srclang="%s"/><tu><tuv lang="en"><seg>a</seg></tuv><tuv lang="de"><seg>b</seg></tuv></tu></tmx>'


@pytest.mark.parametrize(
    ("name", "data", "options", "told"),
    [
        ("a.jsonl", TRANSLATION, {}, "'en' is the source and 'de' the target, in the order of 'translation'"),
        ("a.jsonl", TRANSLATION, {"source_language": "de"}, None),
        ("a.tmx", TMX % "*all*", {}, "'en' is the source and 'de' the target, in the order of the first unit"),
        ("a.tmx", TMX % "de", {}, None),
        ("a.tmx", TMX % "*all*", {"target_language": "en"}, None),
        ("a.tsv", "a\tb\tc\n", {"header": False}, "the first two of 3 columns are source and target"),
        ("a.tsv", "a\tb\n", {"header": False}, None),
        ("a.tsv", "a\tb\tc\n", {"header": False, "source_column": 3, "target_column": 1}, None),
        ("a.de.po", PO, {"source_language": "en"}, "a.de.po is in 'de', by its name or folder"),
        ("a.po", PO, {"target_language": "de"}, "the texts that gettext catalogues translate are in 'en'"),
        ("a.po", PO, {"source_language": "en", "target_language": "de"}, None),
    ],
)
def test_what_a_reader_assumes(tmp_path: Path, name: str, data: str, options: dict[str, Any], told: str | None) -> None:
    (tmp_path / name).write_text(data)
    with collected_assumptions() as kept:
        LocalDownloader(path=tmp_path / name, **options).info()
    assert len(kept) == (told is not None)
    assert told is None or (told in kept[0] and "set downloader." in kept[0])


MIXED = [("a", "b", "\n"), ("c", "d", "\r"), ("e", "f", "\r\n"), ("g", "h", "\n")]


@pytest.mark.parametrize("ends", ["mixed", "windows", "no last end"])
def test_carriage_returns_that_end_no_line_are_text_and_told(tmp_path: Path, ends: str) -> None:
    end_of = {"mixed": lambda end: end, "windows": lambda end: "\r\n", "no last end": lambda end: "\n"}[ends]
    for side in (0, 1):
        text = "\ufeff" + "".join(row[side] + end_of(row[2]) for row in MIXED)
        (tmp_path / f"x.{side}").write_text(text.rstrip("\n") if ends == "no last end" else text, "utf-8", newline="")
    downloader = LocalDownloader(
        source_path=tmp_path / "x.0", target_path=tmp_path / "x.1", source_language="en", target_language="de"
    )
    with collected_assumptions() as kept:
        pairs = [row for batch in downloader.batches("train", {}) for row in batch.to_pylist()]
    is_mixed = ends == "mixed"
    assert len(pairs) == (3 if is_mixed else 4)
    assert pairs[0]["src"] == "a"
    assert pairs[1]["src"] == ("c\re" if is_mixed else "c")
    assert len(kept) == 2 * is_mixed
    assert not kept or r"x.0 has carriage returns (\r) that are text, because" in kept[0]


@pytest.mark.parametrize(
    ("name", "data"), [("a.tsv", "a\tb\nc\td\re\tf\n"), ("a.jsonl", '{"src": "a", "tgt": "b"}\r' * 2 + "\n")]
)
def test_carriage_returns_in_a_damaged_row_are_told_with_the_command_that_helps(
    tmp_path: Path, name: str, data: str
) -> None:
    (tmp_path / name).write_text(data, newline="")
    options = {"header": False} if name == "a.tsv" else {}
    with pytest.raises(SourceError, match=r"perl -pe 's/\\r\\n\?/\\n/g' OLD > NEW"):
        list(LocalDownloader(path=tmp_path / name, **options).batches("train", {}))


def test_what_a_run_assumes_about_its_data() -> None:
    parts = {"a": SimpleNamespace(validation_split="auto", test_split="auto"), "b": SimpleNamespace()}
    recipe = SimpleNamespace(downloader=SimpleNamespace(parts=parts), tokenizer=SimpleNamespace(vocab_size=300))
    datamodule: Any = SimpleNamespace(recipe=recipe, ids=SimpleNamespace(raw={"a/train": "1", "a/test": "2"}))
    held_out = HeldOut(digest="d", num_pairs=2, filter="filter/default")
    sizes = {" of the source": 290, " of the target": 300}
    with collected_assumptions() as kept:
        assume_about_data(datamodule, held_out, sizes, {"validation": 1, "test": 1})
    assert [each.partition(",")[0] for each in kept] == [
        "validation pairs of a are held out of the training split",
        "the source has a test split of a",
        "the vocabulary of the source has 290 tokens",
    ]
    with collected_assumptions() as kept:
        assume_about_data(datamodule, held_out, {"": 300}, {"validation": 0, "test": 1})
    assert len(kept) == 1


def test_pairs_of_a_source_are_held_out_only_if_no_source_of_the_mixture_has_the_split() -> None:
    part = SimpleNamespace(validation_split="auto", test_split=None)
    downloader = SimpleNamespace(parts={"a": part, "b": part}, sources={"a": part, "b": part})
    recipe = SimpleNamespace(downloader=downloader, tokenizer=None)
    held_out = HeldOut(digest="d", num_pairs=2, filter="filter/default")
    datamodule: Any = SimpleNamespace(recipe=recipe, ids=SimpleNamespace(raw={"a/train": "1", "a/validation": "2"}))
    with collected_assumptions() as kept:
        assume_about_data(datamodule, held_out, {}, {"validation": 9, "test": 0})
    (told,) = kept
    assert "validation split of a, which is used completely" in told
    assert "set downloader.sources.a.validation_split=null" in told
    datamodule.ids.raw = {"a/train": "1"}
    with collected_assumptions() as kept:
        assume_about_data(datamodule, held_out, {}, {"validation": 9, "test": 0})
    assert ["set downloader.sources.b.validation_split=NAME" in each for each in kept] == [False, True]
