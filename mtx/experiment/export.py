"""`task=export`: write a stored dataset, or the model of a checkpoint, as files for other tools."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from mtx.data.exchange.dataset_card import dataset_card
from mtx.data.exchange.dataset_export import ExportSummary, Format, export_dataset
from mtx.data.exchange.export_formats import ExtraColumns, Newlines
from mtx.data.store import Store
from mtx.errors import ConfigError, NotStoredError, StoreError
from mtx.experiment.dataset_of_run import building_command, dataset_of_run
from mtx.experiment.model_export import MODEL_FORMATS, ModelFormat, export_model
from mtx.experiment.run_context import Run, needs
from mtx.infra.dal.atomic_file import atomic_file, make_folder
from mtx.infra.dal.maintenance_protocols import num_bytes_of
from mtx.infra.dal.protocols import is_name
from mtx.infra.dal.tilde_expansion import expanded_path, expanded_paths
from mtx.progress.formatting import size_text


@needs("storage")
def export(
    run: Run,
    *,
    dataset: str | None = None,
    to: str | None = None,
    ckpt: str | None = None,
    format: Literal[Format, ModelFormat] = "parquet",
    overwrite: bool = False,
    inputs: bool = False,
    newlines: Newlines = "refuse",
    columns: ExtraColumns = "refuse",
    card: bool = False,
    runs: str | Sequence[str] = ("outputs", "multirun"),
    direction: str | None = None,
) -> None:
    """Write a stored dataset to a folder or an archive, or the model of a checkpoint to a folder.

    Args:
        run: The run of this task, which provides the store and the console.
        dataset: The id of the dataset, or the folder of a run, which stands for its filtered training pairs.
        to: The target: a folder, or an archive if the name ends in `.zip`, `.tar.gz` or `.tgz`. With `card`, a name
            that ends in `.md` is the target of the card alone.
        ckpt: The checkpoint, for `format=transformers` and `format=onnx`.
        format: The file format of the export.
        overwrite: Replace an earlier export at `to`.
        inputs: Also export the stored datasets and tokenizers that the dataset was built from.
        newlines: The treatment of texts with a line break in `format=moses`.
        columns: The treatment of further columns in `format=moses`.
        card: Also write a dataset card, `README.md`: sources, licences, counts, rules, scores, and a command.
        runs: The folders in which a run that used the dataset is looked for; its command is in the card.
        direction: The direction of a checkpoint of several, such as `en-de`.

    Raises:
        ConfigError: `dataset` or `to` is missing, or an option does not fit the dataset or the format.
        NotStoredError: The store has no dataset with this id.
    """
    of_datasets = {"dataset": dataset, "card": card, "task.inputs": inputs}
    _check_combination(format, ckpt or direction, of_datasets | {"task.newlines": newlines, "task.columns": columns})
    if format == "transformers" or format == "onnx":
        export_model(run, ckpt=ckpt, to=to, overwrite=overwrite, format=format, direction=direction)
        return
    if not dataset or not to:
        raise ConfigError(
            "task=export needs a dataset and a target: mtx task=export dataset=ID to=FOLDER, or to=FILE.zip or "
            "FILE.tar.gz. mtx task=show lists the ids"
        )
    store, target = run.build("storage"), expanded_path(to).absolute()
    dataset, folders = _dataset_and_runs(store, dataset, runs)
    try:
        text = dataset_card(store, dataset, building_command(dataset, folders)) if card else None
        if text is not None and target.suffix == ".md":
            _write_card(text, target, overwrite=overwrite)
            run.console.print(f"card of {dataset}: {target}", highlight=False, soft_wrap=True)
            return
        write = partial(export_dataset, store, dataset, target, newlines=newlines, columns=columns)
        done = write(format=format, inputs=inputs, overwrite=overwrite, card=text)
    except NotStoredError as error:
        raise NotStoredError(f"{error}. mtx task=show lists all ids; choose one with dataset=ID") from error
    _print_summary(run, done, dataset, target)


def _check_combination(format: str, of_model: str | None, of_datasets: Mapping[str, object]) -> None:
    """Raise ConfigError for an option of the other kind of export, datasets or models, which would do nothing."""
    if format not in MODEL_FORMATS:
        if of_model is not None:
            raise ConfigError(
                f"ckpt and task.direction are for format=transformers and format=onnx, but format is {format}. Set "
                "format=transformers, or leave them out"
            )
    elif ignored := [name for name, value in of_datasets.items() if value not in (None, False, "refuse")]:
        raise ConfigError(
            f"format={format} writes the model of a checkpoint, so {', '.join(ignored)} would do nothing. Leave "
            "them out, or choose another format"
        )


def _dataset_and_runs(store: Store, dataset: str, runs: str | Sequence[str]) -> tuple[str, list[Path]]:
    """Return the id of a dataset, which may be given by the folder of a run, and the folders to look for its run in."""
    if (folder := expanded_path(dataset)).is_dir() and not (is_name(dataset) and store.repo.exists(dataset)):
        return dataset_of_run(folder), [folder]
    return dataset, expanded_paths(runs)


def _print_summary(run: Run, done: ExportSummary, dataset: str, target: Path) -> None:
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


def _write_card(text: str, target: Path, *, overwrite: bool) -> None:
    """Write a card to a file. Raises ConfigError if it cannot be there, or exists and must not be replaced."""
    if target.is_dir():
        raise ConfigError(f"{target} is a folder, so it cannot be the file of a card. Choose another name: to=FILE.md")
    try:
        make_folder(target.parent)
    except StoreError as error:
        raise ConfigError(f"the folder {target.parent} cannot be created. Choose another one: to=FILE.md") from error
    try:
        with atomic_file(target, replace=overwrite) as file:
            file.write(text.encode("utf-8"))
    except FileExistsError as error:
        raise ConfigError(f"{target} exists. Set overwrite=true, or choose another file with to=FILE.md") from error
