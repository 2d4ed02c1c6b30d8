"""`task=fit`: train a model with Lightning's Trainer on mtx's batches, and write its report.

Any LightningModule can be trained. If it logs `val/bits_per_byte`, mtx also keeps its best checkpoint and reports
held-out bits per byte. The summary names the figures that a model does not give.
"""

import logging
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException  # type: ignore[attr-defined]  # not listed
from pytorch_lightning.utilities.model_helpers import is_overridden

from mtx.assumption_log import assume
from mtx.components.check_and_build import build
from mtx.components.checked_options import Count, Natural, checked
from mtx.errors import ConfigError
from mtx.experiment.fit_opening_and_summary import (
    METRIC,
    begin_values,
    closing,
    model_report,
    model_text,
    opening,
    resume_command,
    show,
)
from mtx.experiment.held_out_slicings import slicings_or_none
from mtx.experiment.measure import data_report_and_profile
from mtx.experiment.missing_figures import missing_figures
from mtx.experiment.model_check import check_model
from mtx.experiment.named_set_scores import score_named_sets
from mtx.experiment.run_context import Run
from mtx.experiment.run_log import begun_log, run_loggers
from mtx.experiment.trained_model_report import complete_statistics, evaluated
from mtx.library_errors import lightning_reason
from mtx.progress.progress_log import say
from mtx.records.held_out_sentences import HELD_OUT_FILE, write_likelihoods
from mtx.records.plot_data_computation import fit_profile
from mtx.records.plot_data_record import RunProfile
from mtx.records.report_record import Report, Spent, TrainingReport, Validation
from mtx.training.atomic_checkpoint_io import write_atomically
from mtx.training.callback_options import build_callbacks
from mtx.training.callbacks import DataCosts, ExactResume, TrainingBudget
from mtx.training.callbacks.curve_validations import NEVER, CurveValidations
from mtx.training.callbacks.held_out_likelihoods import HeldOutLikelihoods
from mtx.training.callbacks.progress_bar import StepBar
from mtx.training.checkpoint_callback import LastAndBestCheckpoint
from mtx.training.checkpoint_redaction import redact_checkpoints, redact_for_loggers
from mtx.training.checkpoint_selection import check_shapes, checkpoint_path, weight_shapes, write_run_key
from mtx.training.datamodule import TranslationDataModule
from mtx.training.logged_run import LoggedRun
from mtx.training.progress_log_callback import TrainingLines
from mtx.training.trainer_callbacks import single_thread_before_fork, unlogged_monitor, with_defaults
from mtx.training.trainer_hardware_checks import check_other_nodes, check_trainer_hardware
from mtx.training.trainer_settings import check_stream_config, check_validation_interval
from mtx.training.training_record import TrainingProgress, TrainingRecord

# Lightning's warnings that a user of task=fit cannot act on, as regular expressions.
HIDDEN_WARNINGS = (
    r".*`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning itself calls this function of torch
    r".*smaller than the logging interval",  # a small dataset; the training record keeps all losses anyway
    r".*does not have many workers",  # mtx builds batches faster than a model uses them, even without workers
    r".*across ranks is zero",  # the config leaves the validation split empty
    r".*have no `validation_step`",  # the printed summary says that bits per byte are not logged
    r".*exists and is not empty",  # the output folder already contains the config and the log
    r".*You're resuming from a checkpoint that ended before the epoch ended",  # mtx's loader resumes inside an epoch
)


@checked("task")
def fit(
    run: Run,
    *,
    ckpt: str | None = None,
    translations: Natural = 3,
    scored_sentences: Natural = 100,
    contrastive_pairs: Natural = 100,
    beam: Count = 1,
    trust_ckpt: bool = False,
) -> float | None:
    """Train a model, print a summary and some translations, and write `report.json` and `profile.json`.

    Args:
        run: The config, and the components that are built from it.
        ckpt: The checkpoint to resume from: a path, or `last` for the newest checkpoint of an earlier run with the
            same data and model. None: training starts from the beginning.
        translations: The number of translated held-out sentences to print, once the contrastive accuracy is above 50 %.
        scored_sentences: The number of translated held-out sentences to score with BLEU and chrF.
        contrastive_pairs: The number of held-out pairs whose target the model must find among ten.
        beam: The number of hypotheses in beam search; 1 is greedy search.
        trust_ckpt: Allow Python objects in the checkpoint. Loading them can run any code that the file contains.

    Returns:
        Held-out bits per byte after training, which a sweep can minimise. None if the model does not log them.

    Raises:
        ConfigError: A number is out of range, Lightning refuses the Trainer, or `ckpt` does not fit the model.
    """
    with quiet_lightning():
        pl.seed_everything(run.seed, workers=True, verbose=False)
        path = checkpoint_path(ckpt, config=run.config, output_dir=run.output_dir, say=assume)
        record = TrainingRecord(run.output_dir / "training.json")
        try:
            shapes = {} if path is None else weight_shapes(path, trusted=trust_ckpt)  # before data is prepared
            trainer = build_trainer(run, record, run.build("budget"))
            check_other_nodes(trainer)
            check_model(run)
            data, profile = prepared(run, trainer)
            logged = begun_log(run, trainer, data)
            model = run.build("model", **run.datamodule.facts())
            redact_for_loggers(model, run.config)
            if path is not None:
                check_shapes(path, shapes, model)
            progress = train(run, trainer, model, record, path, trust_ckpt=trust_ckpt)
        except MisconfigurationException as error:
            raise ConfigError(
                f"Lightning cannot train with this trainer and model: {lightning_reason(error)}, and the log of the "
                "run has its reason. Check trainer, its callbacks, and the methods of the model, or type mtx task=check"
            ) from error
    if trainer.is_global_zero:
        complete_statistics(run, data, None)
        RunProfile.of(profile, fit_profile(progress)).write(run.output_dir)
        report = Report.of(data, fit_report(run, trainer, progress), model_report(trainer, model))
        run.write_report(report)  # before slicing and translating, so that their failure loses no result
        sizes = {"scored": scored_sentences, "beam": beam}
        _evaluate_and_show(run, trainer, model, progress, report, logged, contrastive_pairs, translations, sizes)
    return progress.held_out(METRIC)[1]


