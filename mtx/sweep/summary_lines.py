"""Lines at the end of a sweep: its size and time, the answers besides the best arm, effects, and shared stages."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from mtx.evaluation.verdict_text import difference_text
from mtx.page.answers import answers
from mtx.page.effects import effects
from mtx.page.ranking import ranking
from mtx.page.time_to_quality import SpentAmount, time_to_quality
from mtx.progress.formatting import duration
from mtx.records.plot_data_record import read_profile
from mtx.records.result_types import SEED, Results
from mtx.records.run_list import seconds_since_1970
from mtx.records.setting_notation import mean_texts, setting_text, short_key

MAX_JOBS_WITH_CURVES = 200  # jobs whose learning curves the terminal reads; the page reads all


def size_text(results: Results) -> str:
    """Return the number of arms and seeds and the time of a sweep: `2 arms (sampler) x 3 seeds, 1:23`; or nothing."""
    keys = [key for key in results.varied if key != SEED]
    seeds = {job.value(SEED) for job in results.jobs}
    told = []
    if keys and len(results.arms) > 1:
        names = ", ".join(short_key(key, results.varied) for key in keys)
        told.append(f"{len(results.arms)} arms ({names})" + (f" x {len(seeds)} seeds" if len(seeds) > 1 else ""))
    own = [job for job in results.jobs if not job.reused]
    starts, ends = _moments(job.started for job in own), _moments(job.ended for job in own)
    if starts and ends and len(results.jobs) > 1 and results.command:  # runs of several commands have time between them
        told.append(f"{duration(max(ends) - min(starts))} in all")
    return ", ".join(told)


def _moments(texts: Iterable[str | None]) -> list[float]:
    return [moment for text in texts if (moment := seconds_since_1970(text or "")) is not None]


@dataclass(frozen=True)
class SummaryCurves:
    """What the end of a sweep says from learning curves.

    Attributes:
        answers: the answers to the questions that follow the best arm: the fastest arm, and the one with least padding.
        heading: the heading of the column of seconds to a common level; empty if it has no column.
        seconds: the texts of this column by the name of the arm.
    """

    answers: tuple[str, ...] = ()
    heading: str = ""
    seconds: Mapping[str, str] = field(default_factory=dict)


def summary_curves(results: Results) -> SummaryCurves:
    """Return what learning curves tell of one cohort of jobs; nothing while jobs run, or for very many jobs."""
    if results.is_interim or len(results.jobs) > MAX_JOBS_WITH_CURVES:
        return SummaryCurves()
    notes: list[str] = []
    completed = [job for job in results.jobs if job.state == "completed"]
    profiles = {job.folder: read_profile(job.folder, job.report, notes) for job in completed}
    common = time_to_quality(ranking(results, results.varied).rows, profiles)
    found = answers(results, common, profiles)[1:]
    told = tuple(" ".join(filter(None, (answer.question, answer.by, answer.text))) for answer in found)
    if common is None:
        return SummaryCurves(told)
    texts = {results.arm_names[id(row.jobs)]: _seconds_text(spent) for row, spent, _ in common.rows}
    return SummaryCurves(told, f"s to {common.bits_per_byte:.3f}", texts)


def _seconds_text(spent: SpentAmount | None) -> str:
    if spent is None:
        return "not reached"
    if spent.is_at_start:
        return "at the start"
    return " ± ".join(filter(None, mean_texts("fit_s", spent.mean, spent.spread)))


def effect_lines(results: Results) -> Iterator[str]:
    """Yield a line for each of several varied settings: the differences of its values to its best value."""
    for effect in effects(results):
        best = next((row for row in effect.rows if row.is_best), None)
        rows = [row for row in effect.rows if row.difference is not None]
        if best is None or not rows:
            continue
        told = ", ".join(
            f"{setting_text(row.value)} {difference_text(row.difference)}" for row in rows if row.difference
        )
        yield f"effect of {short_key(effect.key, results.varied)}, against {setting_text(best.value)}: {told}"
