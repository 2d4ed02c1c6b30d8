"""Write the page: of a sweep, of a run, of any set of runs. It is an extra: whatever becomes of it, results stay."""

import logging
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from mtx.data.progress import PlainConsole
from mtx.errors import StoreError
from mtx.experiment.page.content import content
from mtx.experiment.sweep.job import PAGE_FILE, REPORT_FILE
from mtx.experiment.sweep.reading import read_results
from mtx.experiment.sweep.results import Results
from mtx.infra.dal.base import atomic_file
from mtx.shown import redacted, shown

log = logging.getLogger(__name__)

TEMPLATE = "page.html.j2"


def write_page(results: Results, folder: Path) -> Path:
    """Write `report.html` about `results` into `folder`, whole or not at all, and return its path.

    The same results give the same bytes. Raises StoreError where the disk refuses.
    """
    html = render(results, folder)
    path = folder / PAGE_FILE
    with atomic_file(path) as file:
        file.write(html.encode("utf-8", "backslashreplace"))
    return path


def render(results: Results, folder: Path) -> str:
    """Return the page, which will be in `folder`, as HTML."""
    return environment().get_template(TEMPLATE).render(content(results, folder))


def page_of_run(folder: Path, console: Console | None = None) -> None:
    """Write the page of the run in `folder` and say where it is; nothing for a run that has no report."""
    if (folder / REPORT_FILE).exists():
        page_of(read_results([folder]), folder, console or PlainConsole())


def page_of(results: Results, folder: Path, console: Console) -> None:
    """Write the page and say where it is, or why there is none; a page that fails costs nothing else."""
    try:
        path = write_page(results, folder)
    except StoreError as error:
        console.print(f"the page was not written: {error}", highlight=False, soft_wrap=True)
    except Exception as error:  # results come from files, old ones too: no oddity in them may fail what is done
        log.debug("the page was not made", exc_info=True)
        told = f"the page was not made: {type(error).__name__}: {error}. The results are whole"
        console.print(told, highlight=False, soft_wrap=True)
    else:
        console.print(f"page: {path}", highlight=False, soft_wrap=True)


def environment() -> Environment:
    """Return Jinja's settings: everything is escaped, controls are made visible, credentials are hidden."""
    made = Environment(
        loader=FunctionLoader(_packaged),
        autoescape=True,  # by name of file would miss .html.j2
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["svg"] = Markup
    return made


def _finalized(value: Any) -> Any:
    """Make any value ready for the page; markup, which only plots and templates are, stays as it is."""
    if isinstance(value, Markup):
        return value
    return "–" if value is None else redacted(shown(str(value)))


def _packaged(name: str) -> str:
    return (files("mtx.experiment.page") / name).read_text(encoding="utf-8")
