"""`task=show`: what the store holds."""

from rich.table import Table

from mtx.data.dataset import Split, Stage
from mtx.experiment.run import Run


def show(run: Run, *, stage: Stage | None = None, split: Split | None = None) -> None:
    """Print the datasets in the store as a table; `stage` and `split` narrow it."""
    store = run.build("storage")
    datasets = store.repo.show(stage=stage, split=split)
    if not len(datasets):
        run.console.print(f"No dataset{_such(stage, split)} in {store.root}. Build some: mtx task=prepare")
        return
    number = f"{len(datasets)} dataset{'s' * (len(datasets) != 1)}"
    run.console.print(f"{number}{_such(stage, split)} in {store.root}", highlight=False, soft_wrap=True)
    table = Table(show_lines=True)
    table.add_column("id, and what it was made from", no_wrap=True)  # whole, so that they can be copied
    table.add_column("name", overflow="fold")
    table.add_column("pairs", justify="right")
    table.add_column("size", justify="right")
    for row in datasets.to_dict("records"):
        made_from = "".join(f"\n  ← {name}" for name in row["made_from"].split(", ") if name)
        languages = f"{row['source_language']}–{row['target_language']}"
        table.add_row(row["id"] + made_from, f"{row['name']}\n{languages}", f"{row['n']:,}", size(row["bytes"]))
    run.console.print(table)


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