def _evaluate_and_show(
    run: Run,
    trainer: pl.Trainer,
    model: pl.LightningModule,
    progress: TrainingProgress,
    report: Report,
    logged: LoggedRun,
    contrastive_pairs: int,
    translations: int,
    sizes: Mapping[str, int],
) -> None:
    """Measure slices, contrastive accuracy and translations of a trained model, and print and log the whole report."""
    slicings, started = slicings_or_none(run.datamodule, run.console), time.perf_counter()
    report = evaluated(run, trainer, model, report, slicings, contrastive_pairs, shown=translations, **sizes)
    sets = score_named_sets(run, model, trainer.strategy.root_device, progress, report, **sizes)
    report = Report.of(report, {"evaluation": sets} if sets else {})
    written = run.write_report(report)
    missing = missing_figures(model, report)
    show(run, *closing(run, report, progress.train_losses, written, time.perf_counter() - started, missing))
    logged.figures(report.numbers(), progress.num_steps)


def prepared(run: Run, trainer: pl.Trainer) -> tuple[Report, RunProfile]:
    """Prepare the data, print a summary of the data, and return its report and profile; both are empty on rank > 0."""
    started = time.perf_counter()
    run.datamodule.prepare_data()
    prepare_s = time.perf_counter() - started
    run.datamodule.setup("fit")
    if not run.config.get("datamodule", {}).get("stream"):  # a stream does not know the number of its batches
        check_validation_interval(run.config["trainer"], lambda: len(run.datamodule.train_dataloader()))
    if not trainer.is_global_zero:
        return Report(), RunProfile()
    data, profile = data_report_and_profile(run)
    show(run, *opening(run, data, profile, prepare_s))
    return data, profile


def build_trainer(run: Run, record: TrainingRecord, budget: TrainingBudget) -> pl.Trainer:
    """Build the Trainer with mtx's callbacks: budget, training record, exact resume, checkpoints and progress bar.

    The callbacks of `trainer.callbacks` in the config are added. A progress bar, a checkpoint callback or a data-cost
    callback among them replaces mtx's callback of that kind, and a line says so.

    Raises:
        ConfigError: a setting is out of range, or Lightning refuses the settings.
    """
    options = run.config["trainer"]
    check_stream_config(run.config)
    check_trainer_hardware(options)
    own = build_callbacks(options.get("callbacks"))
    keeper = HeldOutLikelihoods(partial(write_likelihoods, run.output_dir))
    callbacks: list[pl.Callback] = [record, budget, ExactResume(), keeper]
    given: dict[str, Any] = {"default_root_dir": str(run.output_dir), "logger": run_loggers(run)}
    if [options.get(name, ...) for name in ("val_check_interval", "check_val_every_n_epoch")] == [None, None]:
        callbacks.append(CurveValidations())
        given["val_check_interval"] = NEVER
    callbacks += [DataCosts(), TrainingLines(record, metric=METRIC)]  # the lines log the values of DataCosts
    if options.get("enable_progress_bar") is not False:
        callbacks.append(StepBar(run.console))
    if options.get("enable_checkpointing") is not False:
        callbacks.append(LastAndBestCheckpoint(run.output_dir / "checkpoints", metric=METRIC))
    installed, replaced = with_defaults(own, callbacks)
    for told in replaced:
        assume(f"trainer.callbacks: {told} of task=fit, because a Trainer uses one of its kind")
    trainer = build({"trainer": {**options, "callbacks": None}}, "trainer", **given, callbacks=installed)
    assert isinstance(trainer, pl.Trainer)
    redact_checkpoints(trainer, run.config)
    write_atomically(trainer)
    if run.in_sweep:
        check_sweep(trainer)
    if single_thread_before_fork(trainer):
        assume(
            f"each process computes with one thread, because trainer.strategy={options.get('strategy', 'auto')} forks "
            "processes. For more threads, set trainer.strategy=ddp_spawn"
        )
    return trainer


