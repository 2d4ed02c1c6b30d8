"""The answers at the top of the page of a sweep: the best arm, the fastest, and the one with the least padding."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mtx.evaluation.verdict import verdict
from mtx.evaluation.verdict_text import names_text
from mtx.page.time_to_quality import TimeToQuality, spent_until, validation_curve
from mtx.records.objective_at_equal_budget import budget_measure
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_metrics import Value
from mtx.records.result_types import Results
from mtx.records.verdict_lines import compared_by, verdict_parts

BUDGET_NAMES = {"source_bytes": "source bytes", "real_tokens": "real tokens", "updates": "updates", "seconds": "time"}


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        question: the question.
        text: a sentence with the difference, its interval and n.
        by: the sentence that says how arms are compared; empty if it does not matter.
        is_decided: whether a winner is named.
    """

    question: str
    text: str
    by: str
    is_decided: bool


def answers(
    results: Results, common: TimeToQuality | None, profiles: Mapping[Path, RunProfile], level: float = 0.95
) -> tuple[Answer, ...]:
    """Return the answers about one cohort of jobs; one that says that the result is interim while jobs run."""
    told, by = verdict_parts(results)
    if not told:
        return ()
    if results.objective is None or results.is_interim:
        return (Answer("Which arm is best?", told, by, False),)
    trained = [job for job in results.jobs if job.state == "completed" and job.report.spent is not None]
    measure = budget_measure(results, trained) if trained else None
    at_equal = f" at equal {BUDGET_NAMES[measure]}" if measure in BUDGET_NAMES else ""
    is_decided = results.verdict.winner is not None and results.is_comparable
    found = [Answer(f"Which arm is best{at_equal}?", told, by, is_decided)]
    if common is not None and common.is_fair:
        seconds = _seconds_to(common.bits_per_byte, results, profiles)
        question = f"Which arm is fastest to {common.bits_per_byte:.3f} bits per byte?"
        found += _answer(question, "Compared by seconds of training (lower is better).", seconds)
    elif common is not None and (text := _without_common_level(common)):
        found.append(Answer("Which arm is fastest to a common level?", text, "", False))
    if results.objective != "padding_ratio":
        padding = {name: arm.shown_numbers_by_seed("padding_ratio") for name, arm in results.judged_arms.items()}
        by = compared_by("padding_ratio", "minimize")
        found += _answer("Which arm has the least padding?", by, padding)
    return tuple(found)


def _answer(question: str, by: str, numbers: Mapping[str, Mapping[Value, float]]) -> list[Answer]:
    """Return the verdict on numbers by arm and seed as an answer; none for fewer than two arms with numbers."""
    having = {arm: of_arm for arm, of_arm in numbers.items() if of_arm}
    if len(having) < 2:
        return []
    decided = verdict(having, direction="minimize", paired=False)
    return [Answer(question, decided.reason, by, decided.winner is not None)]


def _without_common_level(common: TimeToQuality) -> str:
    """Say which rows make times to a common level unfair; empty if only times are missing."""
    reached = [(row.label, spent) for row, spent, _ in common.rows if spent is not None]
    early = [label for label, spent in reached if spent.is_at_start]
    partly = [f"some jobs of {label}" for label, spent in reached if spent.any_at_start and not spent.is_at_start]
    late = [row.label for row, *amounts in common.rows if not any(amounts)]
    told = [f"{names_text(early)} {'were' if len(early) > 1 else 'was'} there at the first validation"] if early else []
    told += [f"{names_text(partly)} were there at the first validation"] if partly else []
    told += [f"{names_text(late)} did not reach it"] if late else []
    level = f"{common.bits_per_byte:.3f} bits per byte"
    return f"No level was reached by training in all arms. For {level}: {'; '.join(told)}." if told else ""


def _seconds_to(level: float, results: Results, profiles: Mapping[Path, RunProfile]) -> dict[str, dict[Value, float]]:
    """Return the seconds until each job reached a level, by arm and seed; without arms that did not reach it."""
    found: dict[str, dict[Value, float]] = {}
    for name, arm in results.judged_arms.items():
        of_arm: dict[Value, float] = {}
        for job in arm.jobs:
            if job.state != "completed":
                continue
            spent = spent_until(level, validation_curve(profiles.get(job.folder)), "seconds")
            of_arm[job.value("seed")] = math.nan if spent is None else spent
        if of_arm and not any(math.isnan(seconds) for seconds in of_arm.values()):
            found[name] = of_arm
    return found
