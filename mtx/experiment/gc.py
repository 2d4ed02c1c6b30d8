"""`task=gc`: list the files in the store that nothing refers to, and remove them on request."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mtx.data.garbage_collection import store_leftovers
from mtx.data.store import Store
from mtx.errors import InUseError, StoreError
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.maintenance_protocols import Leftover
from mtx.progress.formatting import size_text


@needs("storage")
def gc(run: Run, *, yes: bool = False, orphans: bool = True) -> None:
    """List the files in the store that nothing refers to, and remove them if `yes`, or if the user confirms.

    The user is asked only on a terminal and outside of a sweep.

    Args:
        run: The run of this task, which provides the store and the console.
        yes: Remove the files without asking.
        orphans: Also include datasets and artifacts that were built from an input that no longer exists.

    Raises:
        StoreError: Some files could not be removed. All others are removed first.
    """
    store = run.build("storage")
    found = store_leftovers(store, orphans=orphans)
    if not found:
        run.console.print(f"Nothing in {store.location} is unused.", highlight=False, soft_wrap=True, markup=False)
        return
    total = size_text(sum(leftover.num_bytes for leftover in found))
    heading = f"{len(found)} things in {store.location} are unused, {total}"
    run.console.print(heading, highlight=False, soft_wrap=True, markup=False)
    run.console.print(_leftover_table(found, store))
    if yes or _is_confirmed(run, len(found)):
        _remove_leftovers(run, found)
    else:
        run.console.print("Nothing was removed. Remove them with mtx task=gc yes=true", highlight=False)


def _is_confirmed(run: Run, number: int) -> bool:
    """Ask the user for confirmation on a terminal; return False without a terminal and in a sweep."""
    if not (sys.stdin.isatty() and run.console.is_terminal) or run.in_sweep:
        return False
    return run.console.input(f"Remove all {number}? [y/N] ", markup=False).strip().lower() in ("y", "yes")


def _remove_leftovers(run: Run, found: Sequence[Leftover]) -> None:
    removed: list[Leftover] = []
    refused: list[str] = []
    in_use = 0
    for leftover in found:
        try:
            removed += [leftover] if leftover.remove() else []
        except InUseError:
            in_use += 1
        except StoreError as error:
            refused.append(str(error))
    freed = size_text(sum(leftover.num_bytes for leftover in removed))
    run.console.print(f"Removed {len(removed)}, which frees {freed}.", highlight=False)
    if in_use:
        run.console.print(f"Kept {in_use}: another process is using them.", highlight=False)
    if kept := len(found) - len(removed) - in_use - len(refused):
        run.console.print(f"Kept {kept}: they came into use after the list was printed.", highlight=False)
    if refused:
        raise StoreError(f"{len(refused)} could not be removed: {refused[0]}")


def _leftover_table(found: Sequence[Leftover], store: Store) -> Table:
    table = Table(show_lines=False)
    table.add_column("file or folder", overflow="fold")
    table.add_column("reason", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for leftover in found:
        table.add_row(
            Text(_relative_text(leftover.path, store.root)), Text(leftover.reason), size_text(leftover.num_bytes)
        )
    return table


def _relative_text(path: Path | str, root: Path) -> str:
    return str(path.relative_to(root)) if isinstance(path, Path) and path.is_relative_to(root) else str(path)
