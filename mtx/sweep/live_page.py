"""The page of a sweep while the sweep runs: written before the first job, and again when jobs make progress.

The page reloads itself in the browser as long as the sweep runs, so no server is needed.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mtx.errors import InUseError, StoreError
from mtx.infra.dal.locks import path_lock
from mtx.records.job_records import job_folders, read_results
from mtx.records.job_status import STATUS_FILE
from mtx.records.result_types import Results
from mtx.records.running_training import TRAINING_FILE
from mtx.records.sweep_progress import is_sweep_running, sweep_progress
from mtx.records.sweep_record import PAGE_FILE, read_sweep

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LOOKS = 2.0
MIN_SECONDS_BETWEEN_PAGES = 20.0
MAX_SECONDS_BETWEEN_PAGES = 300.0  # without progress, so that an older page tells that the sweep was killed
SECONDS_PER_JOB = 0.01  # of writing a page of many jobs
MAX_SHARE_OF_TIME = 0.02  # of the sweep's time that writing pages may take, since jobs are measured meanwhile

PAGE_LOCK = "page.lock"  # held by the job that writes the page
PAGE_REQUEST = "page.request"  # a job has ended, and the page does not show it yet


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
        self._last_page = 0.0
        self._written: object = None
        self._is_followed = False

    def write(self) -> None:
        """Write the page now."""
        started = time.monotonic()
        try:
            self._written = self._signature()
            from mtx.page.render import write_page

            write_page(running_results(self._folder, is_followed=self._is_followed), self._folder)
        except Exception:  # an unusual value in a file of a job, or a disk error, must not end the sweep
            log.debug("the page of the running sweep was not written", exc_info=True)
        self._last_page = time.monotonic()
        wait_s = max(MIN_SECONDS_BETWEEN_PAGES, (self._last_page - started) / MAX_SHARE_OF_TIME)
        self._next_page = self._last_page + wait_s

    def tick(self) -> None:
        """Write the page if jobs have made progress or it is 5 minutes old; cheap enough to call often."""
        self._is_followed = True
        now = time.monotonic()
        if now < max(self._next_look, self._next_page):
            return
        if now >= self._last_page + MAX_SECONDS_BETWEEN_PAGES or self._signature() != self._written:
            self.write()
        ended = time.monotonic()
        self._next_look = ended + max(SECONDS_BETWEEN_LOOKS, (ended - now) / MAX_SHARE_OF_TIME)

    def _signature(self) -> object:
        """Return what changes when a job begins, ends, or validates; None if the folder cannot be read."""
        try:
            paths = [folder / name for folder in job_folders(self._folder) for name in (STATUS_FILE, TRAINING_FILE)]
        except OSError:  # a folder was removed meanwhile, or the file system is away for a moment
            return None
        return [(str(path), _written_ns(path)) for path in paths]


def running_results(folder: Path, *, is_followed: bool = False) -> Results:
    """Return the results of a sweep that still runs, with its progress."""
    results = read_results([folder])
    try:
        sweep = read_sweep(folder)
    except StoreError:
        sweep = None
    progress = sweep_progress(results.jobs, sweep, datetime.now().astimezone())
    return replace(results, progress=replace(progress, is_followed=is_followed))


def results_so_far(folders: Sequence[Path]) -> Results:
    """Return the results in some folders; with the progress if one has a sweep that still runs, which names no winner.

    The page about them is written once, so that it does not reload.
    """
    results = read_results(folders)
    running = {
        folder for folder in (*folders, *(job.folder.parent for job in results.jobs)) if is_sweep_running(folder)
    }
    if not running:
        return results
    if len(folders) == 1 and folders[0] in running:
        results = running_results(folders[0])
    progress = results.progress or sweep_progress(results.jobs, None, datetime.now().astimezone())
    return replace(results, progress=replace(progress, reloads=False))


def write_page_of_running_sweep(folder: Path) -> None:
    """Write the page of a sweep at the end of one of its jobs, unless the last page is young.

    The age grows with the number of jobs, because a page of many jobs takes long. One process writes the page at a
    time. A job that ends meanwhile leaves a request, and the process that writes answers it. It answers once while the
    launcher runs, else until no request is left. If the page cannot be written, or its process is killed, the page
    waits for this age. A sweep whose launcher has died gets a page that does not reload, also if the last page is
    young.
    """
    path, request = folder / PAGE_FILE, folder / PAGE_REQUEST
    try:
        if not path.exists():
            return
        request.touch()
        is_again = False
        while request.exists():  # without a launcher, each pass removes the request, and each job asks once
            with path_lock(folder / PAGE_LOCK, wait=is_again):
                # Without a request, another process has answered it.
                is_answered = request.exists() and _answer_request(folder, is_again=is_again)
            if (is_again or not is_answered) and is_sweep_running(folder):
                return  # later jobs or the launcher write the page
            is_again = True
    except InUseError:  # another job writes the page, and sees the request
        return
    except Exception:  # the job is done, and its own files are whole
        log.debug("the page of the sweep was not written", exc_info=True)


def end_page_requests(folder: Path) -> None:
    """Remove the files by which the jobs of a sweep that has ended told each other to write the page."""
    for name in (PAGE_REQUEST, PAGE_LOCK):
        with suppress(OSError):  # Windows cannot delete an open file
            (folder / name).unlink(missing_ok=True)


def _answer_request(folder: Path, *, is_again: bool) -> bool:
    """Write the page if it is old, and return whether the request is answered.

    A young page is written only if the request came during the last writing, or if no launcher and no job runs. The
    request is removed before the results are read, so that a job that ends later asks again.
    """
    path, request = folder / PAGE_FILE, folder / PAGE_REQUEST
    if is_sweep_running(folder):
        is_due = is_again or _is_old(folder)
        if is_due:
            request.unlink(missing_ok=True)
            os.utime(path)
            LivePage(folder).write()
        return is_due
    request.unlink(missing_ok=True)
    results = read_results([folder])
    if _is_old(folder) or not results.count("running"):  # jobs that are missing may never start
        from mtx.page.render import write_page

        write_page(results, folder)
    return True


def _is_old(folder: Path) -> bool:
    """Return whether the page of a sweep is so old that a job that ends writes it again."""
    min_age_s = max(MIN_SECONDS_BETWEEN_PAGES, SECONDS_PER_JOB / MAX_SHARE_OF_TIME * _num_folders(folder))
    return time.time() - (folder / PAGE_FILE).stat().st_mtime >= min_age_s


def _num_folders(folder: Path) -> int:
    """Return the number of folders in the folder of a sweep: about that of its jobs."""
    with os.scandir(folder) as entries:
        return sum(entry.is_dir() for entry in entries)


def _written_ns(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
