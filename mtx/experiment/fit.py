"""`task=fit`: train a model on the data, by Lightning's Trainer.

Any LightningModule goes; one that logs `val/bits_per_byte` gets its best checkpoint kept and its figures compared.
"""

import logging
import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]  # not listed
from pytorch_lightning.utilities.model_helpers import is_overridden
from rich.table import Table

from mtx.errors import ConfigError
from mtx.experiment.measure import data_report, plan_report
from mtx.experiment.progress import StepBar
from mtx.experiment.run import Run
from mtx.identity import digest
from mtx.infra.dal.base import atomic_file
from mtx.training.checkpoint import KeepLastAndBest
from mtx.training.record import Progress, TrainingRecord

METRIC = "val/bits_per_byte"
SAME_WHEN_RESUMED = ("downloader", "filter", "tokenizer", "sampler", "datamodule", "model", "seed")
RUN_KEY_FILE = "run_key.txt"  # beside the checkpoints: which runs may go on from them

# What Lightning says and a user of this task can do nothing about.
NOT_FOR_USERS = (
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning's own use of torch
    r".*smaller than the logging interval",  # a small corpus; the losses are in the record anyway
    r".*does not have many workers",  # here batches are built faster than they are used, without workers
    r".*across ranks is zero",  # no held-out text, by config
    r".*have no `validation_step`",  # the summary says that nothing is logged
    r".*exists and is not empty",  # output folders have the config and the log in them
    r".*You're resuming from a checkpoint that ended before the epoch ended",  # mtx's loader goes on from there
)


def fit(run: Run, *, ckpt: str | None = None) -> float | None:
    """Train, print how it went, and write `report.json`.

    Args:
        run: the config and what is made from it.
        ckpt: checkpoint to go on from: a path, or `last` for the newest of an earlier run of the same data and model.

    Returns:
        Held-out bits per byte at the end, which a sweep can minimise; None where the model does not log them.

    Raises:
        ConfigError: the Trainer, the model and the data do not go together, or `ckpt` does not fit them.
    """
    with quiet_lightning():
        pl.seed_everything(run.seed, workers=True, verbose=False)
        path = checkpoint_path(run, ckpt)
        record = TrainingRecord(run.output_dir / "training.json")
        try:
            trainer = build_trainer(run, record)
            run.datamodule.prepare_data()
            run.datamodule.setup("fit")
            model = run.build("model", **run.datamodule.facts())
            if path is not None:
                check_fits(path, model)
            progress = train(run, trainer, model, record, path)
        except MisconfigurationException as error:
            raise ConfigError(f"Lightning cannot train with this trainer and model: {error}") from error
    if not trainer.is_global_zero:
        return progress.held_out(METRIC)[1]
    report = {**data_report(run), **plan_report(run, 0), **fit_report(run, trainer, progress)}
    run.console.print(summary(report))
    run.console.print(how_to_go_on(report), highlight=False, soft_wrap=True)
    run.console.print(f"report: {run.write_report(report)}", highlight=False, soft_wrap=True)
    return progress.held_out(METRIC)[1]


def build_trainer(run: Run, record: TrainingRecord) -> pl.Trainer:
    """Make the Trainer, with what it needs to keep checkpoints and to show itself, unless the config says otherwise."""
    options = run.config["trainer"]
    callbacks: list[pl.Callback] = [record]
    if options.get("callbacks") is None:
        if options.get("enable_progress_bar") is not False:
            callbacks.append(StepBar(run.console))
        if options.get("enable_checkpointing") is not False:
            callbacks.append(KeepLastAndBest(run.output_dir / "checkpoints", metric=METRIC))
    logger = run.build("logger", save_dir=str(run.output_dir))
    trainer = run.build("trainer", logger=logger, callbacks=callbacks, default_root_dir=str(run.output_dir))
    assert isinstance(trainer, pl.Trainer)
    installed: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    if record not in installed:  # the config has callbacks of its own
        installed.insert(0, record)
    return trainer


def train(
    run: Run, trainer: pl.Trainer, model: pl.LightningModule, record: TrainingRecord, ckpt: Path | None
) -> Progress:
    """Look at held-out text, train, look again if the last look was not at the end, and return the record."""
    if trainer.is_global_zero:
        run.console.print(opening(run, trainer, model, ckpt), highlight=False, soft_wrap=True)
        write_run_key(run)
        record.path.unlink(missing_ok=True)  # of an earlier run in this folder
    if ckpt is None and (found := held_out(run, trainer, model)):
        record.progress().add_validation(0, found)
    try:
        trainer.fit(model, datamodule=run.datamodule, ckpt_path=ckpt)
    except SystemExit as error:  # how Lightning ends after Ctrl-C
        if trainer.is_global_zero:
            kept = getattr(trainer.checkpoint_callback, "last_model_path", "")
            how = "ckpt=last goes on from the last look" if kept else "no look yet, so no checkpoint to go on from"
            run.console.print(f"training stopped after step {trainer.global_step}; {how}", highlight=False)
        raise KeyboardInterrupt from error
    progress = record.read()
    if progress.validations and progress.validations[-1]["step"] != progress.num_steps:
        progress.add_validation(progress.num_steps, held_out(run, trainer, model))
    return progress


def held_out(run: Run, trainer: pl.Trainer, model: pl.LightningModule) -> dict[str, float]:
    """Return what the model logs about all held-out text; empty where there is none, or where it does not look."""
    if not is_overridden("validation_step", model):
        return {}
    found = trainer.validate(model, datamodule=run.datamodule, verbose=False)
    return {name: float(value) for metrics in found for name, value in metrics.items()}


