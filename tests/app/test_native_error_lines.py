"""Lines of panics and aborts in native code go to the log of the run, and all other lines pass."""

import os
from pathlib import Path

import pytest

from mtx.app.native_error_lines import PANIC_PAUSE_S, PREFIX, NativeErrorLines

PANIC = """
thread '<unnamed>' (12730) panicked at src/normalizers/mod.rs:143:26:
Precompiled: Error("Cannot parse precompiled_charsmap", line: 0, column: 0)
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace
"""
BACKTRACE = """
thread 'main' panicked at src/lib.rs:5:26:
index out of range
stack backtrace:
   0: __rustc::rust_begin_unwind
             at /rustc/library/std/src/panicking.rs:697:5
note: Some details are omitted, run with `RUST_BACKTRACE=full` for a verbose backtrace.
"""
SECOND_PANIC = """
thread '<unnamed>' (12730) panicked at src/normalizers/mod.rs:143:26:
Precompiled: Error("Cannot parse precompiled_charsmap", line: 0, column: 0)
"""  # Rust prints the note only once in a process
ABORTS = {
    "panic": PANIC,
    "panic without a note": SECOND_PANIC,
    "panic with a backtrace": BACKTRACE,
    "panic with a full backtrace": BACKTRACE.rpartition("note: ")[0],
    "allocation in Rust": "memory allocation of 8000000000 bytes failed\n",
    "allocation in Rust with a backtrace": (
        "memory allocation of 49 bytes failed\nskipping backtrace printing to avoid potential recursion\n"
    ),
    "stack in Rust": "\nthread '<unnamed>' (7) has overflowed its stack\nfatal runtime error: stack overflow\n",
    "threads of OpenMP": "libgomp: Thread creation failed: Resource temporarily unavailable\n",
    "allocation in C++": "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
    "threads": "OpenBLAS blas_thread_init: pthread_create failed for thread 1 of 2\n",
}
OTHERS = {
    "warning": "UserWarning: note the size\n  warnings.warn()\n",
    "empty lines": "\n\nfirst\n\nsecond\n\n",
    "progress bar": "\r 10 %\r 20 %",
    "crash": "Fatal Python error: Segmentation fault\n\nThread 0x7f (most recent call first):\n  File a.py\n",
    "no text": "\udcff\n",
}


def passed_on(written: str, log: Path | None = None, at_once: int = 1 << 16) -> tuple[str, NativeErrorLines]:
    """Return what passes of some text, written in pieces of `at_once` bytes, and the lines that were kept."""
    reads, writes = os.pipe()
    lines = NativeErrorLines(writes)
    lines.log = log
    content = os.fsencode(written)
    for start in range(0, len(content), at_once):
        lines.take(content[start : start + at_once])
    lines.flush(is_end=True)
    lines.write_kept()
    os.close(writes)
    with os.fdopen(reads, "rb") as file:
        return os.fsdecode(file.read()), lines


@pytest.mark.parametrize("at_once", [7, 1 << 16])
@pytest.mark.parametrize("written", ABORTS.values(), ids=ABORTS)
def test_a_panic_or_an_abort_goes_to_the_log(written: str, at_once: int, tmp_path: Path) -> None:
    log = tmp_path / "mtx.log"
    log.write_text("before\n", encoding="utf-8")
    told, _ = passed_on(f"warning\n{written}later\n", log, at_once)
    assert told == "warning\nlater\n"
    kept = [f"{PREFIX.decode()}{line}" for line in written.strip("\n").split("\n")]
    assert log.read_text(encoding="utf-8").splitlines() == ["before", *kept]


@pytest.mark.parametrize("at_once", [7, 1 << 16])
@pytest.mark.parametrize("written", OTHERS.values(), ids=OTHERS)
def test_other_lines_pass_unchanged(written: str, at_once: int, tmp_path: Path) -> None:
    assert passed_on(written, tmp_path / "mtx.log", at_once)[0] == written
    assert not (tmp_path / "mtx.log").exists()  # nothing was kept


def test_lines_after_two_panics_pass(tmp_path: Path) -> None:
    later = "Traceback of a rank\n  a line that is indented\n\nTrue line\n"
    assert passed_on(PANIC + SECOND_PANIC + later, tmp_path / "mtx.log")[0] == later


def test_a_panic_whose_message_never_comes_ends_when_nothing_is_written_for_a_moment() -> None:
    reads, writes = os.pipe()
    lines = NativeErrorLines(writes)
    lines.take(SECOND_PANIC.split("Precompiled")[0].encode())
    assert lines.is_waiting
    lines.flush(is_end=True)
    lines.take(b"a line\n")
    assert os.read(reads, 100) == b"a line\n"
    os.close(reads)
    os.close(writes)


def test_a_panic_may_pause_between_its_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now_s = 100.0
    monkeypatch.setattr("mtx.app.native_error_lines.time.monotonic", lambda: now_s)
    reads, writes = os.pipe()
    lines = NativeErrorLines(writes)
    lines.log = tmp_path / "mtx.log"
    for line in BACKTRACE.lstrip().splitlines(keepends=True):
        lines.take(line.encode())
        now_s += PANIC_PAUSE_S / 2
        lines.flush()
    now_s += PANIC_PAUSE_S
    lines.flush()
    lines.take(b"  58: a line of another program\n")
    lines.write_kept()
    assert os.read(reads, 1000) == b"  58: a line of another program\n"
    assert len(lines.log.read_text(encoding="utf-8").splitlines()) == len(BACKTRACE.strip().splitlines())
    os.close(reads)
    os.close(writes)


def test_a_line_without_an_end_waits_only_until_the_flush() -> None:
    lines = NativeErrorLines(os.open(os.devnull, os.O_WRONLY))
    assert not lines.is_waiting
    lines.take(b"half a line")
    assert lines.is_waiting
    lines.flush()
    assert not lines.is_waiting


def test_without_a_log_the_lines_are_shown_at_the_end() -> None:
    reads, writes = os.pipe()
    lines = NativeErrorLines(writes)
    lines.take(ABORTS["allocation in C++"].encode())
    assert not lines.write_kept()
    lines.keep_or_show()
    assert os.read(reads, 1000).decode() == ABORTS["allocation in C++"]
    os.close(reads)
    lines.take(b"a reader that has gone\n")  # raises nothing
    os.close(writes)
