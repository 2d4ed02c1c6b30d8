"""Tell the user when a signal has ended a run, such as an abort in native code or a lack of memory.

Python cannot catch such an end. A small child, forked before torch is imported, therefore waits for the end of the
process, and prints one line if nothing announced it. The process itself keeps its id, its signals and its exit code.
The child also ends the jobs of a sweep whose process has ended: nothing else would stop the workers of a launcher.
What native code prints when it panics or aborts goes to the log. Processes that outlive the run keep the child alive,
since it passes on what they write to standard error.
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
from mtx.own_process import (
    END,
    GROUP,
    LOG,
    MESSAGE_END,
    OWN_PROCESS_VARIABLE,
    is_own_process,
    tell_watch,
    tell_watch_by,
)
from mtx.process_group import end_group

EXIT_CODE_FIELD = 49  # of /proc/PID/stat, counted after the name in parentheses
CHUNK_BYTES = 1 << 16
SECONDS_BETWEEN_POLLS = 0.05
SECONDS_BETWEEN_CHECKS = 0.5  # that the process is alive: a process that it has forked may hold the pipe
LONGEST_END_POLLS = 40  # until a process that has closed its files is at its end
MOST_CHUNKS = 16  # that are passed on before the line about the end, since a process that goes on may write for ever
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
    tell_watch_by(announces)
    atexit.register(lambda: tell_watch(END) if os.getpid() == pid else None)  # not in a process that this one forks


def ended_by(number: int | None) -> str:
    """Return the line about a run that the signal `number` ended; None: the signal is unknown."""
    rank = next((f"rank {os.environ[name]}: " for name in SHOWN_RANK if os.environ.get(name)), "")
    how = signal.Signals(number).name if number else "a signal"
    cause = ", often for lack of memory" if number else " of another process, or for lack of memory"
    why = ". " if number in (signal.SIGTERM, signal.SIGHUP) else f"{cause}. {MEMORY_ADVICE}. "
    return (
        f"mtx: {rank}the run was ended by {how}{why}The store is intact, and the next run reuses all finished stages; "
        "task=fit resumes with ckpt=last"
    )


class Watch:
    """What the child knows about the process that it watches.

    Args:
        pid: the id of the process.
        ends: the pipe with the messages of the process.
        native: the pipe with the standard error of its native code and of its children.
    """

    def __init__(self, pid: int, ends: int, native: int) -> None:
        self._pid, self._ends, self._native = pid, ends, native
        self._rest = b""  # the message that has no end yet
        self.lines = NativeErrorLines(2)
        self.has_announced_end = False
        self.group = 0  # the process group of a sweep's jobs; 0: none
        self.signal: int | None = None  # the one that ended the process, if it is known

    def pass_on_until_the_end(self) -> None:
        """Receive messages, and pass on standard error, until the process has ended."""
        watched = [self._ends, self._native]
        while os.getppid() == self._pid:
            is_ending = self.has_announced_end or self._ends not in watched
            seconds = SECONDS_BETWEEN_POLLS if is_ending or self.lines.is_waiting else SECONDS_BETWEEN_CHECKS
            ready = select.select(watched, [], [], seconds)[0]
            if self._native in ready:
                if not self._take():
                    watched.remove(self._native)
            else:
                self.lines.flush()
                self.lines.write_kept()
            if self._ends in ready and not self._receive():
                watched.remove(self._ends)
                if self.has_announced_end:
                    break  # the process has closed its files
                self.signal = _signal_of(self._pid)
        for _ in range(MOST_CHUNKS):
            ready = select.select([self._ends, self._native], [], [], 0)[0]
            is_more = [self._receive()] if self._ends in ready else []
            is_more += [self._take()] if self._native in ready else []
            if not any(is_more):
                break
        self.lines.flush(is_end=True)
        self.signal = self.signal or (None if self.has_announced_end else _signal_of(self._pid))

    def pass_on_the_rest(self) -> None:
        """Pass on what processes write that outlive the run: they have no other standard error."""
        while True:
            ready = select.select([self._native], [], [], SECONDS_BETWEEN_POLLS if self.lines.is_waiting else None)[0]
            if not ready:
                self.lines.flush()
            elif not self._take():
                break
        self.lines.flush(is_end=True)

    def _take(self) -> bool:
        written = os.read(self._native, CHUNK_BYTES)
        self.lines.take(written)
        return bool(written)

    def _receive(self) -> bool:
        read = os.read(self._ends, CHUNK_BYTES)
        *messages, self._rest = (self._rest + read).split(MESSAGE_END)
        for kind, _, value in (message.partition(b" ") for message in messages):
            if kind == END:
                self.has_announced_end = True
            elif kind == GROUP:
                self.group = int(value)
            elif kind == LOG:
                self.lines.write_kept()  # to the log of the job before
                self.lines.log = Path(os.fsdecode(value))
        return bool(read)


def _wait(pid: int, ends: int, native: int) -> NoReturn:
    """Watch process `pid` in the child. If it ends without a message, print a line, and end its jobs."""
    code = 0
    try:
        os.environ[OWN_PROCESS_VARIABLE] = ""
        os.setsid()  # Ctrl-C in the terminal is for the run
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        os.close(1)  # a reader of the run's output sees its end
        watch = Watch(pid, ends, native)
        watch.pass_on_until_the_end()
        if not watch.has_announced_end:
            with suppress(OSError):  # nobody reads standard error any more, but the jobs end
                os.write(2, f"{ended_by(watch.signal)}\n".encode())
        watch.lines.keep_or_show()
        if not watch.has_announced_end:
            end_group(watch.group)
        watch.pass_on_the_rest()
        watch.lines.keep_or_show()
    except BaseException:  # nothing of the parent may run in the child
        code = 1
    finally:
        os._exit(code)


def _signal_of(pid: int) -> int | None:
    """Return the signal that ended a process, as long as its parent has not asked for it; None if it is not known."""
    with suppress(OSError, ValueError, IndexError):
        for _ in range(LONGEST_END_POLLS):
            fields = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
            number = int(fields[EXIT_CODE_FIELD]) & 0x7F
            if number in set(signal.Signals):
                return number
            if fields[0] == "Z":
                break
            time.sleep(SECONDS_BETWEEN_POLLS)
    return None
