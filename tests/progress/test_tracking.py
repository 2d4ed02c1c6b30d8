"""What a long stage shows while it runs."""

import io
import json
import logging
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from mtx.errors import MtxError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.progress.progress_log import NonTerminalFilter, ProgressLog, say
from mtx.progress.tracking import CountedWork, Phases, Waiting, track

if TYPE_CHECKING:
    from command_line import Mtx


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def batches() -> list[pa.RecordBatch]:
    return [pa.record_batch([["a" * 100] * 50, ["b" * 100] * 50], schema=PAIR_SCHEMA) for _ in range(3)]


def test_a_terminal_sees_pairs_and_megabytes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    assert sum(batch.num_rows for batch in track(batches(), "reading [x]", total=150)) == 150
    shown = terminal.getvalue()
    assert "reading [x]" in shown
    assert "150/150" in shown
    assert re.search(r"[\d,]+ pairs/s, [\d,]+\.\d MB/s", shown)


class Clock:
    """A clock that goes on by what it is told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "mtx.progress"]


def test_the_log_has_a_line_at_the_begin_meanwhile_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    work = ProgressLog("prepare", "encoding train", 1000, clock=clock, every_s=30)
    for now, done in ((10, 100), (30, 300), (45, 450), (61, 600)):
        clock.now = now
        work.advance(done)
    clock.now = 100
    work.end(1000)
    assert lines_of(caplog) == [
        "prepare   encoding train begin pairs=1000",
        "prepare   encoding train 30% pairs=300 pairs_per_s=10 left_s=70",
        "prepare   encoding train 60% pairs=600 pairs_per_s=10 left_s=41",
        "prepare   encoding train done pairs=1000 pairs_per_s=10 s=100.0",
    ]


def test_work_of_unknown_length_has_no_share_and_no_end(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock = Clock()
    work = ProgressLog("prepare", "reading x", clock=clock, every_s=5)
    clock.now = 10
    work.advance(50)
    work.end()
    assert lines_of(caplog)[1:] == ["prepare   reading x pairs=50 pairs_per_s=5", "prepare   reading x done s=10.0"]


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Twenty lines a second rather than two a minute."""
    caplog.set_level("INFO")
    monkeypatch.setattr(
        ProgressLog.__init__, "__kwdefaults__", {**ProgressLog.__init__.__kwdefaults__, "every_s": 0.05}
    )


def wait_for(number: int, caplog: pytest.LogCaptureFixture) -> None:
    end = time.monotonic() + 30
    while len(lines_of(caplog)) < number and time.monotonic() < end:
        time.sleep(0.01)


def test_work_that_calls_nothing_has_lines_all_the_same(often: None, caplog: pytest.LogCaptureFixture) -> None:
    with CountedWork("learning", unit=None):
        wait_for(4, caplog)
    lines = lines_of(caplog)
    assert lines[0] == "prepare   learning begin"
    assert all(re.fullmatch(r"prepare   learning s=\d+\.\d", line) for line in lines[1:-1])
    assert len(lines) >= 5
    assert lines[-1].startswith("prepare   learning done s=")
    assert "mtx progress" not in [thread.name for thread in threading.enumerate()]


