"""The page of a sweep while the sweep runs: written before the first job, and again when jobs make progress.

The page reloads itself in the browser as long as the sweep runs, so no server is needed.
"""

import logging
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mtx.errors import StoreError
from mtx.records.job_records import read_results
from mtx.records.job_status import STATUS_FILE
from mtx.records.result_types import Results
from mtx.records.running_training import TRAINING_FILE
from mtx.records.sweep_progress import sweep_progress
from mtx.records.sweep_record import PAGE_FILE, read_sweep

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 2.0
MIN_SECONDS_BETWEEN_PAGES = 20.0
MAX_SHARE_OF_TIME = 0.02  # of the sweep's time that writing pages may take, since jobs are measured meanwhile


class LivePage:
    """Writes the page of a running sweep, at most every 20 seconds and in at most 2 % of the time.

    A failure to write the page never ends the sweep.

    Args:
        folder: The folder of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_look = 0.0
        self._next_page = time.monotonic() + MIN_SECONDS_BETWEEN_PAGES
        self._written: object = None

    def write(self) -> None:
        """Write the page now."""
        started = time.monotonic()
        self._written = self._signature()
        try:
            from mtx.page.render import write_page

            write_page(running_results(self._folder), self._folder)
        except Exception:  # an unusual value in a file of a job must not end the sweep
            log.debug("the page of the running sweep was not written", exc_info=True)
        ended = time.monotonic()
        self._next_page = ended + max(MIN_SECONDS_BETWEEN_PAGES, (ended - started) / MAX_SHARE_OF_TIME)

    def tick(self) -> None:
        """Write the page if jobs have made progress and the last page is old enough; cheap enough to call often."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        if now >= self._next_page and self._signature() != self._written:
            self.write()

    def _signature(self) -> object:
        """Return what changes when a job begins, ends, or validates."""
        paths = [path for name in (STATUS_FILE, TRAINING_FILE) for path in self._folder.glob(f"*/{name}")]
        return sorted((str(path), path.stat().st_mtime_ns) for path in paths if path.exists())


def running_results(folder: Path) -> Results:
    """Return the results of a sweep that still runs, with its progress."""
    results = read_results([folder])
    try:
        sweep = read_sweep(folder)
    except StoreError:
        sweep = None
    return replace(results, progress=sweep_progress(results.jobs, sweep, datetime.now().astimezone()))


def write_page_of_running_sweep(folder: Path) -> None:
    """Write the page of a running sweep at the end of one of its jobs, unless the last page is young."""
    path = folder / PAGE_FILE
    if path.exists() and time.time() - path.stat().st_mtime >= MIN_SECONDS_BETWEEN_PAGES:
        LivePage(folder).write()
