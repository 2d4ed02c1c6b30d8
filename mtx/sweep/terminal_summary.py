"""What the terminal shows at the end of a sweep: 80 columns are enough."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from textwrap import wrap

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mtx.errors import StoreError
from mtx.evaluation.verdict import Verdict
from mtx.evaluation.verdict_text import difference_texts
from mtx.progress.literal_console import PlainConsole
from mtx.records.cohorts import cohorts
from mtx.records.data_curve import curve_table, data_curves
from mtx.records.job_records import read_results
from mtx.records.learning_rate_order import learning_rate_order, order_tables
from mtx.records.objective_at_equal_budget import condition_lines
from mtx.records.ranking_agreement import agreements
from mtx.records.report_metrics import metric_heading
from mtx.records.result_tables import write_results
from mtx.records.result_types import SEED, Group, JobRecord, RecordState, Results
from mtx.records.rule_worth import rule_worths, worth_table
from mtx.records.setting_notation import mean_texts, metric_text, setting_text, short_key
from mtx.records.sweep_record import add_assumptions
from mtx.records.verdict_lines import separation_text, verdict_text
from mtx.sweep.summary_lines import SummaryCurves, effect_lines, size_text, summary_curves

MAX_COLUMNS = 3  # of what varied; more are written into one, a line each
MIN_WIDTH = 26  # of that one
MAX_METRICS = 3  # beside the objective; one less where each has its spread beside it, or what varied takes much room
WIDTH = 80  # columns of a table in which each arm takes one line
SEPARATOR = " │ "
MAX_ARMS = 20  # rows of the table; the page has all
MAX_FAILED = 10  # jobs shown with their errors


def end_sweep(folder: Path, *, resume_command: str | None = None, console: Console | None = None) -> Results:
    """Write and show the results of the sweep in `folder`, whatever came of it, with its page, and return them.

    Args:
        folder: of the sweep.
        resume_command: the command that runs what is missing.
        console: where to show them.
    """
    from mtx.page.render import write_results_page  # matplotlib takes half a second

    console = console or PlainConsole()
    results = read_results([folder])
    print_summary(results, console, resume_command=resume_command)
    try:
        if notes := [note for cohort in cohorts(results) for note in cohort.notes]:
            add_assumptions(folder, notes)
            results = replace(results, assumptions=tuple(dict.fromkeys((*results.assumptions, *notes))))
        first, *others = write_results(results, folder)
        told = ", ".join([str(first), *(path.name for path in others)])
        console.print(f"results: {told}", highlight=False, soft_wrap=True)
    except StoreError as error:  # the jobs are done and their own files whole
        console.print(f"results were not written: {error}", highlight=False, soft_wrap=True)
    write_results_page(results, folder, console)
    return results


def print_summary(results: Results, console: Console, *, resume_command: str | None = None) -> None:
    """Print the jobs of a sweep, best first, then what failed, what was built, and how to go on.

    Args:
        results: of one sweep.
        console: where to.
        resume_command: the command that runs what is missing; printed where something is.
    """
    console.print(headline(results), highlight=False, soft_wrap=True)
    if any(job.state == "completed" for job in results.jobs):
        found = cohorts(results)
        if len(found) > 1:
            console.print(separation_text(results, found), highlight=False)
        for cohort in found:
            for line in (*cohort.notes, *condition_lines(cohort.results)):
                console.print(line, highlight=False)
            curves = summary_curves(cohort.results)
            console.print(summary_table(cohort.results, curves, max(WIDTH, console.width)))
            if line := left_out_text(cohort.results):
                console.print(line, highlight=False)
            told = (verdict_text(cohort.results), cohort.results.sentences.basis, *curves.answers)
            for line in (*told, *effect_lines(cohort.results)):
                if line:
                    console.print(line, highlight=False)
            for one in agreements(cohort.results):
                console.print(one.text, highlight=False)
            for shown in _experiment_results(cohort.results):
                console.print(shown, highlight=False)
    for line in _failure_lines(results):
        console.print(line, highlight=False, soft_wrap=True)
    for note in [*results.notes, *(note for job in results.jobs for note in job.notes)]:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)
    if len(results.folders) == 1 and (built := built_by(results)):
        counts = ", ".join(f"{number} {stage}" for stage, number in built.items())
        console.print(f"built in this sweep: {counts}", highlight=False)
    if resume_command is not None and results.count("completed") < len(results.jobs):
        console.print(f"to run what is missing:\n  {resume_command}", highlight=False, soft_wrap=True)


def _experiment_results(results: Results) -> Iterator[Table | str]:
    """Yield the tables and sentences about what some sweeps vary: learning rates, shares of the pairs, and rules."""
    if (order := learning_rate_order(results)) is not None:
        yield from order_tables(order)
        yield order.sentence
    if (shares := data_curves(results)) is not None:
        yield from map(curve_table, shares.curves)
        yield from shares.sentences
    for worths in rule_worths(results):
        yield worth_table(worths)
        yield worths.summary


def headline(results: Results) -> str:
    """Say how many jobs there are in which state, the arms and seeds, and the time of all."""
    counts = Counter(job.state for job in results.jobs)
    states: tuple[RecordState, ...] = ("completed", "failed", "interrupted", "running", "missing")
    told = ", ".join(f"{counts[state]} {state}" for state in states if counts[state])
    if reused := sum(job.reused for job in results.jobs):
        told += f"; {reused} of them from an earlier attempt"
    number = f"{len(results.jobs)} job{'s' * (len(results.jobs) != 1)}"
    size = size_text(results)
    about = f"; {size}" if size else ""
    return f"\n{number} in {', '.join(map(str, results.folders))}: {told or 'none'}{about}"


def summary_table(results: Results, curves: SummaryCurves | None = None, width: int = WIDTH) -> Table:
    """Show what varied, the objective with its difference to the best, and a few key metrics, one row per arm.

    Metrics that do not fit into `width` columns are left out, from the right, so that an arm takes one line. The
    seconds to a common level of `curves` are left out last.
    """
    curves = curves or SummaryCurves()
    keys = [key for key in results.varied if key != SEED]
    repeats = any(len(group.jobs) > 1 for group in results.groups)
    joined = len(keys) > MAX_COLUMNS
    to_best = difference_headings(results.verdict)
    others = results.metrics[: max(0, MAX_METRICS - repeats - joined - len(to_best))]
    groups = [group for group in shown_groups(results) if group.is_failed or _num_completed(group)]
    settings = ["what varied"] if joined else [short_key(key, keys) for key in keys]
    while True:
        metrics = [*([results.objective] if results.objective else []), *others]
        headings = [metric_heading(metric) for metric in metrics]
        headings[1:1] = [*to_best, *([curves.heading] if curves.heading else [])]
        numbers = [_number_texts(results, group, metrics, curves) for group in groups]
        rows = [
            [results.mark(group), _who(group, repeats=repeats), *_setting_texts(group, keys, joined=joined), *cells]
            for group, cells in zip(groups, numbers, strict=True)
        ]
        titles = ["", "seeds" if repeats else "job", *settings, *headings]
        widths = _column_widths(titles, rows)
        fits = _table_width(widths) <= width
        if fits or not (others or curves.heading):
            break
        others, curves = (others[:-1], curves) if others else (others, SummaryCurves())
    if fits and _table_width(_column_widths(titles, [titles, *rows])) > width:  # Rich breaks no heading if `no_wrap`
        headings = [_broken(title, width) for title, width in zip(headings, widths[len(settings) + 2 :], strict=True)]
    shown = Table(pad_edge=False, show_edge=False)
    shown.add_column("", width=1)
    shown.add_column("seeds" if repeats else "job", justify="right", no_wrap=fits)
    for title in settings:
        shown.add_column(Text(title), overflow="fold", min_width=MIN_WIDTH if joined else None)
    for title in headings:
        shown.add_column(Text(title), justify="right", no_wrap=fits)
    for row in rows:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _column_widths(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[int]:
    """Return the width of each column without wrapping, but with headings broken at their spaces."""
    found = [max((cell_len(word) for word in title.split()), default=0) for title in titles]
    for row in rows:
        found = [max([width, *map(cell_len, cell.split("\n"))]) for width, cell in zip(found, row, strict=True)]
    return found


def _table_width(widths: Sequence[int]) -> int:
    return sum(widths) + len(SEPARATOR) * (len(widths) - 1)


def _broken(title: str, width: int) -> str:
    """Return a heading with line ends, so that no line is wider than its column."""
    parts = title.split("\n")
    return "\n".join(line for part in parts for line in wrap(part, width, break_on_hyphens=False))


def _num_completed(group: Group) -> int:
    return sum(job.state == "completed" for job in group.jobs)


def _who(group: Group, *, repeats: bool) -> str:
    completed = _num_completed(group)
    all_jobs = "" if completed == len(group.jobs) else f" of {len(group.jobs)}"
    return f"{completed}{all_jobs}{' new' * group.jobs[0].confirms}" if repeats else group.jobs[0].name


def _setting_texts(group: Group, keys: Sequence[str], *, joined: bool) -> list[str]:
    values = [setting_text(group.values.get(key)) for key in keys]
    if not joined:
        return values
    said = [(key, value) for key, value in zip(keys, values, strict=True) if group.values.get(key) is not None]
    return ["\n".join(f"{short_key(key, keys)}={value}" for key, value in said)]


def _number_texts(results: Results, group: Group, metrics: Sequence[str], curves: SummaryCurves) -> list[str]:
    numbers = [_metric_text(group, metric) for metric in metrics]
    if group.is_failed and numbers:
        numbers[0] = "failed"
    name = results.arm_name(group)
    of_curve = [curves.seconds.get(name, "–")] if curves.heading else []
    numbers[1:1] = [*difference_texts(results.verdict, name), *of_curve]
    return numbers


def shown_groups(results: Results) -> tuple[Group, ...]:
    """Return the arms that the table shows: the first `MAX_ARMS`, and after them those that failed."""
    rest = results.groups[MAX_ARMS:]
    return (*results.groups[:MAX_ARMS], *(group for group in rest if group.is_failed))


def left_out_text(results: Results) -> str:
    """Say how many arms the table leaves out, and the range of their objective; empty if it shows all."""
    metric = results.objective
    rest = [
        group
        for group in results.groups[MAX_ARMS:]
        if metric and not group.is_failed and group.mean(metric) is not None
    ]
    means = [mean for group in rest if metric is not None and (mean := group.mean(metric)) is not None]
    if metric is None or not means:
        return ""
    last = rest[-1]
    told = f"{metric_text(metric, means[0])} to {metric_text(metric, means[-1])}"
    return f"… {len(rest)} more arm{'s' * (len(rest) != 1)} on the page, {told}; the last: {results.arm_name(last)}"


def difference_headings(verdict: Verdict) -> list[str]:
    """Return the headings of the columns of differences: over seeds, over held-out sentences, both, or none."""
    level = f"[{verdict.level:.0%}]"
    over_seeds = [f"to best {level}\nover seeds"] if verdict.has_intervals else []
    if not verdict.text_differences:
        return over_seeds
    return [*over_seeds, f"{level} over\nsentences" if over_seeds else f"to best {level}\nover sentences"]


def built_by(results: Results) -> Counter[str]:
    """Return for each stage how many different outputs the jobs built."""
    names = {name: None for job in results.jobs for name in job.report.built}
    return Counter(name.partition("-")[0] for name in names)


def _metric_text(group: Group, metric: str) -> str:
    mean = group.mean(metric)
    if mean is None:
        return "diverged" if group.num_diverged(metric) else "–"
    text, deviation = mean_texts(metric, mean, group.spread(metric))
    return text if deviation is None else f"{text} ± {deviation}"


def _failure_lines(results: Results) -> Iterator[str]:
    """Tell each failure once, with all jobs that it befell and what they have in common."""
    found: dict[str, list[JobRecord]] = {}
    for job in results.jobs:
        if job.state == "failed":
            found.setdefault(_error_line(job), []).append(job)
    for message, jobs in list(found.items())[:MAX_FAILED]:
        shared = _job_label(jobs, results.varied)
        names = f"job{'s' * (len(jobs) > 1)} {_names_text([job.name for job in jobs])} failed"
        yield f"{names} ({shared})" if shared else names
        yield f"  {message}"
        if jobs[0].log is not None:
            yield f"  {jobs[0].log}"
    if len(found) > MAX_FAILED:
        yield f"and {len(found) - MAX_FAILED} other failures"


def _job_label(jobs: Sequence[JobRecord], varied: Sequence[str]) -> str:
    """Name jobs by what they have in common of what varied, as on the command line.

    A job where that is not known is named by all that was said there.
    """
    first = {key: jobs[0].value(key) for key in varied}
    same = [key for key, value in first.items() if value is not None and all(job.value(key) == value for job in jobs)]
    values = [f"{key}={setting_text(first[key])}" for key in same]
    return " ".join(values or (jobs[0].overrides if len(jobs) == 1 else ()))


def _error_line(job: JobRecord) -> str:
    return (job.error or "it left no message").strip().partition("\n")[0]


def _names_text(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MAX_FAILED else f"{', '.join(names[:MAX_FAILED])}, …"
