"""Write the page `report.html` of a run, of a sweep, or of several. A failure of the page never fails the run."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from mtx.errors import StoreError
from mtx.infra.dal.atomic_file import atomic_file
from mtx.library_errors import library_reason
from mtx.page.content import page_content
from mtx.page.safe_text import forget_texts, safe_text
from mtx.page.scripts import packaged_text
from mtx.progress.literal_console import PlainConsole
from mtx.progress.progress_log import log_trace
from mtx.records.job_records import read_results
from mtx.records.report_record import REPORT_FILE
from mtx.records.result_types import Results
from mtx.records.sweep_record import PAGE_FILE

TEMPLATE = "page.html.j2"
RELOADING = re.compile(r'<meta http-equiv="refresh" content="\d+">\n')
RELOADS = re.compile(r"This page reloads every \d+ s until the sweep ends\.")


def write_page(results: Results, folder: Path) -> Path:
    """Write `report.html` about `results` into `folder` atomically, and return its path.

    Equal results give a page with equal bytes.

    Raises:
        StoreError: The file cannot be written.
    """
    html = render(results, folder)
    path = folder / PAGE_FILE
    with atomic_file(path) as file:
        file.write(html.encode("utf-8", "backslashreplace"))
    return path


def render(results: Results, folder: Path) -> str:
    """Return the HTML of the page about `results`, with links relative to `folder`."""
    forget_texts()
    return jinja_environment().get_template(TEMPLATE).render(page_content(results, folder))


def write_run_page(folder: Path, console: Console | None = None) -> None:
    """Write the page of the run in `folder` and print its path; do nothing if the run has no report."""
    if (folder / REPORT_FILE).exists():
        write_results_page(read_results([folder]), folder, console or PlainConsole())


def write_results_page(results: Results, folder: Path, console: Console) -> None:
    """Write the page and print its path; if that fails, print the reason and raise no error."""
    try:
        path = write_page(results, folder)
    except StoreError as error:
        console.print(f"the page was not written: {error}", highlight=False, soft_wrap=True)
        _stop_reloading(folder / PAGE_FILE, console)
    except Exception as error:  # an unusual value in a result file, maybe of an old version, must not fail the run
        told = f"the page was not written: {library_reason(error)}{log_trace()}. The results are complete"
        console.print(told, highlight=False, soft_wrap=True)
        _stop_reloading(folder / PAGE_FILE, console)
    else:
        console.print(f"page: {path}", highlight=False, soft_wrap=True)


def _stop_reloading(path: Path, console: Console) -> None:
    """Let the page of a running sweep, whose last page could not be written, reload no more and say so."""
    try:
        text = path.read_text(encoding="utf-8")
        stopped = RELOADING.sub("", text, count=1).replace('"is_followed": true', '"is_followed": false', 1)
        if stopped != text:
            told = "The page of the end could not be written."
            stopped = stopped.replace("<b>Running:</b>", "<b>Before the end:</b>", 1)
            with atomic_file(path) as file:
                file.write(RELOADS.sub(told, stopped, count=1).encode())
    except FileNotFoundError:
        return
    except (OSError, StoreError, ValueError):
        told = f"{path} is of the time before the end, and may still reload. Write it again with mtx task=compare"
        console.print(told, highlight=False, soft_wrap=True)


@cache
def jinja_environment() -> Environment:
    """Return Jinja's environment: all values are escaped, control characters shown, and credentials hidden.

    Each call returns the same object, which keeps the compiled templates: a sweep writes a page for each job.
    """
    made = Environment(
        loader=FunctionLoader(packaged_text),
        autoescape=True,  # Jinja's select_autoescape would miss the ending .html.j2
        undefined=StrictUndefined,
        finalize=_safe_value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["svg"] = Markup
    return made


def _safe_value(value: Any) -> Any:
    """Return a value as safe text for the page; the SVG of plots and included templates stay markup."""
    if isinstance(value, Markup):
        return value
    return "–" if value is None else safe_text(str(value))
