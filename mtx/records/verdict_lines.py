"""What the terminal, the page and the tables say of a comparison, in the words of `mtx.evaluation.verdict`."""

import math
from collections.abc import Sequence

from mtx.evaluation.verdict import Direction
from mtx.records.cohorts import Cohort
from mtx.records.report_metrics import SHARES, Value, metric_name, shown_value
from mtx.records.result_types import Results

NO_OBJECTIVE = "The task returned no number to compare jobs by. Choose one of report.json with sweep.objective=NAME."
ONLY_CHECKED = "The jobs were only checked, so there is nothing to compare."

INTERIM = "Interim, no winner yet: {} jobs are completed, {} run or wait."
OPTIMISM = (
    "The lead of the best of several arms looks larger than it is: sweep.confirm=3 repeats the best two with new seeds."
)


def verdict_text(results: Results) -> str:
    """Say by what the arms are compared, and which one is the best or why none is; empty without a choice."""
    sentence, by = verdict_parts(results)
    if results.is_interim:
        return f"{sentence} {by}".strip()
    return f"{by} {sentence}".strip()


def verdict_parts(results: Results) -> tuple[str, str]:
    """Return the sentence that names the best arm or says why none is, and the one that says how arms are compared.

    Both are empty if there is nothing to choose from, and the second one if it does not matter.
    """
    metric = results.objective
    if metric is None and results.is_interim:
        return INTERIM.format(*_done_and_waiting(results)), ""
    if metric is None:
        is_checked = results.jobs and all(job.choices.get("task") == "check" for job in results.jobs)
        return ONLY_CHECKED if is_checked else NO_OBJECTIVE, ""
    if len(results.arms) < 2:
        return "", ""
    by = compared_by(metric, results.direction)
    if results.is_interim:
        return INTERIM.format(*_done_and_waiting(results)), by
    if not results.is_comparable:
        told = (
            f"No winner: {metric_name(metric)} is a mean over tokens, and the tokenizers differ. Compare these jobs by "
            "bits per byte: sweep.objective=bits_per_byte."
        )
        return told, ""
    if results.is_confirmed:
        return f"On the new seeds of sweep.confirm alone: {results.verdict.reason}", by
    optimism = "" if results.verdict.winner is None or len(results.verdict.order) < 3 else f" {OPTIMISM}"
    return f"{results.verdict.reason}{optimism}", by


def compared_by(metric: str, direction: Direction) -> str:
    """Return the sentence that names the metric of a comparison, its unit if it is percent, and which is better."""
    better = "lower" if direction == "minimize" else "higher"
    return f"Compared by {metric_name(metric)}{' in percent' * (metric in SHARES)} ({better} is better)."


def _done_and_waiting(results: Results) -> tuple[int, int]:
    return results.count("completed"), results.count("running", "missing")


def separation_text(results: Results, found: Sequence[Cohort]) -> str:
    """Say why jobs are divided into cohorts, and which held-out pairs each has."""
    name = metric_name(results.objective)
    counts = [(cohort.held_out or "not reported", len(cohort.results.jobs)) for cohort in found]
    sets = [f"{digest} ({count} job{'s' * (count != 1)})" for digest, count in counts]
    return (
        f"Not compared with each other: {name} of jobs that were measured on different held-out pairs. "
        f"Digests of the held-out pairs: {', '.join(sets)}. Each set has its own table and verdict."
    )


def arm_verdict(results: Results, arm: str) -> dict[str, Value]:
    """Return the verdict on an arm as columns of a table; only its name if it has no number or jobs still run."""
    found = results.verdict
    if arm not in found.order or results.is_interim or not results.is_comparable or len(results.arms) < 2:
        return {"arm": arm}
    difference = found.differences.get(arm)
    unit = shown_value(results.objective, 1.0)
    ends: dict[str, float] = {}
    if difference is not None:
        ends = {"difference": difference.estimate, "low": difference.low, "high": difference.high}
    if (over_text := found.text_differences.get(arm)) is not None:
        ends |= {"text_low": over_text.low, "text_high": over_text.high}
    if arm in found.diverged:
        result = "diverged"
    elif arm == found.winner:
        result = "winner"
    elif not found.has_intervals:
        result = "open"
    else:
        result = "tied" if arm in found.tied else "worse"
    return {"arm": arm, "result": result, **{name: end / unit for name, end in ends.items() if math.isfinite(end)}}
