"""`task=gc`: what nothing in the store refers to, shown, and removed when told so."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from mtx.data.store import Store
from mtx.data.unused import unused
from mtx.errors import InUseError, StoreError
from mtx.experiment.run import Run
from mtx.experiment.show import size
from mtx.infra.dal.upkeep import Leftover


def gc(run: Run, *, yes: bool = False, orphans: bool = True) -> None:
    """Show what nothing refers to, and remove it where `yes`, or where the answer on a terminal is so.

    Args:
        run: its storage.
        yes: remove without asking.
        orphans: also what was derived from something that is gone.

    Raises StoreError where something could not be removed, after all else was.
    """
    store = run.build("storage")
    found = unused(store, orphans=orphans)
    if not found:
        run.console.print(f"Nothing in {store.location} is unused.", highlight=False, soft_wrap=True, markup=False)
        return
    total = size(sum(leftover.num_bytes for leftover in found))
    heading = f"Nothing refers to {len(found)} of the things in {store.location}, {total}"
    run.console.print(heading, highlight=False, soft_wrap=True, markup=False)
    run.console.print(_table(found, store))
    if yes or _agreed(run, len(found)):
        _remove(run, found)
    else:
        run.console.print("Nothing was removed. Remove them with mtx task=gc yes=true", highlight=False)


def _agreed(run: Run, number: int) -> bool:
    """Ask, where there is someone to ask."""
    if not (sys.stdin.isatty() and run.console.is_terminal) or run.in_sweep:
        return False
    return run.console.input(f"Remove all {number}? [y/N] ", markup=False).strip().lower() in ("y", "yes")


def _remove(run: Run, found: Sequence[Leftover]) -> None:
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
    freed = size(sum(leftover.num_bytes for leftover in removed))
    run.console.print(f"Removed {len(removed)}, which frees {freed}.", highlight=False)
    if in_use:
        run.console.print(f"Left {in_use} that another process is at work on.", highlight=False)
    if kept := len(found) - len(removed) - in_use - len(refused):
        run.console.print(f"Left {kept} that are in use by now.", highlight=False)
    if refused:
        raise StoreError(f"{len(refused)} could not be removed: {refused[0]}")


def _table(found: Sequence[Leftover], store: Store) -> Table:
    table = Table(show_lines=False)
    table.add_column("what", overflow="fold")
    table.add_column("why", overflow="fold")
    table.add_column("size", justify="right", no_wrap=True)
    for leftover in found:
        table.add_row(Text(_below(leftover.path, store.root)), Text(leftover.reason), size(leftover.num_bytes))
    return table


def _below(path: Path | str, root: Path) -> str:
    return str(path.relative_to(root)) if isinstance(path, Path) and path.is_relative_to(root) else str(path)
