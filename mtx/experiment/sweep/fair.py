"""Which jobs may be ranked against each other: those that were measured on the same held-out pairs."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mtx.experiment.sweep.results import JobRecord, Results

OF_HELD_OUT = ("bits_per_byte", "scores.", "validations")  # metrics whose names begin so are of held-out text


@dataclass(frozen=True)
class Cohort:
    """Jobs that may be ranked against each other.

    Attributes:
        held_out: what tells their held-out pairs apart from those of others; None where the jobs are one cohort
            because what they are compared by is not measured on held-out pairs, or where none says what it held out.
        results: those jobs.
    """

    held_out: str | None
    results: Results


def cohorts(results: Results) -> tuple[Cohort, ...]:
    """Divide results into cohorts, the largest first; jobs that were not completed are in the first.

    Jobs are divided only where their objective is measured on held-out pairs.
    """
    name = results.objective
    if name is None or not name.startswith(OF_HELD_OUT):
        return (Cohort(None, results),)
    found: dict[str | None, list[JobRecord]] = {}
    others = []
    for job in results.jobs:
        if job.state == "completed" and job.number(name) is not None:
            found.setdefault(held_out(job.report), []).append(job)
        else:
            others.append(job)
    if len(found) < 2:
        return (Cohort(next(iter(found), None), results),)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), str(item[0])))
    first = {job.folder for job in (*ranked[0][1], *others)}
    divided = [(ranked[0][0], [job for job in results.jobs if job.folder in first]), *ranked[1:]]
    return tuple(Cohort(digest, dataclasses.replace(results, jobs=tuple(jobs))) for digest, jobs in divided)


def held_out(report: Mapping[str, Any]) -> str | None:
    """Return what tells the held-out pairs of a report apart; None where it does not say.

    Reports without a digest of them have the dataset's id, which depends on the filter.
    """
    told, ids = report.get("held_out"), report.get("ids")
    if isinstance(told, Mapping) and isinstance(told.get("digest"), str):
        return str(told["digest"])
    filtered = ids.get("filtered") if isinstance(ids, Mapping) else None
    name = filtered.get("validation") if isinstance(filtered, Mapping) else None
    return name if isinstance(name, str) else None
