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
from mtx.records.result_types import SEED, JobRecord, Results
from mtx.records.setting_notation import brief_value
from mtx.records.slice_report import Slice
from mtx.records.sweep_record import PAGE_FILE
from mtx.records.varied_keys import LOCATION_KEYS, SEED_KEYS, UNCOMPARED_GROUPS

MAX_LINKS = 20  # jobs of an arm that are linked beside its command
MAX_DIFFERENCES = 30  # settings of an arm that differ from those of the first arm
MAX_COMMAND_CHARS = 4000  # characters of a command; config.json of the job has all settings
CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class JobLinks:
    """The links from the page to the files of a job; None for a file that does not exist.

    Attributes:
        job: the job.
        page: its page, report or log, the first that exists.
        config: its whole config.
        log: its log.
    """

    job: JobRecord
    page: str | None
    config: str | None
    log: str | None


@dataclass(frozen=True)
class ArmCommands:
    """What repeats an arm, and what distinguishes it.

    Attributes:
        anchor: the id of its element on the page.
        number: the number of its row in the ranking.
        label: its name.
        command: the command of its first job; None if it is not known, and empty if it is too long to be shown.
        differences: settings that differ from those of the first arm: key, value, and value of the first arm.
        more: number of further differences.
        links: the files of its jobs, at most `MAX_LINKS` of them.
    """

    anchor: str
    number: int
    label: str
    command: str | None
    differences: Sequence[tuple[str, str, str]]
    more: int
    links: Sequence[JobLinks]


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


def arm_commands(row: Row, best: Row, folder: Path, cohort: int = 1) -> ArmCommands:
    """Return what repeats an arm of a cohort, how its settings differ from the best arm's, and links to its jobs."""
    anchor = f"arm-{row.number}" if cohort == 1 else f"arm-{cohort}-{row.number}"
    first = row.jobs[0]
    command = shlex.join(["mtx", *first.overrides]) if first.overrides else None
    differences = [] if row.number == best.number else _differences(first, best.jobs[0])
    links = [
        JobLinks(
            job,
            job_link(job, folder),
            _relative(job.folder / CONFIG_FILE, folder),
            None if job.log is None else _relative(job.log, folder),
        )
        for job in row.jobs[:MAX_LINKS]
    ]
    shown = differences[:MAX_DIFFERENCES]
    told = command if command is None or len(command) <= MAX_COMMAND_CHARS else ""
    return ArmCommands(anchor, row.number, row.label, told, shown, len(differences) - len(shown), links)


def _differences(job: JobRecord, other: JobRecord) -> list[tuple[str, str, str]]:
    """Return the options, then the other settings, in which two jobs differ; the seed is none of them."""
    keys = dict.fromkeys([*job.choices, *other.choices, *sorted({*job.config, *other.config})])
    return [
        (key, brief_value(job.value(key)), brief_value(other.value(key)))
        for key in keys
        if key.partition(".")[0] not in UNCOMPARED_GROUPS
        and key not in (SEED, *SEED_KEYS, *LOCATION_KEYS)
        and job.value(key) != other.value(key)
    ]


def signatures(jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """Return the different signatures of BLEU and chrF with which sacrebleu scored the jobs."""
    scores = [job.report.scores for job in jobs if job.report.scores is not None]
    texts = [text for of in scores for text in (of.bleu_signature, of.chrf_signature) if text]
    return tuple(dict.fromkeys(texts))


def contrastive_conditions(jobs: Sequence[JobRecord]) -> tuple[str, ...]:
    """Return among how many targets and for how many held-out pairs the jobs had to find the right one, and chance."""
    found = [job.report.contrastive for job in jobs if job.report.contrastive is not None]
    texts = [
        f"one of {of.num_candidates} targets of similar length, for {of.num_pairs:,} held-out pairs (guessing gives "
        f"{of.guessing})"
        for of in found
    ]
    return tuple(dict.fromkeys(texts))


def job_link(job: JobRecord, folder: Path) -> str | None:
    """Return the link from the page to a job's page, report or log, the first that exists; None if none exists."""
    for path in (job.folder / PAGE_FILE, job.folder / REPORT_FILE, job.log):
        if path is not None and path != folder / PAGE_FILE and (link := _relative(path, folder)) is not None:
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
