"""What mtx assumes is one line in the terminal and the log, and an item of the report."""

import logging
from pathlib import Path

import pytest
from command_line import Mtx

from mtx.assumptions import assume, collected_assumptions


def test_equal_assumptions_are_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with collected_assumptions() as kept:
        for what in ("a is b", "a is b", "c is d"):
            assume(what)
        with collected_assumptions() as inner:
            assume("a is b")
    assert (kept, inner) == (["a is b", "c is d"], ["a is b"])
    assert caplog.messages == ["assumed: a is b", "assumed: c is d", "assumed: a is b"]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


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
