"""Record of a training run: losses, tokens, time, and the metrics of each validation.

The record works with any LightningModule. The record is saved in every checkpoint, so a resumed run continues the
record of the run from which it resumes.
"""

import json
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor
from typing_extensions import override

from mtx.batches.schema import target_tokens
from mtx.infra.dal.atomic_file import atomic_file
from mtx.training.callbacks import TrainingBudget
from mtx.training.callbacks.training_end_estimate import budget_of
from mtx.training.loss_curve import LossCurve

RECENT_BATCHES = 20  # `train_loss` is the mean over this many batches, because the loss of one batch varies strongly


@dataclass
class TrainingProgress:
    """The measurements of a training run so far.

    Attributes:
        num_steps: optimizer steps.
        num_epochs: number of epochs that have begun.
        train_s: seconds spent in training batches and waiting for data; validations and checkpoints do not count.
        num_target_tokens: real target tokens trained on, over all ranks; None if the batches have no target mask.
        train_loss_first: training loss of the first batch; None if the module returns no loss.
        train_loss: mean training loss of the last 20 batches.
        validations: for each validation its `step`, `epoch`, the `seconds`, `real_tokens` and `source_bytes` spent
            until then, and the logged metrics, such as `val/bits_per_byte`.
        epoch: completed epochs, plus the completed share of the current epoch.
        spent: amounts counted by `TrainingBudget`, by unit; empty if the Trainer has no `TrainingBudget`.
        ended_by: the reason why the training ended; None while it runs.
        train_losses: mean training loss as [last step, mean loss], at most 500 points.
        stream: the ledger of a streamed training split at the end; None without one.
    """

    num_steps: int = 0
    num_epochs: int = 0
    train_s: float = 0.0
    num_target_tokens: int | None = 0
    train_loss_first: float | None = None
    train_loss: float | None = None
    validations: list[dict[str, float | None]] = field(default_factory=list)
    epoch: float = 0.0
    spent: dict[str, float | None] = field(default_factory=dict)
    ended_by: str | None = None
    train_losses: list[tuple[int, float]] = field(default_factory=list)
    stream: dict[str, Any] | None = None

    @property
    def stream_part(self) -> dict[str, Any]:
        """The part of `report.json` about a streamed training split; empty without one."""
        return {} if self.stream is None else {"stream": self.stream}

    @property
    def target_tokens_per_s(self) -> float | None:
        """Real target tokens trained on per second."""
        return self.num_target_tokens / self.train_s if self.num_target_tokens and self.train_s else None

    def add_validation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Store the metrics logged by a validation after `step` optimizer steps: those whose names start with `val`."""
        logged = {name: float(value) for name, value in metrics.items() if name.startswith("val")}
        spent = {unit: self.spent.get(unit, None if step else 0) for unit in ("seconds", "real_tokens", "source_bytes")}
        self.validations.append({"step": step, "epoch": self.epoch, **spent, **logged})

    def held_out(self, metric: str) -> tuple[float | None, float | None]:
        """Return the first and the last value of a validation metric; (None, None) if the metric was never logged."""
        values = [found[metric] for found in self.validations if metric in found]
        return (values[0], values[-1]) if values else (None, None)


class TrainingRecord(Callback):
    """Callback that records a `TrainingProgress`, and writes it to a JSON file after each validation and at the end.

    Losses and token counts stay on the device until `progress` is called, so that no step waits for the device.

    Args:
        path: the JSON file. A Trainer may train in another process, and the main process reads the record from this
            file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = TrainingProgress()
        self._recent: deque[Tensor] = deque(maxlen=RECENT_BATCHES)
        self._losses = LossCurve()
        self._unsummed: Tensor | None = None  # target tokens of this rank since the last sum over all ranks
        self._mark = 0.0

    def progress(self) -> TrainingProgress:
        """Return the current record; since the last validation, only the target tokens of this rank are counted."""
        if self._recent:
            recent = [loss.cpu() for loss in self._recent]  # after a resume, the losses are on different devices
            self._progress.train_loss = float(torch.stack(recent).mean())
        self._progress.train_losses = self._losses.points()
        return self._progress

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._mark = time.perf_counter()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            # Lightning has divided the loss by the number of accumulated batches
            self._recent.append(loss.detach().float() * trainer.accumulate_grad_batches)
            if self._progress.train_loss_first is None:
                self._progress.train_loss_first = float(self._recent[-1])
            self._losses.add(trainer.global_step, self._recent[-1])
        self._count(batch)
        self._progress.num_steps = trainer.global_step
        self._progress.num_epochs = trainer.current_epoch + 1
        now = time.perf_counter()
        self._progress.train_s += now - self._mark
        self._mark = now

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        self._update_progress(trainer)
        self._progress.add_validation(trainer.global_step, trainer.callback_metrics)
        self._sum_tokens(trainer)
        self._write(trainer)  # for the page of a sweep that still runs
        self._mark = time.perf_counter()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum_tokens(trainer)
        self._update_progress(trainer)
        self._progress.ended_by = ended_by(trainer, budget_of(trainer))
        if (ledger := getattr(getattr(trainer, "datamodule", None), "stream_ledger", None)) is not None:
            self._progress.stream = ledger()
        self._write(trainer)

    @override
    def state_dict(self) -> dict[str, Any]:
        progress = asdict(self.progress())
        del progress["train_losses"]  # the key `losses` holds the same points
        recent = [float(loss) for loss in self._recent]
        return {**progress, "recent": recent, "losses": self._losses.state()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        fields = dict(state_dict)
        recent, losses = fields.pop("recent"), fields.pop("losses", None)
        if losses is not None:  # checkpoints of earlier versions of mtx have no loss curve
            self._losses = LossCurve.of(losses)
        self._recent = deque((torch.tensor(loss) for loss in recent), maxlen=RECENT_BATCHES)
        self._progress = TrainingProgress(**fields)

    def read(self) -> TrainingProgress:
        """Return the record from the JSON file; the current record if there is no file because training never began."""
        if not self.path.exists():
            return self.progress()
        return TrainingProgress(**json.loads(self.path.read_text()))

    def _write(self, trainer: pl.Trainer) -> None:
        """Write the record so far, on the first rank."""
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as file:
                file.write(json.dumps(asdict(self.progress()), indent=2).encode() + b"\n")

    def _update_progress(self, trainer: pl.Trainer) -> None:
        """Store the current epoch and the amounts that the budget has counted."""
        self._progress.epoch = num_epochs_done(trainer)
        if (budget := budget_of(trainer)) is not None:
            self._progress.spent = asdict(budget.spent)

    def _count(self, batch: Any) -> None:
        num_tokens = target_tokens(batch)
        if num_tokens is None:
            self._progress.num_target_tokens = None
            return
        self._unsummed = num_tokens if self._unsummed is None else self._unsummed + num_tokens

    def _sum_tokens(self, trainer: pl.Trainer) -> None:
        """Add the tokens of all ranks to the record; all ranks must call this method together."""
        if self._unsummed is None or self._progress.num_target_tokens is None:
            return
        total = trainer.strategy.reduce(self._unsummed, reduce_op="sum")
        self._progress.num_target_tokens += int(total)
        self._unsummed = None


def num_epochs_done(trainer: pl.Trainer) -> float:
    """Return the number of completed epochs, plus the completed share of the current epoch."""
    batches, done = trainer.num_training_batches, trainer.fit_loop.epoch_loop.batch_progress.current.completed
    whole = trainer.fit_loop.epoch_progress.current.completed
    begun = trainer.fit_loop.epoch_progress.current.ready > whole
    return whole + (done / batches if begun and batches and math.isfinite(batches) else 0)


def ended_by(trainer: pl.Trainer, budget: TrainingBudget | None) -> str:
    """Return the reasons why a training ended: each key that was reached, with its value, or `a callback`."""
    reached = []
    if budget is not None:
        reached += [f"budget.{unit}={getattr(budget.limits, unit)}" for unit in budget.spent_units]
    if 0 <= trainer.max_steps <= trainer.global_step:
        reached.append(f"trainer.max_steps={trainer.max_steps}")
    epochs, loop = trainer.max_epochs, trainer.fit_loop
    is_whole = loop.epoch_loop.batch_progress.is_last_batch  # Lightning also counts an epoch that a limit cut short
    if epochs is not None and 0 <= epochs <= trainer.current_epoch and is_whole:
        reached.append(f"trainer.max_epochs={epochs}")
    return ", ".join(reached) or ("a callback" if trainer.should_stop else f"trainer.max_epochs={epochs}")
