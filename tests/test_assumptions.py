"""What mtx assumes is one line in the terminal and the log, and an item of the report."""

import logging
from pathlib import Path
from typing import Any

import pytest
from command_line import Mtx

from mtx.assumption_log import assume, collected_assumptions
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.progress.progress_log import ProgressExclusion


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
        ("a.de.po", 'msgid "a"\nmsgstr "b"\n', {}, "a.de.po is in 'de', by its name or folder"),
        ("a.po", 'msgid "a"\nmsgstr "b"\n', {"target_language": "de"}, None),
    ],
)
def test_what_a_reader_assumes(tmp_path: Path, name: str, data: str, options: dict[str, Any], told: str | None) -> None:
    (tmp_path / name).write_text(data)
    with collected_assumptions() as kept:
        LocalDownloader(path=tmp_path / name, **options).info()
    assert len(kept) == (told is not None)
    assert told is None or (told in kept[0] and "set downloader." in kept[0])
