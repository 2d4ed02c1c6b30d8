"""`task=export` and `task=import`: datasets as files for others, and back."""

from pathlib import Path

from mtx.data.exchange.move import MAX_RATIO, Format, export_dataset, import_datasets
from mtx.data.exchange.rows import Newlines
from mtx.errors import ConfigError, NotStoredError
from mtx.experiment.run import Run
from mtx.experiment.show import size
from mtx.infra.dal.upkeep import num_bytes_of


def export(
    run: Run,
    *,
    dataset: str | None = None,
    to: str | None = None,
    format: Format = "parquet",
    overwrite: bool = False,
    inputs: bool = False,
    newlines: Newlines = "refuse",
) -> None:
    """Write a stored dataset to a folder or an archive. Raises ConfigError, or as `export_dataset` does."""
    if not dataset or not to:
        raise ConfigError(
            "task=export needs a dataset and where to: mtx task=export dataset=ID to=FOLDER, or to=FILE.zip or "
            "FILE.tar.gz. mtx task=show lists the ids"
        )
    store, target = run.build("storage"), Path(to).expanduser().absolute()
    try:
        done = export_dataset(
            store, dataset, target, format=format, inputs=inputs, newlines=newlines, overwrite=overwrite
        )
    except NotStoredError as error:
        raise NotStoredError(f"{error}. mtx task=show lists all; choose one with dataset=ID") from error
    told = [f"{done.num_pairs:,} pairs", size(num_bytes_of(target))]
    if others := [name for name in (*done.datasets, *done.tokenizers) if name != dataset]:
        told.append(f"with {', '.join(others)}")
    run.console.print(f"exported {dataset} to {target}: {', '.join(told)}", highlight=False, soft_wrap=True)
    if done.num_dropped:
        run.console.print(f"{done.num_dropped:,} pairs were dropped: a line break in a text. {target} names them")
    if done.num_with_other_break:
        run.console.print(
            f"{done.num_with_other_break:,} pairs have characters such as U+2028, which some readers take for the end "
            "of a line: split the files at LF alone",
            highlight=False,
        )


def import_(run: Run, *, path: str | None = None, max_ratio: float = MAX_RATIO) -> None:
    """Store what an export holds; what is stored already is kept. Raises ConfigError, or as `import_datasets` does."""
    if not path:
        raise ConfigError("task=import needs a file: mtx task=import from=FOLDER, from=FILE.zip or from=FILE.tar.gz")
    if not max_ratio > 0:
        raise ConfigError(f"task.max_ratio is a number above 0, but is {max_ratio!r}. Set task.max_ratio={MAX_RATIO:g}")
    store = run.build("storage")
    done = import_datasets(store, Path(path), max_ratio=max_ratio)
    for name in done.stored:
        run.console.print(f"imported {name}", highlight=False, soft_wrap=True)
    for name in done.kept:
        run.console.print(f"{name} is stored already, and is kept", highlight=False, soft_wrap=True)
    run.console.print(f"store: {store.location}", highlight=False, soft_wrap=True)
