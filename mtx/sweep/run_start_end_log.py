"""The first and the last line of a run in its log: its command and folder, and its result and time."""

import json
import os
import shlex
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtx.progress.progress_log import is_later_rank, say
from mtx.redaction_and_escaping import redacted_override

if TYPE_CHECKING:
    from mtx.sweep.job_spec import Job

RESULTS = ("bits_per_byte", "padding_ratio", "num_pairs_kept")  # keys of a report; the first present one is logged


@contextmanager
def logged(job: "Job") -> Iterator[None]:
    """Log the start of a task, and its end with state, result and seconds; nothing is logged on rank > 0."""
    if is_later_rank():
        yield
        return
    task = f"task={job.choices.get('task') or job.config['task']['_target_']}"
    said = [redacted_override(override) for override in job.overrides if not override.startswith("task=")]
    say("start", f"mtx {version('mtx')} {shlex.join([task, *said])}", {"folder": near(job.folder)})
    started = time.perf_counter()
    report = job.folder / "report.json"
    before = _written(report)
    try:
        yield
    except Exception as error:
        seconds = time.perf_counter() - started
        say("end", "failed", {"by": type(error).__name__, "error": str(error), "s": seconds})
        raise
    except BaseException as error:  # Ctrl-C
        say("end", "interrupted", {"by": type(error).__name__, "s": time.perf_counter() - started})
        raise
    new = _written(report) not in (None, before)
    values = {**_results(report), "report": near(report)} if new else {}
    say("end", "completed", {**values, "s": time.perf_counter() - started})


def near(path: str | Path) -> str:
    """Return a path relative to the working folder if it is inside, else the path itself."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _results(report: Path) -> dict[str, object]:
    try:
        read: Any = json.loads(report.read_bytes())
    except (OSError, ValueError):
        return {}
    known = read if isinstance(read, Mapping) else {}
    main = next((name for name in RESULTS if known.get(name) is not None), None)
    return {name: known.get(name) for name in ("ended_by", main) if name is not None}


def _written(path: Path) -> int | None:
    return path.stat().st_mtime_ns if path.exists() else None
