"""Parts of a page about single jobs: links to files, commands, signatures of scores, and no sentences if asked."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from mtx.evaluation.slices import COLUMN_PREFIX, NO_VALUE, OTHERS
from mtx.page.ranking import Row
from mtx.records.report_record import REPORT_FILE
from mtx.records.result_types import JobRecord, Results
from mtx.records.slice_report import Slice
from mtx.records.sweep_record import PAGE_FILE

MAX_LINKS = 20  # jobs of an arm that are linked beside its command
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class ArmCommands:
    """The command of an arm's first job, and for each of its jobs the links to its page and its config."""

    anchor: str
    number: int
    label: str
    command: str | None
    links: Sequence[tuple[JobRecord, str | None, str | None]]


def without_samples(results: Results) -> Results:
    """Return results whose reports contain no sentences of the corpus, and no values of its columns."""
    jobs = []
    for job in results.jobs:
        kept = {"translations": (), "examples": {}, "slices": _numbered_values(job.report.slices)}
        jobs.append(replace(job, report=job.report.model_copy(update=kept)))
    return replace(results, jobs=tuple(jobs))


def _numbered_values(slices: Mapping[str, Sequence[Slice]]) -> dict[str, tuple[Slice, ...]]:
    """Return slices in which numbers stand for the values of columns of the corpus."""
    return {
        name: tuple(
            one.model_copy(update={"name": f"value {number}"})
            if name.startswith(COLUMN_PREFIX) and one.name not in (OTHERS, NO_VALUE)
            else one
            for number, one in enumerate(of_name, 1)
        )
        for name, of_name in slices.items()
    }


def arm_commands(row: Row, folder: Path, cohort: int = 1) -> ArmCommands:
    """Return what repeats an arm of a cohort: the command of its first job, and links to the pages of its jobs."""
    anchor = f"arm-{row.number}" if cohort == 1 else f"arm-{cohort}-{row.number}"
    first = row.jobs[0]
    command = shlex.join(["mtx", *first.overrides]) if first.overrides else None
    links = [(job, job_link(job, folder), _relative(job.folder / CONFIG_FILE, folder)) for job in row.jobs[:MAX_LINKS]]
    return ArmCommands(anchor, row.number, row.label, command, links)


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
