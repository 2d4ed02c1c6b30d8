"""`task=show`: list the datasets, tokenizers and word indexes in the store, or show one pair of a dataset."""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.table import Table
from rich.text import Text

from mtx.components.bounded_numbers import Natural
from mtx.components.identity import ID_DIGITS
from mtx.data.dataset import Split, Stage, TranslationDataset
from mtx.data.garbage_collection import artifact_inputs
from mtx.data.repo import input_ids
from mtx.data.store import Store
from mtx.errors import DamagedError, NewerFormatError, NotStoredError
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.maintenance_protocols import Damage
from mtx.progress.formatting import size_text

LONG_DIGEST = re.compile(f"[0-9a-fA-F]{{{ID_DIGITS + 1},}}")
WIDEST_ID = 40  # columns of a terminal; ids of mtx have at most 36
WIDEST_SIZE = 8  # columns of `999.9 MB`
BORDERS = 13  # columns of the table that are lines and spaces
WIDEST_INPUT = WIDEST_ID - 4  # behind the arrow
MIN_NAME = 6  # columns of a terminal, so that the name of a dataset is readable
KINDS = {"tokenizers": "tokenizer", "words": "words", "models": "model of a scorer"}


@needs("storage")
def show(
    run: Run,
    *,
    stage: Stage | None = None,
    split: Split | None = None,
    dataset: str | None = None,
    row: Natural | None = None,
    format: Literal["table", "json"] = "table",
) -> None:
    """Print a table of the stored datasets and artifacts with their sizes, and a line for each unreadable one.

    With `dataset` and `row`, print what is known of one pair instead.

    Args:
        run: The run of this task, which provides the store and the console.
        stage: List only the datasets of this stage. None: all stages.
        split: List only the datasets of this split. None: all splits.
        dataset: The id of a dataset, or its name. Set it together with `row`.
        row: The number of a row of the dataset, from 0: print its raw row, texts, scores, rule and source.
        format: The form in which the row is printed.

    Raises:
        ConfigError: There is no such row, or only one of `dataset` and `row` is set.
        NotStoredError: There is no such dataset.
    """
    store = run.build("storage")
    if dataset is not None or row is not None:
        from mtx.experiment.show_row import show_row  # which imports Arrow

        show_row(run, store, dataset=dataset, row=row, stage=stage, split=split, as_json=format == "json")
        return
    unreadable: list[Damage] = []
    datasets = list(store.repo.manifests(stage, split, unreadable=unreadable))
    artifacts = list(_artifact_rows(store, unreadable)) if stage is None and split is None else []
    if len(datasets) or artifacts:
        print_table(run, store.location, datasets, artifacts, _selection_text(stage, split))
    elif not unreadable:
        nothing = f"No dataset{_selection_text(stage, split)} in {store.location}. Build some: mtx task=prepare"
        run.console.print(nothing, highlight=False, soft_wrap=True, markup=False)
    for damage in unreadable:
        told = f"{damage.name} cannot be read: {damage.reason}"
        run.console.print(told, highlight=False, soft_wrap=True, markup=False)
    if unreadable:
        told = f"{len(unreadable)} cannot be read, as listed above. Check the whole store with mtx task=verify"
        run.console.print(told, highlight=False, soft_wrap=True, markup=False)


def print_table(
    run: Run,
    location: str,
    datasets: Sequence[TranslationDataset],
    artifacts: Sequence[tuple[str, str, list[str], int]],
    such: str,
) -> None:
    """Print the table of datasets and artifacts (kind, id, ids of inputs, bytes), at most as wide as the console.

    Args:
        run: The run of this task.
        location: The store's folder or URL.
        datasets: The datasets to list.
        artifacts: The artifacts to list.
        such: What was selected, such as ` with stage=raw`; empty: everything.
    """
    number = f"{len(datasets)} dataset{'s' * (len(datasets) != 1)}"
    run.console.print(f"{number}{such} in {location}", highlight=False, soft_wrap=True, markup=False)
    table = Table(show_lines=True)
    names = [*(dataset.id for dataset in datasets), *(name for _, name, *_ in artifacts)]
    widest = min(WIDEST_ID, max(map(cell_len, names)) + 2)  # ids of mtx are not wrapped: they can be copied
    pairs = max([len("pairs"), *(len(f"{dataset.n:,}") for dataset in datasets)])
    room = max(MIN_NAME, run.console.width - widest - pairs - WIDEST_SIZE - BORDERS)
    table.add_column("id ← inputs", overflow="fold", min_width=widest, max_width=WIDEST_ID)
    table.add_column("name", overflow="fold", max_width=room)
    table.add_column("pairs", justify="right", min_width=pairs)
    table.add_column("size", justify="right", min_width=WIDEST_SIZE)
    for dataset in datasets:
        languages = "–".join(dataset.languages)
        num_bytes = dataset.payload.num_bytes if dataset.payload else 0
        table.add_row(
            _name_with_inputs(dataset.id, input_ids(dataset)),
            Text(f"{dataset.name}\n{languages}"),
            f"{dataset.n:,}",
            size_text(num_bytes),
        )
    for kind, name, inputs, num_bytes in artifacts:
        table.add_row(_name_with_inputs(name, inputs), kind, "", size_text(num_bytes))
    run.console.print(table)
    total = sum(dataset.payload.num_bytes for dataset in datasets if dataset.payload)
    total += sum(num_bytes for *_, num_bytes in artifacts)
    run.console.print(f"total: {size_text(total)}", highlight=False)


def _artifact_rows(store: Store, unreadable: list[Damage]) -> Iterator[tuple[str, str, list[str], int]]:
    """Yield kind, id, ids of inputs, and bytes of each stored artifact.

    Artifacts that cannot be read are added to `unreadable` instead.
    """
    for folder, layer in store.artifacts.items():
        for name in layer.get_all_names():
            try:
                described = layer.manifest(name).described
                num_bytes = layer.num_bytes(name)
            except NotStoredError:  # another process removed the artifact after it was listed
                continue
            except (DamagedError, NewerFormatError) as error:
                unreadable.append(Damage(name, str(error)))
                continue
            yield KINDS[folder], name, artifact_inputs(described), num_bytes


def _name_with_inputs(name: str, made_from: Iterable[str]) -> Text:
    return Text(name + "".join(f"\n  ← {short_revision(each)}" for each in made_from if each))


def short_revision(text: str) -> str:
    """Return an id unchanged, but with each digest in it cut to 16 hex digits, and at most `WIDEST_INPUT` columns wide.

    A long revision of a source would take the width of the other columns of the table.
    """
    short = LONG_DIGEST.sub(lambda found: found[0][:ID_DIGITS], text)
    if cell_len(short) <= WIDEST_INPUT:
        return short
    return f"{set_cell_size(short[:WIDEST_INPUT], WIDEST_INPUT - 1).rstrip()}…"


def _selection_text(stage: str | None, split: str | None) -> str:
    told = [f"{key}={value}" for key, value in (("stage", stage), ("split", split)) if value]
    return f" with {' '.join(told)}" if told else ""
