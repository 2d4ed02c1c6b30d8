"""What the terminal shows at the end of a sweep: 80 columns are enough."""

from collections import Counter
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mtx.experiment.sweep.fair import cohorts
from mtx.experiment.sweep.metrics import KEY_METRICS, Value
from mtx.experiment.sweep.results import SEED, Group, JobRecord, RecordState, Results

BEST = "★"
NOT_TOLD_APART = "≈"
MOST_COLUMNS = 3  # of what varied; more are written into one, a line each
MIN_WIDTH = 26  # of that one
MOST_METRICS = 3  # beside the objective; one less where each has its spread beside it, or what varied takes much room
MOST_FAILED = 10  # jobs shown with their errors


def print_summary(results: Results, console: Console, *, go_on: str | None = None) -> None:
    """Print the jobs of a sweep, best first, then what failed, what was built, and how to go on.

    Args:
        results: of one sweep.
        console: where to.
        go_on: the command that runs what is missing; printed where something is.
    """
    console.print(headline(results), highlight=False, soft_wrap=True)
    if any(job.state == "completed" for job in results.jobs):
        console.print(table(results))
        if best := verdict(results):
            console.print(best, highlight=False)
    for line in _failures(results):
        console.print(line, highlight=False, soft_wrap=True)
    for note in [*results.notes, *(note for job in results.jobs for note in job.notes)]:
        console.print(f"note: {escape(note)}", highlight=False, soft_wrap=True)
    if built := built_by(results):
        console.print("built by the jobs that needed it first, and reused by the others:", highlight=False)
        for stage, by in built.items():
            console.print(f"  {stage}: {by}", highlight=False, soft_wrap=True)
    if go_on is not None and results.count("completed") < len(results.jobs):
        console.print(f"to run what is missing:\n  {escape(go_on)}", highlight=False, soft_wrap=True)


def headline(results: Results) -> str:
    """Say how many jobs there are in which state."""
    counts = Counter(job.state for job in results.jobs)
    states: tuple[RecordState, ...] = ("completed", "failed", "interrupted", "running", "missing")
    told = ", ".join(f"{counts[state]} {state}" for state in states if counts[state])
    if reused := sum(job.reused for job in results.jobs):
        told += f"; {reused} of them from an earlier attempt"
    number = f"{len(results.jobs)} job{'s' * (len(results.jobs) != 1)}"
    return f"\n{number} in {escape(', '.join(map(str, results.folders)))}: {told or 'none'}"


def table(results: Results) -> Table:
    """Show what varied, the objective and a few key metrics, one row for jobs that differ in the seed alone."""
    keys = [key for key in results.varied if key != SEED]
    repeats = any(len(group.jobs) > 1 for group in results.groups)
    joined = len(keys) > MOST_COLUMNS
    shown = Table(pad_edge=False, show_edge=False)
    shown.add_column("", width=1)
    shown.add_column("seeds" if repeats else "job", justify="right")
    for heading in ["what varied"] if joined else [short(key, keys) for key in keys]:
        shown.add_column(Text(heading), overflow="fold", min_width=MIN_WIDTH if joined else None)
    others = results.metrics[: MOST_METRICS - repeats - joined]
    metrics = [*([results.objective] if results.objective else []), *others]
    for metric in metrics:
        shown.add_column(Text(KEY_METRICS[metric][0] if metric in KEY_METRICS else metric), justify="right")
    for group in results.groups:
        completed = sum(job.state == "completed" for job in group.jobs)
        if not completed:
            continue
        values = [told(group.values.get(key)) for key in keys]
        if joined:
            said = [(key, value) for key, value in zip(keys, values, strict=True) if group.values.get(key) is not None]
            values = ["\n".join(f"{short(key, keys)}={value}" for key, value in said)]
        who = str(completed) if repeats else group.jobs[0].name
        numbers = [_measured(group, metric) for metric in metrics]
        shown.add_row(*(Text(cell) for cell in (_mark(results, group), who, *values, *numbers)))
    return shown


def verdict(results: Results) -> str:
    """Say what is best by the objective, or that nothing is; empty where there is nothing to choose from."""
    if results.objective is None:
        return "no objective to sort by: the task returned none; choose one with sweep.objective=METRIC"
    if len(cohorts(results)) > 1:
        return (
            f"not ranked: {escape(results.objective)} was measured on different held-out pairs; the page ranks the "
            "jobs of each by themselves"
        )
    if len(results.groups) < 2:
        return ""
    how = "least" if results.direction == "minimize" else "most"
    if len(results.best) == 1:
        return f"{BEST} {how} {escape(results.objective)}"
    within = "within the spread over seeds" if any(g.spread(results.objective) for g in results.best) else "equal"
    return f"{NOT_TOLD_APART} no winner by {how} {escape(results.objective)}: {within}"


def built_by(results: Results) -> dict[str, str]:
    """Say for each stage how many of its outputs were built, and by which jobs: `{"raw": "1 by job 0"}`."""
    found: dict[str, Counter[str]] = {}
    for job in results.jobs:
        built = job.report.get("built")
        for name in built if isinstance(built, list) else []:
            found.setdefault(str(name).partition("-")[0], Counter())[job.name] += 1
    return {stage: f"{by.total()} by job{'s' * (len(by) > 1)} {escape(_some(list(by)))}" for stage, by in found.items()}


def short(key: str, keys: list[str]) -> str:
    """Return the end of a key that tells it from the others: `vocab_size` for `tokenizer.vocab_size`."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if not any(other != key and (other == end or other.endswith(f".{end}")) for other in keys):
            return end
    return key


def told(value: Value) -> str:
    """Write a config value as on the command line."""
    if value is None:
        return "–"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _measured(group: Group, metric: str) -> str:
    mean, spread = group.mean(metric), group.spread(metric)
    if mean is None:
        return "–"
    form = KEY_METRICS[metric][1] if metric in KEY_METRICS else ",.4g"
    return format(mean, form) + ("" if spread is None else f" ± {format(spread, form)}")


def _mark(results: Results, group: Group) -> str:
    if group not in results.best or len(results.groups) < 2 or len(cohorts(results)) > 1:
        return ""
    return BEST if len(results.best) == 1 else NOT_TOLD_APART


def _failures(results: Results) -> Iterator[str]:
    failed = [job for job in results.jobs if job.state == "failed"]
    for job in failed[:MOST_FAILED]:
        yield f"job {escape(job.name)} failed ({escape(_what(job, results.varied))})"
        yield f"  {escape(_one_line(job))}"
        if job.log is not None:
            yield f"  {escape(str(job.log))}"
    if len(failed) > MOST_FAILED:
        yield f"and {len(failed) - MOST_FAILED} more failed"


def _what(job: JobRecord, varied: Sequence[str]) -> str:
    """Name a job by what varied, as on the command line; by all that was said there where that is not known."""
    values = [f"{key}={told(value)}" for key in varied if (value := job.value(key)) is not None]
    return " ".join(values or job.overrides)


def _one_line(job: JobRecord) -> str:
    return (job.error or "it left no message").strip().partition("\n")[0]


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= MOST_FAILED else f"{', '.join(names[:MOST_FAILED])}, …"
