"""`task=show`: what the store holds."""

from rich.table import Table

from mtx.data.dataset import Split, Stage
from mtx.experiment.run import Run

WIDE = 120  # columns of a terminal in which ids of inputs have room


def show(run: Run, *, stage: Stage | None = None, split: Split | None = None) -> None:
    """Print the datasets in the store as a table; `stage` and `split` narrow it."""
    store = run.build("storage")
    datasets = store.repo.show(stage=stage, split=split)
    if not len(datasets):
        run.console.print(f"No dataset{_such(stage, split)} in {store.root}. Build some: mtx task=prepare")
        return
    number = f"{len(datasets)} dataset{'s' * (len(datasets) != 1)}"
    run.console.print(f"{number}{_such(stage, split)} in {store.root}", highlight=False, soft_wrap=True)
    table = Table()
    table.add_column("id", no_wrap=True)  # whole, so that it can be copied
    wide = run.console.width >= WIDE
    for column in ("name", "pairs", "size", "made from")[: 4 if wide else 3]:
        table.add_column(column, justify="right" if column in ("pairs", "size") else "left", overflow="fold")
    for row in datasets.to_dict("records"):
        name = f"{row['name']} {row['source_language']}–{row['target_language']}"
        cells = [row["id"], name, f"{row['n']:,}", size(row["bytes"]), row["made_from"]]
        table.add_row(*cells[: 5 if wide else 4])
    run.console.print(table)
    if not wide:
        run.console.print(f"(in a terminal of {WIDE} columns it also says what each was made from)")


def size(num_bytes: float) -> str:
    """Write a number of bytes for people: `3.4 MB`, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} TB"


def _such(stage: str | None, split: str | None) -> str:
    told = [f"{key}={value}" for key, value in (("stage", stage), ("split", split)) if value]
    return f" with {' '.join(told)}" if told else ""
