"""Progress of a training towards its nearest end, and the estimated seconds until that end."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import pytorch_lightning as pl

from mtx.training.callbacks.training_budget import TrainingBudget
from mtx.training.streamed_epoch_end import UNKNOWN_LENGTH

UNITS = {"steps": "steps", "seconds": "s", "real_tokens": "tokens", "source_bytes": "source bytes"}


@dataclass(frozen=True)
class Goal:
    """An end of a training: the amount done, the total amount, and their unit."""

    done: float
    total: float
    unit: str

    @property
    def share(self) -> float:
        """The share of the total that is done, from 0 to 1."""
        return self.done / self.total if self.total else 1.0


def goals(trainer: pl.Trainer) -> Iterator[Goal]:
    """Yield all known ends of a training: the limits of the budget, and the Trainer's maximal steps or epochs."""
    if (budget := budget_of(trainer)) is not None:
        spent = asdict(budget.spent)
        for unit, limit in asdict(budget.limits).items():
            if limit is not None:
                yield Goal(min(spent[unit] or 0, limit), limit, UNITS[unit])
    if (steps := num_steps(trainer)) is not None:
        yield Goal(trainer.global_step, steps, "steps")


def nearest_goal(trainer: pl.Trainer) -> Goal | None:
    """Return the end of which the largest share is done; None if the training has no known end."""
    return max(goals(trainer), key=lambda goal: goal.share, default=None)


def validation_goal(trainer: pl.Trainer, batch_idx: int, dataloader_idx: int) -> Goal:
    """Return the progress of a validation after a batch, over all validation sets."""
    sizes = list(trainer.num_val_batches)
    return Goal(sum(sizes[:dataloader_idx]) + batch_idx + 1, sum(sizes), "batches")


def budget_of(trainer: pl.Trainer) -> TrainingBudget | None:
    """Return the TrainingBudget among a Trainer's callbacks; None if there is none."""
    callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # set by Lightning at run time
    return next((callback for callback in callbacks if isinstance(callback, TrainingBudget)), None)


def num_steps(trainer: pl.Trainer) -> int | None:
    """Return the number of optimizer steps of the whole run; None if the run has no known end."""
    ends = []
    if trainer.max_steps >= 0:
        ends.append(trainer.max_steps)
    is_known = trainer.num_training_batches < UNKNOWN_LENGTH
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and is_known:
        a_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        ends.append(a_epoch * trainer.max_epochs)
    return min(ends) if ends else None


class Pace:
    """Speed of the work since this object was created; the time of validations counts.

    Args:
        share: share of the total that was done before this object was created, as in a resumed run.
        clock: returns the time in seconds; only differences are used.
    """

    def __init__(self, share: float = 0.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._share = share
        self._clock = clock
        self._begun = clock()

    @property
    def elapsed_s(self) -> float:
        """Seconds since this object was created."""
        return self._clock() - self._begun

    def left_s(self, share: float) -> float | None:
        """Return the seconds until all is done at the current speed; None if nothing has been done yet."""
        if share >= 1:
            return 0.0
        return self.elapsed_s * (1 - share) / (share - self._share) if share > self._share else None
