"""Validations at equal steps towards the end of a training, so that every run has a learning curve."""

from typing import Any

from typing_extensions import override

from mtx.training.callbacks.training_end_estimate import nearest_goal
from mtx.training.lightning_compat import LightningCompat, pl

NUM_VALIDATIONS = 10
NEVER = 10**12  # batches between two validations, of a Trainer that leaves validations to this callback
BATCHES_WITHOUT_GOAL = 100


class CurveValidations(LightningCompat, pl.Callback):
    """Validates after each tenth of the training, in the unit of its end: steps, seconds, tokens or bytes.

    The Trainer needs `check_val_every_n_epoch=None` and `val_check_interval=NEVER`, which this callback replaces. If
    nothing ends the training, it validates every 100 batches.

    Args:
        number: validations of a whole training, without the one before it.
    """

    def __init__(self, number: int = NUM_VALIDATIONS) -> None:
        self.number = number
        self._done = 0

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done = self._parts_done(trainer)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        position = trainer.fit_loop.epoch_loop.total_batch_idx + 1
        done = self._parts_done(trainer, position)
        trainer.val_check_batch = position if done > self._done else NEVER
        self._done = max(done, self._done)

    def _parts_done(self, trainer: pl.Trainer, position: int = 0) -> int:
        goal = nearest_goal(trainer)
        return position // BATCHES_WITHOUT_GOAL if goal is None else int(self.number * goal.share + 1e-9)
