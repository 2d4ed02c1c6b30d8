"""`task=fit`: train a model on the data, by Lightning's Trainer.

Any LightningModule goes; one that logs `val/bits_per_byte` gets its best checkpoint kept and its figures compared.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]  # not listed
from pytorch_lightning.utilities.model_helpers import is_overridden
from rich.table import Table

from mtx.callbacks import DataCosts, ExactResume, TrainingBudget
from mtx.errors import ConfigError
from mtx.experiment.checkpoints import check_fits, checkpoint_path, write_run_key
from mtx.experiment.measure import of_data
from mtx.experiment.profile import fit_profile, write_profile
from mtx.experiment.progress import StepBar
from mtx.experiment.run import Run
from mtx.experiment.translations import translated
from mtx.training.checkpoint import KeepLastAndBest
from mtx.training.record import Progress, TrainingRecord

METRIC = "val/bits_per_byte"

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


def fit(
    run: Run,
    *,
    ckpt: str | None = None,
    translations: int = 3,
    scored_sentences: int = 100,
    beam: int = 1,
    trust_ckpt: bool = False,
) -> float | None:
    """Train, print how it went and what the model says, and write `report.json` and `profile.json`.

    Args:
        run: the config and what is made from it.
        ckpt: checkpoint to go on from: a path, or `last` for the newest of an earlier run of the same data and model.
        translations: how many translations of held-out sentences are shown.
        scored_sentences: how many are compared with their references by BLEU and chrF.
        beam: hypotheses that are kept of each sentence; 1: greedy search.
        trust_ckpt: read a checkpoint that holds Python objects, which runs code of its choice.

    Returns:
        Held-out bits per byte at the end, which a sweep can minimise; None where the model does not log them.

    Raises:
        ConfigError: the Trainer, the model and the data do not go together, or `ckpt` does not fit them.
    """
    if beam < 1 or translations < 0 or scored_sentences < 0:
        raise ConfigError(
            "task.translations and task.scored_sentences are at least 0 and task.beam at least 1, but are "
            f"{translations}, {scored_sentences} and {beam}"
        )
    with quiet_lightning():
        pl.seed_everything(run.seed, workers=True, verbose=False)
        path = checkpoint_path(run, ckpt)
        record = TrainingRecord(run.output_dir / "training.json")
        try:
            budget = run.build("budget")
            trainer = build_trainer(run, record, budget)
            run.datamodule.prepare_data()
            run.datamodule.setup("fit")
            model = run.build("model", **run.datamodule.facts())
            if path is not None:
                check_fits(path, model, trusted=trust_ckpt)
            progress = train(run, trainer, model, record, path, trust_ckpt=trust_ckpt)
        except MisconfigurationException as error:
            raise ConfigError(f"Lightning cannot train with this trainer and model: {error}") from error
    if not trainer.is_global_zero:
        return progress.held_out(METRIC)[1]
    data, profile = of_data(run)
    report = {**data, **fit_report(run, trainer, progress)}
    run.write_report(report)  # whatever comes of translating
    write_profile(run.output_dir, {**profile, **fit_profile(progress)})
    report.update(
        translated(run, model, trainer.strategy.root_device, shown=translations, scored=scored_sentences, beam=beam)
    )
    run.console.print(summary(report))
    run.console.print(how_to_go_on(run, report), highlight=False, soft_wrap=True)
    run.console.print(f"report: {run.write_report(report)}", highlight=False, soft_wrap=True)
    return progress.held_out(METRIC)[1]


def build_trainer(run: Run, record: TrainingRecord, budget: TrainingBudget) -> pl.Trainer:
    """Make the Trainer, with what it needs to keep checkpoints and to show itself, unless the config says otherwise."""
    options = run.config["trainer"]
    always: list[pl.Callback] = [record, budget, ExactResume()]
    callbacks = list(always)
    if options.get("callbacks") is None:
        callbacks.append(DataCosts())
        if options.get("enable_progress_bar") is not False:
            callbacks.append(StepBar(run.console))
        if options.get("enable_checkpointing") is not False:
            callbacks.append(KeepLastAndBest(run.output_dir / "checkpoints", metric=METRIC))
    logger = run.build("logger", save_dir=str(run.output_dir))
    trainer = run.build("trainer", logger=logger, callbacks=callbacks, default_root_dir=str(run.output_dir))
    assert isinstance(trainer, pl.Trainer)
    if run.in_sweep:
        check_sweep(trainer)
    installed: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
    if record not in installed:  # the config has callbacks of its own
        kinds = {type(callback) for callback in installed}
        installed[:0] = [callback for callback in always if type(callback) not in kinds]
    return trainer


def check_sweep(trainer: pl.Trainer) -> None:
    """Raise ConfigError where ranks are started by the command of this process: each would run the sweep again."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise ConfigError(
            f"trainer.strategy={type(trainer.strategy).__name__} starts each further process by repeating the "
            "command, which in a sweep (-m) would run the whole sweep again. Set trainer.strategy=ddp_fork, or "
            "trainer.strategy=ddp_spawn where ddp_fork is refused; or start the jobs one by one, without -m"
        )


