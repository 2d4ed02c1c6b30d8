"""The lines that the terminal shows while a sweep runs: one at the start, and one for each job that ends.

Jobs may run in other processes. Therefore the lines are computed from the files `sweep.json` and `status.json`.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from mtx.errors import DamagedError
from mtx.records.job_status import STATUS_FILE, JobStatus, read_status
from mtx.records.result_types import SEED
from mtx.records.setting_notation import named_metric_text, short_key
from mtx.records.sweep_record import SweepRecord, read_sweep

BUDGET_KEY = "budget.seconds"
MIN_ERROR_CHARS = 40  # characters of an error in a line; the final summary of the sweep has the whole message
MAX_WIDTH = 60  # characters of the column with the settings that vary
RESULT = 3  # index of the result in the parts of a line


def first_line(folder: Path, sweep: SweepRecord) -> str:
    """Return the first line of a sweep: the number of jobs, the settings that vary, and the jobs completed earlier.

    Args:
        folder: The folder of the sweep.
        sweep: The content of the sweep's `sweep.json`.
    """
    num_jobs, varied = sweep.num_jobs, sweep.varied
    number = "jobs" if num_jobs is None else f"{num_jobs} job{'s' * (num_jobs != 1)}"
    seeds = {_settings(job.overrides).get(SEED) for job in sweep.jobs if SEED in varied}
    differ = ", ".join(short_key(key, varied) for key in varied if key != SEED or not seeds)
    told = f"{(num_jobs or 0) // len(seeds)} arms ({differ}) x {len(seeds)} seeds" if seeds and differ else differ
    done = f"; {sweep.num_done} completed by an earlier attempt" if sweep.num_done else ""
    return f"{number} in {folder}{f': {told}' if told else f': {len(seeds)} seeds' if seeds else ''}{done}"


def duration_line(sweep: SweepRecord, budget_s: float | None, at_a_time: int = 1) -> str | None:
    """Return a line about how long the training of a sweep takes; None without a budget in seconds, or for a search.

    Args:
        sweep: The content of the sweep's `sweep.json`.
        budget_s: `budget.seconds` of the config that all jobs share; a job's own value comes first.
        at_a_time: Number of jobs that run at a time.
    """
    num_left = len(sweep.jobs) - sweep.num_done
    said = [_settings(job.overrides).get(BUDGET_KEY) for job in sweep.jobs]
    budgets = [budget_s if text is None else _number(text) for text in said]
    known = [seconds for seconds in budgets if seconds is not None]
    if num_left < 1 or len(known) < len(budgets):
        return None
    total = sum(known) / len(budgets) * -(-num_left // at_a_time)
    order = "one after another" if at_a_time == 1 else f"{at_a_time} at a time"
    each = f" of {known[0]:g} s" if len(set(known)) == 1 else ""
    return (
        f"{num_left} job{'s' * (num_left != 1)}{each} need {_clock(total)} of training, {order}; validations and the "
        "first preparation come on top"
    )


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def job_line(folder: Path, sweep_dir: Path, width: int = 100) -> str | None:
    """Return the line of a job that has ended: its number, varied settings, result, time, and the sweep's time left.

    Two jobs that end at the same moment may get the same number.

    Args:
        folder: The folder of the job.
        sweep_dir: The folder of the sweep.
        width: The largest length of the line in characters; a longer error message is cut.

    Returns:
        The line. None for a job without a status, and for a job that an earlier attempt completed.

    Raises:
        DamagedError: The status of the job cannot be read.
    """
    sweep = read_sweep(sweep_dir)
    if sweep is None or sweep.attempt_started is None:
        return None
    begun = datetime.fromisoformat(sweep.attempt_started)
    ended = {name: status for name, status in _statuses(sweep_dir) if _is_of_attempt(status, begun)}
    status = read_status(folder)
    if status is None or not _is_of_attempt(status, begun):
        return None
    varied, num_jobs, number = sweep.varied, sweep.num_jobs, sweep.num_done + len(ended)
    longest = max((len(_what(job.overrides, varied)) for job in sweep.jobs), default=0)
    parts = [
        f"{number:>{len(str(num_jobs))}}/{num_jobs}" if num_jobs else str(number),
        f"job {folder.name}",
        f"{_what(status.overrides, varied):{min(longest, MAX_WIDTH)}}",
        _result(status, ended),
        _clock(status.seconds or 0),
    ]
    if num_jobs and number < num_jobs and status.ended is not None:
        seconds = (datetime.fromisoformat(status.ended) - begun).total_seconds()
        parts.append(f"{_clock(seconds / len(ended) * (num_jobs - number))} left")
    room = max(width - len("  ".join(parts)) + len(parts[RESULT]), MIN_ERROR_CHARS)
    if status.state != "completed" and len(parts[RESULT]) > room:
        parts[RESULT] = f"{parts[RESULT][: room - 1]}…"
    return "  ".join(part for part in parts if part)


def _statuses(sweep_dir: Path) -> Iterator[tuple[str, JobStatus]]:
    for path in sweep_dir.glob(f"*/{STATUS_FILE}"):
        try:
            status = read_status(path.parent)
        except DamagedError:
            continue
        if status is not None:
            yield path.parent.name, status


def _is_of_attempt(status: JobStatus, begun: datetime) -> bool:
    return status.state != "running" and datetime.fromisoformat(status.started) >= begun


def _result(status: JobStatus, ended: Mapping[str, JobStatus]) -> str:
    """Return the result of a job: its objectives, or its state and error; a repeated error refers to the first job."""
    if status.state != "completed":
        same = [name for name, other in ended.items() if other.error == status.error and other.started < status.started]
        first = min(same, key=lambda name: ended[name].started, default=None)
        if status.error is None or first is not None:
            return status.state if first is None else f"{status.state}, as job {first}"
        return f"{status.state}: {status.error.strip().partition(chr(10))[0]}"
    told = [named_metric_text(metric, value) for metric, value in status.objectives.items()]
    return ", ".join(told) or status.state


def _settings(overrides: Sequence[str]) -> dict[str, str]:
    pairs = (override.lstrip("+").partition("=") for override in overrides)
    return {key: value for key, _, value in pairs}


def _what(overrides: Sequence[str], varied: Sequence[str]) -> str:
    said = _settings(overrides)
    return " ".join(f"{short_key(key, varied)}={said[key]}" for key in varied if key in said)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
