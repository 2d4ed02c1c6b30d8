"""Log lines about long work, written to a run's log file and, if stderr is no terminal, to stderr.

A log line is an event with its values: `prepare   encoding train 52% pairs=52000 left_s=9`. `conf/config.yaml` names
the handlers and filters of this module.
"""

import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from typing_extensions import override

from mtx.progress.formatting import line, share, state
from mtx.redaction_and_escaping import PlainFormatter

LOGGER = "mtx.progress"
LOG_INTERVAL_S = 30.0  # seconds between two log lines about the same work
RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID")  # variables in which launchers give each process its rank
DATED = ("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S")  # the same formats as in conf/config.yaml

log = logging.getLogger(LOGGER)

_of_thread = threading.local()  # has the attribute `is_silent` in threads whose work reports nothing


@contextmanager
def silent_progress() -> Iterator[None]:
    """Let work of this thread write no log line and draw no bar, inside the `with` block."""
    before, _of_thread.is_silent = _is_silent(), True
    try:
        yield
    finally:
        _of_thread.is_silent = before


def _is_silent() -> bool:
    return getattr(_of_thread, "is_silent", False)


def is_later_rank() -> bool:
    """Return whether this process is a training rank other than 0, which shares folder and terminal with rank 0."""
    told = next((os.environ[name] for name in RANKS if os.environ.get(name)), "0")
    return told.isdecimal() and int(told) > 0


def has_terminal() -> bool:
    """Return whether this process can draw a bar: standard error is a terminal, and the process is not a later rank."""
    if _is_silent():
        return False
    return not is_later_rank() and sys.stderr.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


class ProgressLog:
    """Writes the log lines of one piece of long work to the logger `mtx.progress`.

    Args:
        phase: the first word of each line, such as `prepare`.
        description: what is done, such as `encoding train`.
        total: total amount of work, in `unit`; None: unknown.
        unit: the counted unit; None: the work is not countable.
        clock: returns the current time in seconds, from any start.
        every_s: minimum seconds between two lines while the work runs; 0: each call of `advance` writes a line.
        as_count: write only the count, such as `50/100`, without description, share and rate; for small totals.
    """

    def __init__(
        self,
        phase: str,
        description: str,
        total: float | None = None,
        *,
        unit: str | None = "pairs",
        clock: Callable[[], float] = time.monotonic,
        every_s: float = LOG_INTERVAL_S,
        as_count: bool = False,
    ) -> None:
        self._as_count = as_count
        self._is_silent = _is_silent()  # of the thread that works; another thread may write the lines
        self._phase = phase
        self._description = description
        self._total = total
        self._unit = unit
        self._clock = clock
        self.every_s = every_s
        self._begun = self._told = clock()
        self._write("begin", 0, {} if total is None or unit is None or as_count else {unit: round(total)})

    def advance(self, done: float) -> None:
        """Write a line with the completed amount, unless the last line is less than `every_s` seconds old."""
        now = self._clock()
        if now - self._told >= self.every_s:
            self._told = now
            unit = None if self._as_count else self._unit
            self._write(share(done, self._total), done, state(done, self._total, unit, now - self._begun))

    def expect(self, total: float) -> None:
        """Set the total amount of work, if it becomes known only after the begin."""
        self._total = total

    def wait_s(self) -> float:
        """Return the seconds until the next line is due."""
        return self._told + self.every_s - self._clock()

    def end(self, done: float | None = None, counts: Mapping[str, object] | None = None) -> None:
        """Write the last line of completed work: amount, rate and seconds, and further `counts`."""
        self._write("done", done, self._closing(done, counts))

    def stop(self, error: type[BaseException], done: float | None = None) -> None:
        """Write the last line of work that an error ended, or that its consumer closed early."""
        by = None if error is GeneratorExit else error.__name__
        self._write("stopped", done, {"by": by, **self._closing(done, None)})

    def _closing(self, done: float | None, counts: Mapping[str, object] | None) -> dict[str, object]:
        seconds = self._clock() - self._begun
        if done is None or self._unit is None or self._as_count:
            return {**(counts or {}), "s": seconds}
        rate = done / seconds if done and seconds > 0 else None
        return {self._unit: round(done), **(counts or {}), f"{self._unit}_per_s": rate, "s": seconds}

    def _write(self, event: str, done: float | None, values: Mapping[str, object]) -> None:
        words = f"{done or 0:.0f}/{self._total:.0f}" if self._as_count else f"{self._description} {event}"
        if not self._is_silent:
            say(self._phase, words.strip(), values)


class NonTerminalFilter(logging.Filter):
    """Logging filter that passes records only if standard error is no terminal, so that no bar is shown."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not has_terminal()


class ConsoleHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic over the type of its stream
    """Logging handler whose stream may lose its reader, as in `mtx … | head`. Further lines are then dropped."""

    @override
    def handleError(self, record: logging.LogRecord) -> None:
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)
            return
        with suppress(OSError, ValueError):  # a stream without a descriptor
            stream = self.stream.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(nowhere, stream)  # else Python reports its own last attempt to write the line
            finally:
                os.close(nowhere)


class StderrHandler(ConsoleHandler):
    """Logging handler that writes to the current `sys.stderr`, even if it was replaced after logging was set up."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        """The current standard error stream."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Ignore the stream that the logging module assigns."""


class ProgressExclusion(logging.Filter):
    """Logging filter that removes progress lines, which another handler prints, and assumptions of earlier jobs."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return record.name != LOGGER and not getattr(record, "is_repeated", False)


def say(phase: str, words: str = "", values: Mapping[str, object] | None = None) -> None:
    """Write a log line, unless this thread is silent, or this process is a later rank, whose rank 0 writes the line."""
    if not is_later_rank() and not _is_silent():
        log.info("%s", line(phase, words, values))


def log_files() -> list[str]:
    """Return the paths of the log files of this process."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.FileHandler)]
    return [handler.baseFilename for handler in handlers if handler.baseFilename != os.devnull]


def write_to_log_files(text: str) -> None:
    """Write a text, such as the trace of an error, to the log files of this process, but not to the terminal."""
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "%s", (text,), None)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


def log_trace() -> str:
    """Write the trace of the error that is handled now to the log files; return a clause that names the log, if any."""
    write_to_log_files(traceback.format_exc().rstrip())
    return "".join(f"; {path} has the trace" for path in log_files()[:1])


def write_to(files: Sequence[str]) -> None:
    """Write log lines to these files and to standard error, in a process that was started without logging."""
    if log.handlers or logging.getLogger().handlers:
        return
    log.setLevel(logging.INFO)
    elsewhere = StderrHandler()
    elsewhere.addFilter(NonTerminalFilter())
    for handler in (elsewhere, *(logging.FileHandler(path) for path in files)):
        handler.setFormatter(PlainFormatter(*DATED))
        log.addHandler(handler)
