"""What a training run keeps about itself: losses, tokens, time, and each look at held-out text.

Works with any LightningModule. Its state is in every checkpoint, so a resumed run goes on with the record of the run
that it continues.
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

from mtx.callbacks import TrainingBudget
from mtx.infra.dal.base import atomic_file
from mtx.training.losses import LossCurve

TARGET_MASKS = ("decoder_attn_mask", "decoder_attention_mask")  # by datamodule.batch_format
RECENT_BATCHES = 20  # a single batch's loss jumps about; `train_loss` is the mean over so many


@dataclass
class Progress:
    """What is known of a run so far.

    Attributes:
        num_steps: optimizer steps.
        num_epochs: passes over the training data that were begun.
        train_s: seconds in training batches, the wait for data included, validation and checkpoints left out.
        num_target_tokens: real target tokens trained on, over all ranks; None: batches do not tell.
        train_loss_first: of the first batch; None: the module returns no loss.
        train_loss: mean over the last 20 batches.
        validations: for each look at held-out text its `step`, `epoch`, the `seconds` and `real_tokens` that were spent
            until then, and what was logged, such as `val/bits_per_byte`.
        epoch: passes over the training data so far, with the share of the one that was begun.
        spent: what `TrainingBudget` counted, by its units; empty: nobody did.
        ended_by: what ended the training; None: it has not ended.
        train_losses: mean training loss up to a step, as [step, loss]; at most 500.
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

    @property
    def target_tokens_per_s(self) -> float | None:
        """Real target tokens trained on in a second."""
        return self.num_target_tokens / self.train_s if self.num_target_tokens and self.train_s else None

    def add_validation(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Keep what was logged about held-out text after `step` optimizer steps: the metrics named `val…`."""
        logged = {name: float(value) for name, value in metrics.items() if name.startswith("val")}
        spent = {unit: self.spent.get(unit, None if step else 0) for unit in ("seconds", "real_tokens")}
        self.validations.append({"step": step, "epoch": self.epoch, **spent, **logged})

    def held_out(self, metric: str) -> tuple[float | None, float | None]:
        """Return the first and the last value of a metric of held-out text."""
        values = [found[metric] for found in self.validations if metric in found]
        return (values[0], values[-1]) if values else (None, None)


class TrainingRecord(Callback):
    """Keeps a `Progress`, and writes it as JSON when training ends.

    Numbers stay on the device until somebody asks, so that no step waits for them.

    Args:
        path: file that gets the record; a Trainer may train in another process, and this is how it comes back.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._progress = Progress()
        self._recent: deque[Tensor] = deque(maxlen=RECENT_BATCHES)
        self._losses = LossCurve()
        self._unsummed: Tensor | None = None  # target tokens of this rank since they were last added up
        self._mark = 0.0

    def progress(self) -> Progress:
        """Return the record as it stands; tokens are this rank's since the last validation."""
        if self._recent:
            recent = [loss.cpu() for loss in self._recent]  # after a resume they are on several devices
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
            # Lightning has divided it for the accumulation of gradients
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
        self._look_around(trainer)
        self._progress.add_validation(trainer.global_step, trainer.callback_metrics)
        self._sum_tokens(trainer)
        self._mark = time.perf_counter()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._sum_tokens(trainer)
        self._look_around(trainer)
        self._progress.ended_by = ended_by(trainer, self._budget(trainer))
        if trainer.is_global_zero:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.path) as file:
                file.write(json.dumps(asdict(self.progress()), indent=2).encode() + b"\n")

    @override
    def state_dict(self) -> dict[str, Any]:
        progress = asdict(self.progress())
        del progress["train_losses"]  # which `losses` has
        recent = [float(loss) for loss in self._recent]
        return {**progress, "recent": recent, "losses": self._losses.state()}

    @override
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        fields = dict(state_dict)
        recent, losses = fields.pop("recent"), fields.pop("losses", None)
        if losses is not None:  # checkpoints of earlier versions have none
            self._losses = LossCurve.of(losses)
        self._recent = deque((torch.tensor(loss) for loss in recent), maxlen=RECENT_BATCHES)
        self._progress = Progress(**fields)

    def read(self) -> Progress:
        """Return the record that was written when training ended, or where it never began the record as it stands."""
        if not self.path.exists():
            return self.progress()
        return Progress(**json.loads(self.path.read_text()))

    def _look_around(self, trainer: pl.Trainer) -> None:
        """Note how far the training is, in epochs and in what was spent."""
        self._progress.epoch = epochs_done(trainer)
        if (budget := self._budget(trainer)) is not None:
            self._progress.spent = asdict(budget.spent)

    def _budget(self, trainer: pl.Trainer) -> TrainingBudget | None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set while it runs
        return next((callback for callback in callbacks if isinstance(callback, TrainingBudget)), None)

    def _count(self, batch: Any) -> None:
        masks = [batch[name] for name in TARGET_MASKS if isinstance(batch, Mapping) and name in batch]
        if not masks:
            self._progress.num_target_tokens = None
            return
        num_tokens = masks[0].sum()
        self._unsummed = num_tokens if self._unsummed is None else self._unsummed + num_tokens

    def _sum_tokens(self, trainer: pl.Trainer) -> None:
        """Add the tokens of all ranks; every rank comes here."""
        if self._unsummed is None or self._progress.num_target_tokens is None:
            return
        total = trainer.strategy.reduce(self._unsummed, reduce_op="sum")
        self._progress.num_target_tokens += int(total)
        self._unsummed = None


def epochs_done(trainer: pl.Trainer) -> float:
    """Return how often the training data was passed over: whole epochs, and the share of the one that was begun."""
    batches, done = trainer.num_training_batches, trainer.fit_loop.epoch_loop.batch_progress.current.completed
    whole = trainer.fit_loop.epoch_progress.current.completed
    begun = trainer.fit_loop.epoch_progress.current.ready > whole
    return whole + (done / batches if begun and batches and math.isfinite(batches) else 0)


def ended_by(trainer: pl.Trainer, budget: TrainingBudget | None) -> str:
    """Say what ended a training: the key that is reached, with its value, or somebody who asked it to stop."""
    if budget is not None and budget.reached:
        return ", ".join(f"budget.{unit}={getattr(budget.limits, unit)}" for unit in budget.reached)
    if 0 <= trainer.max_steps <= trainer.global_step:
        return f"trainer.max_steps={trainer.max_steps}"
    if trainer.should_stop:
        return "a callback"
    return f"trainer.max_epochs={trainer.max_epochs}"