def check_sweep(trainer: pl.Trainer) -> None:
    """Raise ConfigError if the Trainer starts ranks by repeating the command; each rank would repeat the sweep."""
    if isinstance(trainer.strategy.launcher, _SubprocessScriptLauncher):
        raise ConfigError(
            f"trainer.strategy={type(trainer.strategy).__name__} starts each further process by repeating the "
            "command, which in a sweep (-m) would run the whole sweep again. Set trainer.strategy=ddp_fork, or "
            "trainer.strategy=ddp_spawn if ddp_fork is refused; or start the jobs one by one, without -m"
        )


def train(
    run: Run,
    trainer: pl.Trainer,
    model: pl.LightningModule,
    record: TrainingRecord,
    ckpt: Path | None,
    *,
    trust_ckpt: bool = False,
) -> TrainingProgress:
    """Validate, train, validate again if weights changed since the last validation, and return the training record."""
    if trainer.is_global_zero:
        show(run, ("model", model_text(run, trainer, model, ckpt)))
        say("train", "begin", begin_values(run, trainer, model))
        write_run_key(run.config, run.output_dir)
        for path in (record.path, run.output_dir / HELD_OUT_FILE):
            path.unlink(missing_ok=True)  # left by an earlier run in this folder
    if ckpt is None and (found := held_out_metrics(run, trainer, model)):
        record.progress().add_validation(0, found)
    try:
        trainer.fit(model, datamodule=lightning_datamodule(run), ckpt_path=ckpt, weights_only=not trust_ckpt)
    except (MisconfigurationException, RuntimeError) as error:
        if (told := unlogged_monitor(error, trainer)) is None:
            raise
        raise ConfigError(told) from error
    except SystemExit as error:  # Lightning raises SystemExit after Ctrl-C
        if trainer.is_global_zero:
            keeper = trainer.checkpoint_callback
            kept = [getattr(keeper, name, "") for name in ("last_model_path", "best_model_path")]
            command = resume_command(run, kept)
            how = f"Resume from the last checkpoint: {command}" if command else "No checkpoint was saved."
            told = f"Training stopped at step {trainer.global_step}. {how}"
            run.console.print(told, highlight=False, soft_wrap=True)
        raise KeyboardInterrupt from error
    progress = record.read()
    if progress.validations and progress.validations[-1]["step"] != progress.num_steps:
        progress.add_validation(progress.num_steps, held_out_metrics(run, trainer, model))
    return progress


def held_out_metrics(run: Run, trainer: pl.Trainer, model: pl.LightningModule) -> dict[str, float]:
    """Return the metrics that the model logs in one validation; empty without held-out pairs or `validation_step`."""
    if not is_overridden("validation_step", model):
        return {}
    found = trainer.validate(model, datamodule=lightning_datamodule(run), verbose=False)
    return {name: float(value) for metrics in found for name, value in metrics.items()}


def fit_report(run: Run, trainer: pl.Trainer, progress: TrainingProgress) -> TrainingReport:
    """Return the training part of `report.json`: steps, time, losses, held-out bits per byte and checkpoint paths."""
    first, last = progress.held_out(METRIC)
    keeper = trainer.checkpoint_callback
    if isinstance(keeper, LastAndBestCheckpoint) and keeper.best_model_path and keeper.metric != METRIC:
        assume(f"best.ckpt is the checkpoint with the lowest {keeper.metric}, because the model does not log {METRIC}")
    last_path = run.output_dir / "checkpoints" / "last.ckpt"  # a Trainer with subprocesses does not return this path
    return TrainingReport(
        **progress.stream_part,
        num_steps=progress.num_steps,
        num_epochs=progress.num_epochs,
        fit_s=progress.train_s,
        spent=Spent(**progress.spent),
        ended_by=progress.ended_by,
        num_target_tokens=progress.num_target_tokens,
        target_tokens_per_s=progress.target_tokens_per_s,
        train_loss_first=progress.train_loss_first,
        train_loss=progress.train_loss,
        bits_per_byte_first=first,
        bits_per_byte=last,
        validations=tuple(map(Validation.model_validate, progress.validations)),
        checkpoint=getattr(keeper, "last_model_path", "") or (str(last_path) if last_path.exists() else None),
        best_checkpoint=getattr(keeper, "best_model_path", "") or None,
    )


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's tips, its device lists, and its warnings in `HIDDEN_WARNINGS`, inside the `with` block."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in HIDDEN_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def lightning_datamodule(run: Run) -> TranslationDataModule:
    """Return the run's data module, typed as a LightningDataModule; a task with a model always builds that class."""
    return cast(TranslationDataModule, run.datamodule)
