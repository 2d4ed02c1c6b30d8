"""`task=show`: what the store holds."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from mtx.data.dataset import Split, Stage
from mtx.data.store import Store
from mtx.errors import DamagedError, NewerFormatError, NotStoredError
from mtx.experiment.run import Run
from mtx.infra.dal.upkeep import Damage

if TYPE_CHECKING:
    import pandas as pd


def show(run: Run, *, stage: Stage | None = None, split: Split | None = None) -> None:
    """Print what the store holds as a table, with the total; `stage` and `split` narrow it to such datasets.

    What cannot be read is named below the table.
    """
    store = run.build("storage")
    unreadable: list[Damage] = []
    datasets = store.repo.show(stage=stage, split=split, unreadable=unreadable)
    bundles = list(_bundles(store, unreadable)) if stage is None and split is None else []
    if len(datasets) or bundles:
        _print_table(run, store.location, datasets, bundles, _such(stage, split))
    elif not unreadable:
        nothing = f"No dataset{_such(stage, split)} in {store.location}. Build some: mtx task=prepare"
        run.console.print(nothing, highlight=False, soft_wrap=True, markup=False)
    for damage in unreadable:
        told = f"{damage.name} cannot be read: {damage.reason}"
        run.console.print(told, highlight=False, soft_wrap=True, markup=False)
    if unreadable:
        told = f"{len(unreadable)} cannot be read, as told above. See what is damaged with mtx task=verify"
        run.console.print(told, highlight=False, soft_wrap=True, markup=False)


def _print_table(
    run: Run, location: str, datasets: "pd.DataFrame", bundles: Sequence[tuple[str, str, list[str], int]], such: str
) -> None:
    number = f"{len(datasets)} dataset{'s' * (len(datasets) != 1)}"
    run.console.print(f"{number}{such} in {location}", highlight=False, soft_wrap=True, markup=False)
    table = Table(show_lines=True)
    table.add_column("id, and what it was made from", no_wrap=True)  # whole, so that they can be copied
    table.add_column("name", overflow="fold")
    table.add_column("pairs", justify="right")
    table.add_column("size", justify="right")
    for row in datasets.to_dict("records"):
        languages = f"{row['source_language']}–{row['target_language']}"
        made_from = row["made_from"].split(", ")
        table.add_row(
            _with_inputs(row["id"], made_from), Text(f"{row['name']}\n{languages}"), f"{row['n']:,}", size(row["bytes"])
        )
    for kind, name, made_from, num_bytes in bundles:
        table.add_row(_with_inputs(name, made_from), kind, "", size(num_bytes))
    run.console.print(table)
    total = sum(datasets["bytes"].dropna()) + sum(num_bytes for *_, num_bytes in bundles)
    run.console.print(f"{size(total)} in all", highlight=False)


def size(num_bytes: float) -> str:
    """Write a number of bytes for people: `3.4 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _bundles(store: Store, unreadable: list[Damage]) -> Iterator[tuple[str, str, list[str], int]]:
    """Iterate over tokenizers and words: their kind, id, what they were made from, and bytes.

    Those that cannot be read are put into `unreadable`.
    """
    for kind, layer in (("tokenizer", store.tokenizers), ("words", store.words)):
        for name in layer.get_all_names():
            try:
                described = layer.manifest(name).described
                num_bytes = layer.num_bytes(name)
            except NotStoredError:  # removed meanwhile
                continue
            except (DamagedError, NewerFormatError) as error:
                unreadable.append(Damage(name, str(error)))
                continue
            yield kind, name, [str(described[key]) for key in ("filtered", "tokenizer") if key in described], num_bytes


def _with_inputs(name: str, made_from: Iterable[str]) -> Text:
    return Text(name + "".join(f"\n  ← {each}" for each in made_from if each))


def _such(stage: str | None, split: str | None) -> str:
    told = [f"{key}={value}" for key, value in (("stage", stage), ("split", split)) if value]
    return f" with {' '.join(told)}" if told else ""
