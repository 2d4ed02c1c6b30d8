"""The part of `task=show` for one dataset or artifact: its inputs, its counts, what was built from it, and its runs."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich.cells import chop_cells

from mtx.data.dataset import counts_by_reason
from mtx.data.row_trace import found_dataset
from mtx.data.store import Store
from mtx.data.store_tree import StoredItem, stored_items
from mtx.experiment.run_context import Run
from mtx.experiment.show_listing import age_text, entry_lines, fitted, present_time
from mtx.progress.formatting import size_text
from mtx.records.run_list import ListedEntry
from mtx.redaction_and_escaping import redacted_override, safe_line

LABEL_WIDTH = 11
MAX_IDS = 10  # ids of items that were built from a dataset; more are counted


def show_dataset(
    run: Run, store: Store, entries: Sequence[ListedEntry], name: str, stage: str | None, split: str | None
) -> None:
    """Print what the store knows of a dataset or an artifact, and the runs that used it.

    Args:
        run: the run of the task.
        store: the store.
        entries: all runs and sweeps, the newest first.
        name: id of a dataset or an artifact, or the name of a dataset.
        stage: restricts datasets with the name.
        split: restricts datasets with the name.

    Raises NotStoredError if there is none, and ConfigError if several datasets have the name.
    """
    items = {item.id: item for item in stored_items(store, [])}
    item = items.get(name) or items[found_dataset(store.repo, name, stage, split).id]
    users = [
        replace(entry, runs=used, num_planned=None)
        for entry in entries
        if (used := tuple(each for each in entry.runs if item.id in each.used))
    ]
    lines = list(_lines(item, list(items.values()), users, run.console.width))
    if item.dataset is not None and item.dataset.n:
        where = [redacted_override(each) for each in run.overrides if each.lstrip("+~").startswith("storage")]
        lines.append(f"to look at a pair: {shlex.join(['mtx', 'task=show', *where, f'dataset={item.id}', 'row=0'])}")
    run.console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _lines(item: StoredItem, items: Sequence[StoredItem], users: Sequence[ListedEntry], width: int) -> Iterator[str]:
    now, dataset = present_time(), item.dataset
    yield item.id
    if dataset is not None:
        yield _labelled("name", f"{dataset.name}, {'→'.join(dataset.languages)}", width)
        yield _labelled("stage", f"{dataset.stage}, split {dataset.split}", width)
        yield _labelled("pairs", f"{dataset.n or 0:,}", width)
        for key, counts in counts_by_reason(dataset.metrics).items():
            if counts:
                yield _labelled(key, ", ".join(f"{reason} {n:,}" for reason, n in counts), width)
    yield _labelled("size", f"{size_text(item.num_bytes)}, {age_text(item.written, now)} old", width)
    yield from _list("built from", item.inputs, width)
    yield from _list("needed by", [each.id for each in items if item.id in each.inputs], width)
    number = sum(len(entry.runs) for entry in users)
    yield _labelled("used by", f"{number:,} run{'s' * (number != 1)}", width)
    yield from entry_lines(users, width, now)


def _labelled(label: str, text: str, width: int) -> str:
    return f"{label:<{LABEL_WIDTH}}{fitted(text, width - LABEL_WIDTH)}"


def _list(label: str, names: Sequence[str], width: int) -> Iterator[str]:
    """Yield ids, each on a line; they are not shortened, so that they can be copied."""
    for number, name in enumerate(names[:MAX_IDS]):
        shown = safe_line(name)
        for place, part in enumerate(chop_cells(shown, max(2, width - LABEL_WIDTH))):
            yield f"{'' if number or place else label:<{LABEL_WIDTH}}{part}"
    if len(names) > MAX_IDS:
        yield _labelled("", f"and {len(names) - MAX_IDS:,} more", width)
