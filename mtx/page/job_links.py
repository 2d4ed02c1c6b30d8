"""Parts of a page about single jobs: links to files, commands, signatures of scores, and no sentences if asked."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from mtx.page.ranking import Row
from mtx.records.report_record import REPORT_FILE
from mtx.records.result_types import JobRecord, Results
from mtx.records.sweep_record import PAGE_FILE

MAX_LINKS = 20  # jobs of an arm that are linked beside its command
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class ArmCommands:
    """The command of an arm's first job, and for each of its jobs the links to its page and its config."""

    number: int
    label: str
    command: str | None
    links: Sequence[tuple[JobRecord, str | None, str | None]]


def without_samples(results: Results) -> Results:
    """Return results whose reports contain no sentences of the corpus."""
    jobs = [
        replace(job, report=job.report.model_copy(update={"translations": (), "examples": {}})) for job in results.jobs
    ]
    return replace(results, jobs=tuple(jobs))


def arm_commands(row: Row, folder: Path) -> ArmCommands:
    """Return what repeats an arm: the command of its first job, and links to the jobs' pages and configs."""
    first = row.jobs[0]
    command = shlex.join(["mtx", *first.overrides]) if first.overrides else None
    links = [(job, job_link(job, folder), _relative(job.folder / CONFIG_FILE, folder)) for job in row.jobs[:MAX_LINKS]]
    return ArmCommands(row.number, row.label, command, links)


def signatures(jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """Return the different signatures of BLEU and chrF with which sacrebleu scored the jobs."""
    scores = [job.report.scores for job in jobs if job.report.scores is not None]
    texts = [text for of in scores for text in (of.bleu_signature, of.chrf_signature) if text]
    return tuple(dict.fromkeys(texts))


def job_link(job: JobRecord, folder: Path) -> str | None:
    """Return the link from the page to a job's page, report or log, the first that exists; None if none exists."""
    for name in (PAGE_FILE, REPORT_FILE, "mtx.log"):
        path = job.folder / name
        if path != folder / PAGE_FILE and (link := _relative(path, folder)) is not None:
            return link
    return None


def _relative(path: Path, folder: Path) -> str | None:
    """Return the link from the page to a file; None if there is no such file."""
    if not path.exists():
        return None
    try:
        return quote(Path(os.path.relpath(path, folder)).as_posix())
    except ValueError:  # on Windows, a folder on another drive has no relative path
        return path.absolute().as_uri()
