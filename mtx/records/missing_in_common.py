"""What jobs lack for a comparison: a metric that all of them report, and settings that all of them have."""

from collections.abc import Sequence

from mtx.records.report_metrics import KEY_METRICS
from mtx.records.result_types import SEED, JobRecord, Results
from mtx.records.varied_keys import LOCATION_KEYS, UNCOMPARED_GROUPS

MAX_NAMES = 8  # names of jobs, metrics or settings in one sentence


def missing_notes(results: Results) -> tuple[str, ...]:
    """Return one sentence for each thing that the completed jobs do not have in common; empty if nothing is missing."""
    completed = [job for job in results.jobs if job.state == "completed"]
    if len(completed) < 2:
        return ()
    found = (_missing_metric(completed, results.objective), _missing_settings(completed))
    return tuple(note for note in found if note is not None)


def _missing_metric(jobs: Sequence[JobRecord], objective: str | None) -> str | None:
    lacking = [job.name for job in jobs if objective is not None and job.number(objective) is None]
    if not lacking:
        return None
    places = {name: place for place, name in enumerate(KEY_METRICS)}  # those that rank arms come before counts
    shared = set.intersection(*({*job.objectives, *job.metrics} for job in jobs))
    common = sorted(shared, key=lambda name: (places.get(name, len(places)), name))
    advice = (
        f"All jobs report {_listed(common)}. Set sweep.objective={common[0]} to compare them by that."
        if common
        else "No number is in the reports of all jobs, so compare runs of one task: 'runs=[FOLDER,…]'."
    )
    return f"Not compared by {objective}, which their reports lack: {_jobs(lacking)}. {advice}"


def _missing_settings(jobs: Sequence[JobRecord]) -> str | None:
    without = [job.name for job in jobs if not job.config]
    if without:
        return (
            f"The settings of {_jobs(without)} are not known, since their folders have no config.json that can "
            "be read. What their numbers are due to cannot be told."
        )
    keys = [_setting_keys(job) for job in jobs]
    if set.intersection(*keys):
        return None
    told = "; ".join(f"job {job.name} has {_listed(sorted(of))}" for job, of in zip(jobs[:2], keys[:2], strict=True))
    return (
        f"The configs of the jobs have no setting in common: {told}. What a difference is due to cannot be told. "
        "Compare runs that differ in few settings: 'runs=[FOLDER,…]'."
    )


def _setting_keys(job: JobRecord) -> set[str]:
    """Return the names of the groups and the settings of a job that say what it computes."""
    keys = {*job.choices, *job.config} - LOCATION_KEYS - {SEED}
    return {key for key in keys if key.partition(".")[0] not in UNCOMPARED_GROUPS}


def _jobs(names: Sequence[str]) -> str:
    return f"job{'s' * (len(names) > 1)} {_listed(names)}"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES] or ["none"]) + (f" and {more} more" if more > 0 else "")
