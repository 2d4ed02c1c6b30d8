"""Which jobs may be compared: those that were measured on the same held-out pairs, at equal budgets."""

import dataclasses
from dataclasses import dataclass

from mtx.records.missing_in_common import missing_notes
from mtx.records.objective_at_equal_budget import at_equal_budget
from mtx.records.report_metrics import HELD_OUT_PREFIXES
from mtx.records.report_record import Report
from mtx.records.result_types import JobRecord, Results


@dataclass(frozen=True)
class Cohort:
    """Jobs that may be ranked against each other.

    Attributes:
        held_out: what tells their held-out pairs apart from those of others. None if the objective is not measured on
            held-out pairs, or if no job says what it held out. Then all jobs are one cohort.
        results: those jobs, with their objectives at equal budgets.
        notes: what to say before the verdict, one sentence each: what the jobs lack, and their budgets.
    """

    held_out: str | None
    results: Results
    notes: tuple[str, ...] = ()


def cohorts(results: Results) -> tuple[Cohort, ...]:
    """Divide results into cohorts, the largest first; jobs that were not completed are in the first.

    Jobs are divided only where their objective is measured on held-out pairs.
    """
    name = results.objective
    if name is None or not name.startswith(HELD_OUT_PREFIXES):
        return (_cohort(None, results),)
    found: dict[str | None, list[JobRecord]] = {}
    others = []
    for job in results.jobs:
        if job.state == "completed" and job.number(name) is not None:
            found.setdefault(held_out_digest(job.report), []).append(job)
        else:
            others.append(job)
    if len(found) < 2:
        return (_cohort(next(iter(found), None), results),)
    ranked = sorted(found.items(), key=lambda item: (-len(item[1]), str(item[0])))
    first = {job.folder for job in (*ranked[0][1], *others)}
    divided = [(ranked[0][0], [job for job in results.jobs if job.folder in first]), *ranked[1:]]
    return tuple(_cohort(digest, dataclasses.replace(results, jobs=tuple(jobs))) for digest, jobs in divided)


def _cohort(held_out: str | None, results: Results) -> Cohort:
    equal, notes = at_equal_budget(results)
    return Cohort(held_out, equal, (*missing_notes(results), *notes))


def held_out_digest(report: Report) -> str | None:
    """Return what tells the held-out pairs of a report apart; None where it does not say.

    Reports without a digest of them have the dataset's id, which depends on the filter.
    """
    digest = report.held_out.digest if report.held_out is not None else None
    return digest or report.ids.filtered.get("validation")
