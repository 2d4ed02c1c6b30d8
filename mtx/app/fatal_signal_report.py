"""Tell the user when a signal has ended a run, such as an abort in native code or a lack of memory.

Python cannot catch such an end. A small child, forked before torch is imported, therefore waits for the end of the
process, and prints one line if nothing announced it.
What native code prints at such an end goes to the log. The process keeps its id, its signals and its exit code.
"""

import atexit
import os
import select
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from mtx.app.native_error_lines import NativeErrorLines, divert_native_lines
from mtx.exhausted_resources import MEMORY_ADVICE
from mtx.own_process import MESSAGE_END as END
from mtx.own_process import OWN_PROCESS_VARIABLE, is_own_process, keep_native_lines_by

EXIT_CODE_FIELD = 49  # of /proc/PID/stat, counted after the name in parentheses
ANNOUNCED = b"." + END  # what a process writes before its end
CHUNK_BYTES = 1 << 16
SECONDS_BETWEEN_POLLS = 0.05
LONGEST_END_POLLS = 40  # until a process that has closed its files is at its end
SHOWN_RANK = ("LOCAL_RANK", "RANK")  # variables of a process that Lightning or torchrun has started


def watch_process() -> None:
    """Start the child that waits for the end of this process, once, if this process runs nothing but the command.

    The child also receives what native code writes to standard error: see `mtx.app.native_error_lines`.
    """
    if not is_own_process() or sys.platform == "win32":
        return
    (ends, announces), (native, writes) = os.pipe(), os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.getpid()
    try:
        child = os.fork()
    except OSError:  # no memory or process is left: the run itself says so
        for descriptor in (ends, announces, native, writes):
            os.close(descriptor)
        return
    if child == 0:
        os.close(announces)
        os.close(writes)
        _wait(pid, ends, native)
    os.close(ends)
    os.close(native)
    divert_native_lines(writes)
    os.close(writes)
    keep_native_lines_by(announces)

    def announce() -> None:
        if os.getpid() == pid:  # not in a process that this one has forked
            with suppress(OSError):
                os.write(announces, ANNOUNCED)

    atexit.register(announce)


def ended_by(number: int | None) -> str:
    """Return the line about a run that the signal `number` ended; None: the signal is unknown."""
    rank = next((f"rank {os.environ[name]}: " for name in SHOWN_RANK if os.environ.get(name)), "")
    how = signal.Signals(number).name if number else "a signal"
    why = ". " if number in (signal.SIGTERM, signal.SIGHUP) else f", often for lack of memory. {MEMORY_ADVICE}. "
    return (
        f"mtx: {rank}the run was ended by {how}{why}The store is intact, and the next run reuses all finished stages; "
        "task=fit resumes with ckpt=last"
    )


def _wait(pid: int, ends: int, native: int) -> NoReturn:
    """Pass on standard error in the child until process `pid` ends, and print a line if it did not announce its end."""
    code = 0
    try:
        os.environ[OWN_PROCESS_VARIABLE] = ""
        os.setsid()  # Ctrl-C in the terminal is for the run
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        os.close(1)  # a reader of the run's output sees its end
        lines = NativeErrorLines(2)
        is_announced = _is_end_announced(pid, ends, native, lines)
        has_log = lines.write_kept()
        if not is_announced:
            os.write(2, f"{ended_by(_signal_of(pid))}\n".encode())
            if not has_log:
                lines.show_kept()
    except BaseException:  # nothing of the parent may run in the child
        code = 1
    finally:
        os._exit(code)


def _is_end_announced(pid: int, ends: int, native: int, lines: NativeErrorLines) -> bool:
    """Pass on standard error until process `pid` has ended; return whether it has announced its end."""
    told, is_announced, watched = b"", False, [ends, native]
    while ends in watched and not (is_announced and os.getppid() != pid):
        is_polling = is_announced or lines.is_waiting
        ready = select.select(watched, [], [], SECONDS_BETWEEN_POLLS if is_polling else None)[0]
        if native in ready:
            written = os.read(native, CHUNK_BYTES)
            lines.take(written)
            watched = watched if written else [ends]
        else:
            lines.flush()
            lines.write_kept()
        if ends in ready:
            read = os.read(ends, CHUNK_BYTES)
            watched = watched if read else [native]
            *messages, told = (told + read).split(END)
            is_announced = is_announced or ANNOUNCED.removesuffix(END) in messages
            for message in messages:
                if message and message != ANNOUNCED.removesuffix(END):
                    lines.write_kept()  # to the log of the job before
                    lines.log = Path(os.fsdecode(message))
    os.set_blocking(native, False)
    with suppress(BlockingIOError):
        while written := os.read(native, CHUNK_BYTES):
            lines.take(written)
    lines.flush()
    return is_announced


def _signal_of(pid: int) -> int | None:
    """Return the signal that ended a process, as long as its parent has not asked for it; None if it is not known."""
    try:
        for _ in range(LONGEST_END_POLLS):
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
            if fields[0] == "Z":  # a process closes its files a moment before
                number = int(fields[EXIT_CODE_FIELD]) & 0x7F
                return number if number in set(signal.Signals) else None
            time.sleep(SECONDS_BETWEEN_POLLS)
    except (OSError, ValueError, IndexError):
        return None
    return None
