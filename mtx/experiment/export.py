"""`task=export`: write a stored dataset, or the model of a checkpoint, as files for other tools."""

from pathlib import Path
from typing import Literal

from mtx.data.exchange.dataset_export import ExportSummary, Format, export_dataset
from mtx.data.exchange.export_formats import ExtraColumns, Newlines
from mtx.errors import ConfigError, NotStoredError
from mtx.experiment.model_export import export_model
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.maintenance_protocols import num_bytes_of
from mtx.infra.dal.tilde_expansion import expanded_path
from mtx.progress.formatting import size_text


@needs("storage")
def export(
    run: Run,
    *,
    dataset: str | None = None,
    to: str | None = None,
    ckpt: str | None = None,
    format: Format | Literal["transformers"] = "parquet",
    overwrite: bool = False,
    inputs: bool = False,
    newlines: Newlines = "refuse",
    columns: ExtraColumns = "refuse",
) -> None:
    """Write a stored dataset to a folder or an archive, or the model of a checkpoint to a folder.

    Args:
        run: The run of this task, which provides the store and the console.
        dataset: The id of the dataset.
        to: The target: a folder, or an archive if the name ends in `.zip`, `.tar.gz` or `.tgz`.
        ckpt: The checkpoint, for `format=transformers`.
        format: The file format of the export.
        overwrite: Replace an earlier export at `to`.
        inputs: Also export the stored datasets and tokenizers that the dataset was built from.
        newlines: The treatment of texts with a line break in `format=moses`.
        columns: The treatment of further columns in `format=moses`.

    Raises:
        ConfigError: `dataset` or `to` is missing, or an option does not fit the dataset.
        NotStoredError: The store has no dataset with this id.
    """
    if format == "transformers":
        export_model(run, ckpt=ckpt, to=to, overwrite=overwrite)
        return
    if not dataset or not to:
        raise ConfigError(
            "task=export needs a dataset and a target: mtx task=export dataset=ID to=FOLDER, or to=FILE.zip or "
            "FILE.tar.gz. mtx task=show lists the ids"
        )
    store, target = run.build("storage"), expanded_path(to).absolute()
    try:
        done = export_dataset(
            store,
            dataset,
            target,
            format=format,
            inputs=inputs,
            newlines=newlines,
            columns=columns,
            overwrite=overwrite,
        )
    except NotStoredError as error:
        raise NotStoredError(f"{error}. mtx task=show lists all ids; choose one with dataset=ID") from error
    _print_summary(run, dataset, target, done)


def _print_summary(run: Run, dataset: str, target: Path, done: ExportSummary) -> None:
    told = [f"{done.num_pairs:,} pairs", size_text(num_bytes_of(target))]
    if others := [name for name in (*done.datasets, *done.tokenizers) if name != dataset]:
        told.append(f"with {', '.join(others)}")
    run.console.print(f"exported {dataset} to {target}: {', '.join(told)}", highlight=False, soft_wrap=True)
    if done.num_dropped:
        run.console.print(
            f"{done.num_dropped:,} pairs were dropped because a text has a line break. {target} lists their numbers"
        )
    if done.num_with_other_break:
        run.console.print(
            f"{done.num_with_other_break:,} pairs contain characters such as U+2028, which some readers treat as the "
            "end of a line. Split the files at LF only",
            highlight=False,
        )
