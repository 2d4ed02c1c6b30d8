"""Checkpoints of a training run: the last state, to go on from, and the best, to use."""

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.trainer.states import TrainerFn
from typing_extensions import override


class KeepLastAndBest(Checkpoint):
    """Writes `last.ckpt` after each validation and at the end, and `best.ckpt` where the metric is the lowest so far.

    Lightning's ModelCheckpoint needs a metric that is always logged, keeps no `last` when the metric does not
    improve, and forgets the best value when a run goes on in another folder. Here a module without the metric gets
    `last.ckpt` alone. All ranks call; Lightning writes each file under another name first.

    Args:
        folder: where they are written.
        metric: the lower the better.

    Attributes:
        best_model_path: the best checkpoint, of an earlier run where that was better; empty without any.
        last_model_path: the last one; empty without any.
    """

    def __init__(self, folder: Path, *, metric: str = "val/bits_per_byte") -> None:
        self.folder = folder
        self.metric = metric
        self.best_model_path = ""
        self.last_model_path = ""
        self._best = math.inf
        self._saved_step = -1

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking or _is_trial(trainer):
            return
        value = float(trainer.callback_metrics.get(self.metric, math.inf))
        # a rank on its own opinion would wait for the others for ever
        if trainer.strategy.reduce_boolean_decision(value < self._best):
            self._best = value
            self.best_model_path = str(self.folder / "best.ckpt")
            trainer.save_checkpoint(self.best_model_path)
        self._save_last(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_step != self._saved_step and not _is_trial(trainer):
            self._save_last(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best, "best_model_path": self.best_model_path}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]
        self.best_model_path = state_dict["best_model_path"]

    def _save_last(self, trainer: pl.Trainer) -> None:
        self.last_model_path = str(self.folder / "last.ckpt")
        trainer.save_checkpoint(self.last_model_path)
        self._saved_step = trainer.global_step


def _is_trial(trainer: pl.Trainer) -> bool:
    return bool(getattr(trainer, "fast_dev_run", False))