def test_phases_follow_each_other(often: None, caplog: pytest.LogCaptureFixture) -> None:
    with Phases("training the tokenizer (both)", "tokenizer (both)") as phases:
        for _ in phases.through([["a"] * 3, ["b"] * 2], "counting words", 5):
            pass
        phases.begin("learning the vocabulary", unit=None)
        wait_for(5, caplog)
    lines = [line for line in lines_of(caplog) if " begin" in line or " done" in line]
    assert [re.sub(r" (texts_per_s|s)=[\d.]+", "", line) for line in lines] == [
        "prepare   training the tokenizer (both) begin",
        "prepare   tokenizer (both): counting words begin texts=5",
        "prepare   tokenizer (both): counting words done texts=5",
        "prepare   tokenizer (both): learning the vocabulary begin",
        "prepare   tokenizer (both): learning the vocabulary done",
        "prepare   training the tokenizer (both) done",
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, MtxError])
def test_what_is_stopped_says_by_what(
    error: type[BaseException], often: None, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        with Phases("training", "tokenizer") as phases:
            phases.begin("counting words", 10).reach(4)
            raise error("x")

    with pytest.raises(error):
        work()
    inner, outer = lines_of(caplog)[-2:]
    assert re.fullmatch(rf"prepare   tokenizer: counting words stopped by={error.__name__} texts=4 .*s=\d+\.\d", inner)
    assert re.fullmatch(rf"prepare   training stopped by={error.__name__} s=\d+\.\d", outer)


def test_a_wait_for_another_process_is_shown_once_it_takes_long(often: None, caplog: pytest.LogCaptureFixture) -> None:
    with Waiting("raw-1", patience_s=30) as waiting:
        waiting.over()  # it builds by itself
    assert lines_of(caplog) == []
    with Waiting("raw-1", patience_s=0.01):
        wait_for(2, caplog)
    begin, *_, end = lines_of(caplog)
    assert begin == "prepare   waiting for another process: raw-1 begin"
    assert end.startswith("prepare   waiting for another process: raw-1 done s=")


def test_rows_of_which_no_more_are_wanted_are_stopped_by_nobody(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    rows = track(batches(), "reading")
    next(rows)
    rows.close()
    assert lines_of(caplog)[-1].startswith("prepare   reading stopped pairs=0 ")


def test_an_error_leaves_no_half_of_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")

    def work() -> None:
        with CountedWork("reading", 150) as counted:
            counted.reach(75)
            raise MtxError("no")

    with pytest.raises(MtxError):
        work()
    assert "reading" in terminal.getvalue()
    assert terminal.getvalue().rpartition("left")[2].count("\x1b[2K")


def test_a_terminal_that_can_draw_no_bar_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    for term, expected in (("xterm", False), ("dumb", True)):
        monkeypatch.setenv("TERM", term)
        assert NonTerminalFilter().filter(logging.makeLogRecord({})) is expected


def test_where_no_thread_may_be_what_is_counted_writes_the_lines(often: None, caplog: pytest.LogCaptureFixture) -> None:
    with CountedWork("serving", 3, unit="batches", is_threaded=False) as work:
        assert "mtx progress" not in [thread.name for thread in threading.enumerate()]
        time.sleep(0.06)
        work.reach(1)
    assert [line.split()[2] for line in lines_of(caplog)] == ["begin", "33%", "done"]


def test_elsewhere_than_on_a_terminal_rows_are_counted_in_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(logging.getLogger("mtx.progress"), "handlers", [])  # of a run in this process, earlier
    assert list(track(batches(), "reading")) == batches()
    assert file.getvalue() == ""
    begin, end = lines_of(caplog)
    assert begin == "prepare   reading begin"
    assert re.fullmatch(r"prepare   reading done pairs=150( pairs_per_s=\d+)? s=\d+\.\d", end)


def test_a_run_prints_stages_to_a_file_and_keeps_them_in_its_log(mtx: "Mtx", tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("downloader.n=200", "tokenizer.vocab_size=300", f"storage.root={tmp_path}/s")
    result = mtx("task=prepare", *small)
    (path,) = tmp_path.glob("outputs/*/*/mtx.log")
    for text in (result.err, path.read_text()):
        for event in ("reading", "normalising train", "splitting train", "filtering train", "encoding train"):
            assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d prepare   {event}.* begin", text, re.MULTILINE), event
            assert re.search(rf" prepare   {event}.* done pairs=\d+ .*s=\d+\.\d$", text, re.MULTILINE), event
        assert text.isascii()
    assert "prepare  " not in result.out
    again = mtx("task=prepare", *small)
    stages = ("raw", "text", "split", "filtered", "encoded")
    for stage in stages:
        assert re.search(rf" prepare   {stage} train reused pairs=\d+", again.err), stage
    assert re.search(r" prepare   tokenizer reused source_tokens=300 target_tokens=300$", again.err, re.MULTILINE)


def test_a_stage_that_drops_pairs_says_how_many_and_why(mtx: "Mtx", tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "c.jsonl"
    rows = [{"src": f"a line of {i} words", "tgt": f"eine Zeile von {i}"} for i in range(60)]
    rows += [rows[0], rows[1], {"src": "a " * 400, "tgt": "b"}]
    corpus.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = ("downloader=local", f"downloader.path={corpus}", "datamodule.validation=0", "datamodule.test=0")
    told = mtx("task=prepare", *source, "tokenizer.vocab_size=300", f"storage.root={tmp_path}/s").err
    (found,) = re.findall(r"prepare   filtering train done pairs=(\d+) kept=(\d+) dropped=(\d+)( .*)pairs_per_s", told)
    read, kept, dropped = map(int, found[:3])
    reasons = dict(part.split("=") for part in found[3].split())
    assert sum(map(int, reasons.values())) == dropped == read - kept
    assert reasons["duplicate"] == "2"


def test_a_process_that_was_started_without_logging_writes_on_to_the_same_files(tmp_path: Path) -> None:
    path = tmp_path / "mtx.log"
    path.write_text("before\n")
    code = f"from mtx.progress.progress_log import say, write_to; write_to([{str(path)!r}]); say('train', '50%')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"before\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d train     50%\n", path.read_text())
    assert done.stderr == path.read_text().removeprefix("before\n")


def test_later_ranks_write_nothing(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        say("train", rank)
    assert lines_of(caplog) == ["train     0"]
