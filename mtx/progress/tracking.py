"""Progress of all long work: a progress bar on a terminal, and log lines at the begin, every 30 s, and at the end.

`progress_log.py` writes the log lines. `terminal_bar.py` draws the bar; it is imported only if there is a terminal.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from mtx.progress.progress_log import ProgressLog, has_terminal

if TYPE_CHECKING:  # a task that reads only manifests does not need pyarrow
    import pyarrow as pa

    from mtx.progress.terminal_bar import Bar

REFRESH_S = 0.1  # seconds between two redraws of a bar
UNTHREADED_REFRESH_S = 0.5  # seconds between two redraws in the worker's own thread, so that they cost less than 1 %
PATIENCE_S = 2.0  # seconds of waiting for another process after which the wait is shown
MIN_WAIT_S = 0.02


class CountedWork:
    """Context manager that shows the progress of one piece of work in a bar (on a terminal) and in log lines.

    On exit, the last log line says whether the work ended or failed. A thread draws the bar and writes the lines, even
    while the work is inside a library call that reports no progress. A pickled instance becomes an `UncountedWork`,
    because a task in another process has no access to the bar of this process.

    Args:
        description: what is done, such as `encoding train`.
        total: total amount of work, in `unit`; None: unknown.
        phase: the first word of each log line.
        unit: the counted unit, such as `pairs`; None: the work is not countable.
        is_threaded: False: use no thread, for code that forks processes; then `reach` draws the bar and writes the
            lines.
        as_count: see `ProgressLog`.
    """

    def __init__(
        self,
        description: str,
        total: int | None = None,
        phase: str = "prepare",
        *,
        unit: str | None = "pairs",
        is_threaded: bool = True,
        as_count: bool = False,
    ) -> None:
        self._description = description
        self._total = total
        self._phase = phase
        self._unit = unit
        self._is_threaded = is_threaded
        self._as_count = as_count
        self.num_done = 0
        self._num_bytes = 0
        self._counts: dict[str, object] = {}
        self._bar: Bar | None = None
        self._drawn = 0.0
        self._ticker: _Ticker | None = None

    def __enter__(self) -> Self:
        self._lines = ProgressLog(self._phase, self._description, self._total, unit=self._unit, as_count=self._as_count)
        self._begun = time.monotonic()
        if has_terminal():
            from mtx.progress.terminal_bar import Bar

            self._bar = Bar()
            self._draw()
        if self._is_threaded and self._lines.every_s > 0:
            self._ticker = _Ticker(self._tick)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._ticker is not None:
            self._ticker.stop()
        if self._bar is not None:
            if kind is None:
                self._draw()
            self._bar.close()
            self._bar = None
        if kind is None:
            self._lines.end(self.num_done, self._counts)
        else:
            self._lines.stop(kind, self.num_done)

    def through(self, batches: Iterable["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        """Yield the record batches, and count the rows of each one when the next batch is requested."""
        for batch in batches:
            yield batch
            self._num_bytes += batch.nbytes
            self.reach(self.num_done + batch.num_rows)

    def reach(self, done: int) -> None:
        """Set the amount of finished work. A smaller amount than before is ignored."""
        self.num_done = max(self.num_done, done)
        self._lines.advance(self.num_done)
        if not self._is_threaded and self._bar is not None and time.monotonic() - self._drawn >= UNTHREADED_REFRESH_S:
            self._draw()

    def expect(self, total: int) -> None:
        """Set the total amount of work, if it becomes known only after the begin."""
        self._total = total
        self._lines.expect(total)

    def found(self, counts: Mapping[str, object]) -> None:
        """Add counts to the last log line of the work."""
        self._counts.update(counts)

    def _tick(self) -> float:
        """Redraw the bar, write a log line if one is due, and return the seconds until the next call."""
        self._lines.advance(self.num_done)
        if self._bar is None:
            return self._lines.wait_s()
        self._draw()
        return REFRESH_S

    def _draw(self) -> None:
        from mtx.progress.terminal_bar import BarState

        if self._bar is None:
            return
        self._drawn = now = time.monotonic()
        seconds = now - self._begun
        rate = self.num_done / seconds if seconds > 0 else 0.0
        speed = "" if not rate or self._unit is None else f"{rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s"
        if speed and self._num_bytes:
            speed += f", {self._num_bytes / 2**20 / seconds:,.1f} MB/s"
        self._bar.draw(
            BarState(
                label=self._description,
                done=self.num_done,
                total=self._total,
                unit=self._unit,
                elapsed_s=seconds,
                left_s=(self._total - self.num_done) / rate if self._total and rate else None,
                metrics=[speed] if speed else [],
            )
        )

    def __reduce__(self) -> tuple[type["UncountedWork"], tuple[()]]:
        return UncountedWork, ()


class UncountedWork:
    """Replaces a `CountedWork` in another process, and counts nothing."""

    def through(self, batches: Iterable["pa.RecordBatch"]) -> Iterator["pa.RecordBatch"]:
        """Return an iterator over the record batches, without counting them."""
        return iter(batches)


class Phases:
    """Context manager for the progress of work in consecutive phases, such as the training of a tokenizer.

    Each phase is a `CountedWork`. Beginning the next phase ends the current one.

    Args:
        description: what the whole work does; used in its first and last log line.
        label: a short form of `description`, written before the name of each phase.
        phase: the first word of each log line.
    """

    def __init__(self, description: str, label: str, phase: str = "prepare") -> None:
        self._description = description
        self._label = label
        self._phase = phase
        self._now: CountedWork | None = None

    def __enter__(self) -> Self:
        self._lines = ProgressLog(self._phase, self._description, unit=None)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._close(kind)
        if kind is None:
            self._lines.end()
        else:
            self._lines.stop(kind)

    def begin(self, name: str, total: int | None = None, unit: str | None = "texts") -> CountedWork:
        """End the current phase and begin the next one. With `unit=None`, the phase is not countable."""
        self._close(None)
        self._now = CountedWork(f"{self._label}: {name}", total, self._phase, unit=unit)
        return self._now.__enter__()

    def through(self, batches: Iterable[list[str]], name: str, total: int) -> Iterator[list[str]]:
        """Yield batches of texts unchanged in a new phase, and count the texts."""
        work = self.begin(name, total)
        for batch in batches:
            yield batch
            work.reach(work.num_done + len(batch))

    def _close(self, kind: type[BaseException] | None) -> None:
        if self._now is not None:
            self._now.__exit__(kind)
            self._now = None


class Waiting:
    """Context manager that reports a wait for another process that builds a needed dataset, after `patience_s` seconds.

    The context encloses the wait for the lock and the build that may follow.

    Args:
        what: the name of the dataset that is built.
        patience_s: seconds of waiting before the wait is reported.
    """

    def __init__(self, what: str, *, patience_s: float = PATIENCE_S) -> None:
        self._work = CountedWork(f"waiting for another process: {what}", unit=None, is_threaded=False)
        self._patience_s = patience_s
        self._is_shown = False

    def __enter__(self) -> Self:
        self._ticker = _Ticker(self._tick, self._patience_s)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.over(kind)

    def over(self, kind: type[BaseException] | None = None) -> None:
        """End the report of the wait, because this process holds the lock now and builds the dataset itself."""
        self._ticker.stop()
        if self._is_shown:
            self._is_shown = False
            self._work.__exit__(kind)

    def _tick(self) -> float:
        if not self._is_shown:
            self._is_shown = True
            self._work.__enter__()
        self._work.reach(0)
        return UNTHREADED_REFRESH_S


def track(
    batches: Iterable["pa.RecordBatch"], description: str, total: int | None = None, phase: str = "prepare"
) -> Iterator["pa.RecordBatch"]:
    """Yield record batches, and count their rows in a bar on stderr (if it is a terminal) and in log lines."""
    with CountedWork(description, total, phase) as progress:
        yield from progress.through(batches)


class _Ticker(threading.Thread):
    """Thread that calls a function repeatedly; each call returns the seconds until the next call."""

    def __init__(self, tick: Callable[[], float], wait_s: float = REFRESH_S) -> None:
        super().__init__(name="mtx progress", daemon=True)
        self._tick = tick
        self._wait_s = wait_s
        self._stopped = threading.Event()
        self.start()

    @override
    def run(self) -> None:
        wait_s = self._wait_s
        while not self._stopped.wait(max(wait_s, MIN_WAIT_S)):
            try:
                wait_s = self._tick()
            except (OSError, ValueError):  # stderr is closed
                return

    def stop(self) -> None:
        """Stop the thread, and wait until a running call has returned."""
        self._stopped.set()
        self.join()