def fit_report(run: Run, trainer: pl.Trainer, progress: Progress) -> dict[str, Any]:
    """Report the training: how long, how well, and where its checkpoints are."""
    first, last = progress.held_out(METRIC)
    keeper = trainer.checkpoint_callback
    last_path = run.output_dir / "checkpoints" / "last.ckpt"  # a Trainer that starts processes does not bring it back
    return {
        "num_steps": progress.num_steps,
        "num_epochs": progress.num_epochs,
        "fit_s": progress.train_s,
        "num_target_tokens": progress.num_target_tokens,
        "target_tokens_per_s": progress.target_tokens_per_s,
        "train_loss_first": progress.train_loss_first,
        "train_loss": progress.train_loss,
        "bits_per_byte_first": first,
        "bits_per_byte": last,
        "validations": progress.validations,
        "checkpoint": getattr(keeper, "last_model_path", "") or (str(last_path) if last_path.exists() else None),
        "best_checkpoint": getattr(keeper, "best_model_path", "") or None,
    }


def opening(run: Run, trainer: pl.Trainer, model: pl.LightningModule, ckpt: Path | None) -> str:
    """Say in a line what is about to be trained, and where."""
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    counts = run.datamodule.split_counts("train")
    start = f"\ngoing on from {ckpt}" if ckpt else ""
    devices = trainer.strategy.root_device.type + (f" x {trainer.world_size}" if trainer.world_size > 1 else "")
    return (
        f"training {type(model).__name__}, {num_parameters:,} parameters, on {counts['num_pairs']:,} pairs ({devices})"
        f"{start}"
    )


def summary(report: Mapping[str, Any]) -> Table:
    """Show how the training went."""
    table = Table(title="training", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("value", justify="right")
    table.add_row("steps", f"{report['num_steps']:,}")
    table.add_row("  in epochs", f"{report['num_epochs']:,}")
    table.add_row("seconds in steps", f"{report['fit_s']:,.1f}")
    table.add_row("real target tokens/s", _number(report["target_tokens_per_s"], ",.0f", "the batches have no mask"))
    first, last = (_number(report[name], ".3f", "not returned") for name in ("train_loss_first", "train_loss"))
    table.add_row("training loss, first and last 20 batches", f"{first} → {last}")
    first, last = (_number(report[name], ".3f", "not logged") for name in ("bits_per_byte_first", "bits_per_byte"))
    table.add_row("held-out bits per byte, before and after", f"{first} → {last}")
    return table


def how_to_go_on(report: Mapping[str, Any]) -> str:
    """Say where the checkpoints are, and how to go on from the last."""
    if report["checkpoint"] is None:
        return "no checkpoint was kept"
    best = f"best: {report['best_checkpoint']}\n" if report["best_checkpoint"] else ""
    return (
        f"{best}last: {report['checkpoint']}\n"
        f"To go on, repeat the command with ckpt=last, and with trainer.max_steps above {report['num_steps']}."
    )


def checkpoint_path(run: Run, ckpt: str | None) -> Path | None:
    """Return the file that `ckpt` means. Raises ConfigError where it names a file that is not there."""
    if ckpt is None:
        return None
    if ckpt != "last":
        path = Path(ckpt).expanduser()
        if not path.is_file():
            raise ConfigError(
                f"ckpt is a checkpoint file, `last`, or null, but there is no file {path}. "
                "Runs keep theirs in OUTPUT_FOLDER/checkpoints/last.ckpt"
            )
        return path
    found = [path for path in _earlier(run) if (path.parent / RUN_KEY_FILE).read_text() == run_key(run)]
    if not found:
        _tell_of_no_last(run)
        return None
    return max(found, key=lambda path: path.stat().st_mtime)


def run_key(run: Run) -> str:
    """Return a hash of what has to be the same when a run goes on; steps, device and logger may change."""
    return digest({name: run.config.get(name) for name in SAME_WHEN_RESUMED})


def write_run_key(run: Run) -> None:
    """Write the run's key to where its checkpoints will be."""
    folder = run.output_dir / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / RUN_KEY_FILE) as file:
        file.write(run_key(run).encode())


def check_fits(path: Path, model: pl.LightningModule) -> None:
    """Raise ConfigError where a checkpoint cannot be read, or where its weights have other shapes than the model's."""
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
    except pickle.UnpicklingError:
        return  # holds objects of the module's own; Lightning will say what it needs
    except (RuntimeError, KeyError, EOFError, OSError, ValueError) as error:
        raise ConfigError(f"ckpt={path} is no checkpoint that can be read: {error}") from error
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    other = [
        f"{name} is {tuple(weights[name].shape)} there and {shape} here"
        for name, shape in shapes.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    if other:
        raise ConfigError(
            f"ckpt={path} is of another model or another vocabulary: {'; '.join(other[:3])}. "
            "Use the tokenizer and model settings of the run that wrote it, or ckpt=null to start from the beginning"
        )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Leave out Lightning's tips, device lists, and warnings that a user of this task can do nothing about."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in NOT_FOR_USERS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _earlier(run: Run) -> Iterator[Path]:
    """Find the last checkpoints of this run's folder and of those beside it: outputs/DATE/TIME, multirun/TIME/JOB."""
    folders = [run.output_dir, *run.output_dir.parent.parent.glob("*/*")]
    for folder in folders:
        path = folder / "checkpoints" / "last.ckpt"
        if path.is_file() and (path.parent / RUN_KEY_FILE).is_file():
            yield path


@rank_zero_only
def _tell_of_no_last(run: Run) -> None:
    """Say that training starts anew: no error, as a job that is always started with ckpt=last has none at first."""
    run.console.print(
        f"ckpt=last: no earlier run of this data and model has left a checkpoint in {run.output_dir.parent.parent}; "
        "training starts from the beginning",
        soft_wrap=True,
    )


def _number(value: float | None, form: str, instead: str) -> str:
    return instead if value is None else format(value, form)
