"""The end of a sweep: read what its jobs left, write it as tables, show it."""

from pathlib import Path

from rich.console import Console

from mtx.data.progress import PlainConsole
from mtx.errors import StoreError
from mtx.experiment.sweep.reading import read_results
from mtx.experiment.sweep.results import Results
from mtx.experiment.sweep.summary import print_summary
from mtx.experiment.sweep.tidy import write_tidy


def end_sweep(folder: Path, *, go_on: str | None = None, console: Console | None = None) -> Results:
    """Write and show the results of the sweep in `folder`, whatever came of it, with its page, and return them.

    Args:
        folder: of the sweep.
        go_on: the command that runs what is missing.
        console: where to show them.
    """
    from mtx.experiment.page.write import page_of  # matplotlib takes half a second

    console = console or PlainConsole()
    results = read_results([folder])
    print_summary(results, console, go_on=go_on)
    try:
        for path in write_tidy(results, folder):
            console.print(f"results: {path}", highlight=False, soft_wrap=True)
    except StoreError as error:  # the jobs are done and their own files whole
        console.print(f"results were not written: {error}", highlight=False, soft_wrap=True)
    page_of(results, folder, console)
    return results
