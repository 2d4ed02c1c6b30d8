"""Write lines that native code prints when it panics or aborts to the log of the run, not to the terminal.

Libraries of Rust and C++ print such lines to file descriptor 2 themselves, in front of mtx's own message. All other
lines pass unchanged, such as warnings, and the report of a crash that Python's faulthandler prints.
"""

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path

PANIC = re.compile(rb"\s*thread '.*' (\(\d+\) )?panicked at ")  # of Rust; a line with its message follows
NOTE = re.compile(rb"note: (run with `RUST|Some details are omitted)")  # after the first panic of a process
BACKTRACE = b"stack backtrace:\n"  # with RUST_BACKTRACE=1
CALL = re.compile(rb" +(\d+: |at )")  # a line of a backtrace
NATIVE = re.compile(
    rb"memory allocation of \d+ bytes failed|skipping backtrace printing|fatal runtime error: |"
    rb"thread panicked while |thread '.*' (\(\d+\) )?has overflowed its stack|"
    rb"terminate called |  what\(\):  |OpenBLAS |libgomp: |OMP: Error #"
)
PANIC_PAUSE_S = 2.0  # longest pause inside a panic; under load, the names of a backtrace take seconds to find
PREFIX = b"printed by a library: "


class NativeErrorLines:
    """Passes on what was written to standard error, except for lines of panics and aborts.

    Args:
        descriptor: the true standard error.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rest = b""  # the line that has no end yet
        self._empty = b""  # empty lines that may belong to a panic
        self._is_message_next = self._is_backtrace = False  # what the next line of a panic is
        self._last_s = 0.0  # when something was written
        self._kept: list[bytes] = []
        self.log: Path | None = None  # the log of the run, or of the last job that has begun

    @property
    def is_waiting(self) -> bool:
        """Whether something was neither passed on nor kept yet."""
        return bool(self._rest or self._empty or self._is_message_next or self._is_backtrace)

    def take(self, written: bytes) -> None:
        """Pass on the lines in some bytes that were written, or keep them."""
        self._last_s = time.monotonic()
        *lines, self._rest = (self._rest + written).split(b"\n")
        for line in lines:
            self._take_line(line + b"\n")

    def flush(self, *, is_end: bool = False) -> None:
        """Pass on a line without an end, such as one of a progress bar, or keep it.

        A panic has ended if nothing was written for `PANIC_PAUSE_S`; until then, nothing of it passes.

        Args:
            is_end: nothing more will be written.
        """
        is_panic = self._is_message_next or self._is_backtrace
        if is_panic and not is_end and time.monotonic() - self._last_s < PANIC_PAUSE_S:
            return
        rest, self._rest = self._rest, b""
        if rest:
            self._take_line(rest)
        empty, self._empty = self._empty, b""
        self._write(empty)
        self._is_message_next = self._is_backtrace = False

    def write_kept(self) -> bool:
        """Write the lines that were kept to the log, if there is one; return whether none is left."""
        if self.log is None or not self._kept:
            return not self._kept
        with suppress(OSError), self.log.open("ab") as file:
            file.write(b"".join(PREFIX + line.rstrip(b"\n") + b"\n" for line in self._kept))
            self._kept = []
        return not self._kept

    def keep_or_show(self) -> None:
        """Write the lines that were kept to the log, or to standard error if no log takes them."""
        if not self.write_kept():
            self._write(b"".join(self._kept))
            self._kept = []

    def _take_line(self, line: bytes) -> None:
        is_message, is_panic = self._is_message_next, PANIC.match(line) is not None
        if line == b"\n" and not is_message:
            self._empty += line  # a panic begins with an empty line
            self._is_backtrace = False
            return
        empty, self._empty = self._empty, b""
        self._is_message_next = is_panic
        self._is_backtrace = line == BACKTRACE or (self._is_backtrace and CALL.match(line) is not None)
        if is_panic or is_message or self._is_backtrace or NOTE.match(line) or NATIVE.match(line):
            self._kept.append(line)
        else:
            self._write(empty + line)

    def _write(self, content: bytes) -> None:
        with suppress(OSError):  # nobody reads standard error any more
            while content:
                content = content[os.write(self._descriptor, content) :]


def divert_native_lines(descriptor: int) -> None:
    """Let native code and child processes write to `descriptor`, and Python in this process to standard error itself.

    Python's stream keeps its terminal, so that progress bars and colours stay.
    """
    stream = sys.stderr
    with suppress(OSError, ValueError, AttributeError):  # a stream that a program has replaced has no descriptor
        if stream.fileno() == 2:
            own = os.dup(2)
            told = os.fdopen(own, "w", buffering=1, encoding=stream.encoding, errors=stream.errors)
            sys.stderr = sys.__stderr__ = told  # type: ignore[misc]  # a constant for type checkers
    os.dup2(descriptor, 2)
