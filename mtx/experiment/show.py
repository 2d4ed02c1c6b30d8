"""`task=show`: list what the store has, by corpus, and the runs that used it; or show a dataset, or one pair of it."""

from collections.abc import Sequence
from typing import Literal

from mtx.components.bounded_numbers import Natural
from mtx.data.dataset import Split, Stage
from mtx.data.store_tree import StoredItem, stored_items, trees
from mtx.experiment.run_context import Run, needs
from mtx.experiment.show_listing import present_time, run_lines, tree_lines, use_counts, with_path
from mtx.infra.dal.maintenance_protocols import Damage
from mtx.infra.dal.tilde_expansion import expanded_paths
from mtx.progress.formatting import size_text
from mtx.records.run_list import ListedEntry, listed_entries


@needs("storage")
def show(
    run: Run,
    *,
    stage: Stage | None = None,
    split: Split | None = None,
    dataset: str | None = None,
    row: Natural | None = None,
    runs: str | Sequence[str] = ("outputs", "multirun"),
    format: Literal["table", "json"] = "table",
) -> None:
    """Print the stored datasets and artifacts as a tree by corpus, then the runs, and a line for each unreadable item.

    With `dataset`, print what is known of this dataset and which runs used it; with `row`, too, of one of its pairs.

    Args:
        run: The run of this task, which provides the store and the console.
        stage: List only the datasets of this stage. None: all stages.
        split: List only the datasets of this split. None: all splits.
        dataset: The id of a dataset or an artifact, or the name of a dataset.
        row: The number of a row of the dataset, from 0: print its raw row, texts, scores, rule and source.
        runs: The folders in which runs are looked for.
        format: The form in which the row is printed.

    Raises:
        ConfigError: There is no such row, or `row` is set without `dataset`.
        NotStoredError: There is no such dataset.
    """
    store = run.build("storage")
    if row is not None:
        from mtx.experiment.show_row import show_row  # which imports Arrow

        show_row(run, store, dataset=dataset, row=row, stage=stage, split=split, as_json=format == "json")
        return
    roots = expanded_paths(runs)
    entries = listed_entries(roots)
    if dataset is not None:
        from mtx.experiment.show_dataset import show_dataset

        show_dataset(run, store, entries, dataset, stage, split)
        return
    unreadable: list[Damage] = []
    items = stored_items(store, unreadable)
    if items or not unreadable:
        print_listing(run, store.location, items, entries, stage, split)
    if not stage and not split:
        _print(run, ["", *run_lines(entries, roots, run.console.width, present_time())])
    lines = [f"{damage.name} cannot be read: {damage.reason}" for damage in unreadable]
    if unreadable:
        lines.append(f"{len(unreadable)} cannot be read, as listed above. Check the whole store with mtx task=verify")
    _print(run, lines)


def print_listing(
    run: Run,
    location: str,
    items: Sequence[StoredItem],
    entries: Sequence[ListedEntry],
    stage: str | None = None,
    split: str | None = None,
) -> None:
    """Print the trees of the items of a store, the newest corpus first; each line is at most as wide as the console.

    Args:
        run: The run of this task.
        location: The store's folder or URL.
        items: All datasets and artifacts of the store.
        entries: The runs, whose uses are counted.
        stage: List only the datasets of this stage. None: all stages, and artifacts.
        split: List only the datasets of this split. None: all splits, and artifacts.
    """
    listed = [item for item in items if _is_selected(item, stage, split)]
    such = "".join(f" {key}={value}" for key, value in (("stage", stage), ("split", split)) if value)
    such = such and f" with{such}"
    if not listed:
        _print(run, [f"No dataset{such} in {location}. Build some: mtx task=prepare"])
        return
    roots = trees(items)
    newest = {id(root): max(node.item.written or 0.0 for node in root.walk()) for root in roots}
    roots.sort(key=lambda root: (-newest[id(root)], root.item.id))
    num_datasets = sum(item.dataset is not None for item in listed)
    kinds = ((num_datasets, "dataset"), (len(listed) - num_datasets, "artifact"))
    told = " and ".join(f"{number:,} {kind}{'s' * (number != 1)}" for number, kind in kinds if number)
    size = size_text(sum(item.num_bytes for item in listed))
    lines = with_path(f"{told}{such}, {size}, in", location, run.console.width)
    ids = {item.id for item in listed}
    _print(run, [*lines, *tree_lines(roots, ids, use_counts(entries), run.console.width, present_time())])


def _is_selected(item: StoredItem, stage: str | None, split: str | None) -> bool:
    if item.dataset is None:
        return stage is None and split is None
    return stage in (None, item.dataset.stage) and split in (None, item.dataset.split)


def _print(run: Run, lines: Sequence[str]) -> None:
    if lines:
        run.console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)
