"""Compute the section on failed and interrupted jobs, grouped by error message."""

from collections.abc import Sequence
from dataclasses import dataclass

from mtx.page.ranking import job_label
from mtx.records.result_types import SEED, JobRecord
from mtx.records.setting_notation import brief_value

MAX_TRACES = 20  # failures with a traceback on the page; the jobs' logs have all tracebacks
MAX_NAMED_JOBS = 30  # jobs listed for one failure
MAX_TRACE_CHARS = 8000  # characters of a traceback, counted from its end


@dataclass(frozen=True)
class Failure:
    """Jobs that failed with the same error, or were interrupted.

    Attributes:
        state: `failed` or `interrupted`.
        error: The common error message.
        jobs: The listed jobs, each with a label.
        more: The number of further jobs that are not listed.
        traceback: The traceback of the first job.
    """

    state: str
    error: str
    jobs: Sequence[tuple[JobRecord, str]]
    more: int
    traceback: str | None


def failures(jobs: Sequence[JobRecord], varied: Sequence[str]) -> list[Failure]:
    """Return the failed and the interrupted jobs, grouped by state and error message."""
    found: dict[tuple[str, str], list[JobRecord]] = {}
    for job in jobs:
        if job.state in ("failed", "interrupted"):
            found.setdefault((job.state, job.error or "no error message"), []).append(job)
    failures = []
    for number, ((state, error), gathered) in enumerate(found.items()):
        named = [(job, _job_label(job, varied)) for job in gathered[:MAX_NAMED_JOBS]]
        trace = gathered[0].traceback if number < MAX_TRACES else None
        if trace is not None and len(trace) > MAX_TRACE_CHARS:
            trace = f"…\n{trace[-MAX_TRACE_CHARS:]}"
        failures.append(Failure(state, error, named, len(gathered) - len(named), trace))
    return failures


def _job_label(job: JobRecord, varied: Sequence[str]) -> str:
    """Return the label of a job: its varied settings with the seed; without a config, its overrides."""
    if not job.config or not varied:
        return " ".join(job.overrides)
    seed = f", seed={brief_value(job.value(SEED))}" if SEED in varied else ""
    return job_label(job, varied) + seed
