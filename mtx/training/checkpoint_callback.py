"""Callback that writes two checkpoints of a training run: the last state and the best state."""

import math
from collections.abc import Container
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from typing_extensions import override

BITS_PER_BYTE = "val/bits_per_byte"
OTHER_METRICS = ("val/loss", "val_loss")  # of a user's own model that logs no bits per byte, best choice first


def held_out_metric(logged: Container[str], metric: str = BITS_PER_BYTE) -> str | None:
    """Return the first of `metric` and `OTHER_METRICS` that a validation has logged; None if there is none."""
    return next((name for name in (metric, *OTHER_METRICS) if name in logged), None)


class LastAndBestCheckpoint(Checkpoint):
    """Write `last.ckpt` after the first step, each validation and training, and `best.ckpt` at the lowest metric.

    The checkpoint of the first step lets a training resume that is stopped before its first validation.

    Lightning's ModelCheckpoint fails if the metric is not logged, and writes no `last` if the metric does not improve.
    ModelCheckpoint also forgets the best value if a run resumes in another folder.
    If the module does not log the metric, the first one of `OTHER_METRICS` that it logs replaces the metric. If it logs
    none of them, this callback writes only `last.ckpt`.
    All ranks call the callback. In `task=fit`, `AtomicCheckpointIO` writes each file under a temporary name first.

    Args:
        folder: the folder of both files.
        metric: the name of the logged metric; a lower value is better.

    Attributes:
        best_model_path: path of the best checkpoint, which may come from the run that was resumed; empty if there is
            none.
        last_model_path: path of the last checkpoint; empty if there is none.
    """

    def __init__(self, folder: Path, *, metric: str = BITS_PER_BYTE) -> None:
        self.folder = folder
        self.metric = metric
        self.best_model_path = ""
        self.last_model_path = ""
        self._best = math.inf
        self._saved_step = -1
        self._first_step = 0

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or _is_trial(trainer):
            return
        self.metric = held_out_metric(trainer.callback_metrics, self.metric) or self.metric
        value = float(trainer.callback_metrics.get(self.metric, math.inf))
        # all ranks must decide alike: saving is collective, so a rank that saves alone waits forever
        if trainer.strategy.reduce_boolean_decision(value < self._best):
            self._best = value
            self.best_model_path = str(self.folder / "best.ckpt")
            trainer.save_checkpoint(self.best_model_path)
        self._save_last(trainer)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._first_step = trainer.global_step

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not self.last_model_path and trainer.global_step > self._first_step and not _is_trial(trainer):
            self._save_last(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved_step and not _is_trial(trainer):
            self._save_last(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_model_path": self.best_model_path, "metric": self.metric}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]
        self.best_model_path = state_dict["best_model_path"]
        self.metric = state_dict.get("metric", self.metric)  # earlier versions of mtx had one metric

    def _save_last(self, trainer: pl.Trainer) -> None:
        self.last_model_path = str(self.folder / "last.ckpt")
        trainer.save_checkpoint(self.last_model_path)
        self._saved_step = trainer.global_step


def _is_trial(trainer: pl.Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
