"""Callback that writes the progress of a training to the log of a run: a line every 30 s, and a line per validation."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import TrainerFn
from typing_extensions import override

from mtx.progress.formatting import share
from mtx.progress.progress_log import LOG_INTERVAL_S, log_files, say, write_to
from mtx.training.callbacks.training_end_estimate import Pace, budget_of, nearest_goal, validation_goal
from mtx.training.training_record import TrainingRecord


class TrainingLines(pl.Callback):
    """Write lines like `train     50% update=207 tokens=1514000 loss=5.671 left_s=30` to the logger `mtx.progress`.

    Rank 0 writes the lines from the training loop. A step only reads the clock; losses are copied from the device only
    when a line is written. Each validation writes one line, with `best` if the metric is lower than in every earlier
    validation.

    Args:
        record: the training record; its callback must run before this callback.
        metric: the logged validation metric that `best` refers to; a lower value is better.
        every_s: seconds between two lines.
        clock: returns the time in seconds; only differences are used.
    """

    def __init__(
        self,
        record: TrainingRecord,
        *,
        metric: str,
        every_s: float = LOG_INTERVAL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._record = record
        self._metric = metric
        self._every_s = every_s
        self._clock = clock
        self._told = clock()
        self._pace = Pace(clock=clock)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        goal = nearest_goal(trainer)
        self._pace = Pace(0.0 if goal is None else goal.share, self._clock)
        self._told = self._clock()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_due(trainer):
            goal = nearest_goal(trainer)
            left_s = None if goal is None else self._pace.left_s(goal.share)
            how_far = "" if goal is None else share(goal.done, goal.total)
            say("train", how_far, {**self._values(trainer), "left_s": left_s})

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._told = self._clock()

    @override
    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._is_due(trainer):
            goal = validation_goal(trainer, batch_idx, dataloader_idx)
            say("validate", share(goal.done, goal.total), {"update": trainer.global_step, "batches": goal.done})

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        self._told = self._clock()
        value = trainer.callback_metrics.get(self._metric)
        found = None if value is None else float(value)
        name = self._metric.rpartition("/")[2]
        say("validate", "", {**self._so_far(trainer), name: found, "best": self._is_best(trainer.global_step, found)})

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.is_global_zero:
            say("train", "done", {**self._values(trainer), "s": self._pace.elapsed_s})

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero:
            say("train", "stopped", {"by": type(exception).__name__, **self._so_far(trainer)})

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "log_files": log_files()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # a Trainer that starts processes by pickling itself unpickles this in a process without logging
        write_to(state.pop("log_files"))
        self.__dict__.update(state)

    def _is_due(self, trainer: pl.Trainer) -> bool:
        now = self._clock()
        if now - self._told < self._every_s or trainer.sanity_checking:
            return False
        self._told = now
        return trainer.is_global_zero

    def _so_far(self, trainer: pl.Trainer) -> dict[str, object]:
        budget = budget_of(trainer)
        return {"update": trainer.global_step, "tokens": None if budget is None else budget.spent.real_tokens}

    def _values(self, trainer: pl.Trainer) -> dict[str, object]:
        costs = trainer.progress_bar_metrics
        padding = costs.get("data/padding")
        return {
            **self._so_far(trainer),
            "loss": self._record.progress().train_loss,
            "tokens_per_s": costs.get("data/tokens_per_s"),
            "padding": None if padding is None else f"{padding:.1%}",
            "wait": costs.get("data/waiting"),
        }

    def _is_best(self, step: int, value: float | None) -> bool:
        before = [found.get(self._metric) for found in self._record.progress().validations if found["step"] != step]
        known = [number for number in before if number is not None]
        return value is not None and bool(known) and value < min(known)