def train(
    run: Run,
    trainer: pl.Trainer,
    model: pl.LightningModule,
    record: TrainingRecord,
    ckpt: Path | None,
    *,
    trust_ckpt: bool = False,
) -> Progress:
    """Look at held-out text, train, look again if the last look was not at the end, and return the record."""
    if trainer.is_global_zero:
        run.console.print(opening(run, trainer, model, ckpt), highlight=False, soft_wrap=True)
        write_run_key(run)
        record.path.unlink(missing_ok=True)  # of an earlier run in this folder
    if ckpt is None and (found := held_out(run, trainer, model)):
        record.progress().add_validation(0, found)
    try:
        trainer.fit(model, datamodule=run.datamodule, ckpt_path=ckpt, weights_only=not trust_ckpt)
    except SystemExit as error:  # how Lightning ends after Ctrl-C
        if trainer.is_global_zero:
            kept = getattr(trainer.checkpoint_callback, "last_model_path", "")
            how = (
                f"to go on from the last look: {run.command(ckpt='last')}"
                if kept
                else "no look yet, so no checkpoint to go on from"
            )
            told = f"training stopped after step {trainer.global_step}; {how}"
            run.console.print(told, highlight=False, soft_wrap=True)
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
        "spent": progress.spent,
        "ended_by": progress.ended_by,
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
    for name, unit in (("real tokens, both sides", "real_tokens"), ("bytes of source text", "source_bytes")):
        if report["spent"].get(unit) is not None:
            table.add_row(name, f"{report['spent'][unit]:,}")
    table.add_row("ended by", report["ended_by"] or "no step was taken")
    table.add_row("real target tokens/s", _number(report["target_tokens_per_s"], ",.0f", "the batches have no mask"))
    first, last = (_number(report[name], ".3f", "not returned") for name in ("train_loss_first", "train_loss"))
    table.add_row("training loss, first and last 20 batches", f"{first} → {last}")
    first, last = (_number(report[name], ".3f", "not logged") for name in ("bits_per_byte_first", "bits_per_byte"))
    table.add_row("held-out bits per byte, before and after", f"{first} → {last}")
    if scores := report.get("scores"):
        table.add_row(
            f"BLEU, chrF of {scores['num_sentences']} sentences", f"{scores['bleu']:.2f}, {scores['chrf']:.2f}"
        )
    return table


def how_to_go_on(run: Run, report: Mapping[str, Any]) -> str:
    """Say where the checkpoints are, and how to go on from the last."""
    if report["checkpoint"] is None:
        return "no checkpoint was kept"
    best = f"best: {report['best_checkpoint']}\n" if report["best_checkpoint"] else ""
    spent = [key for key in (report["ended_by"] or "").split(", ") if key.startswith("budget.")]
    if spent:  # each counts what the runs before spent, too
        limits = dict(key.split("=") for key in spent)
        more = {key.replace(".", "__"): f"{2 * float(limit):.12g}" for key, limit in limits.items()}
        above = " and ".join(key.replace("=", " above ") for key in spent)
    else:
        more = {"trainer__max_steps": str(2 * max(report["num_steps"], 1))}
        above = f"trainer.max_steps above {report['num_steps']}"
    return (
        f"{best}last: {report['checkpoint']}\n"
        f"To go on, repeat the command with ckpt=last, and with {above}:\n"
        f"  {run.command(ckpt='last', **more)}"
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


def _number(value: float | None, form: str, instead: str) -> str:
    return instead if value is None else format(value, form)
