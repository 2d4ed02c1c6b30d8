"""Callbacks that mtx adds to a user's callbacks, and settings of the process that a Trainer needs."""

from collections.abc import Iterable, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, ProgressBar

from mtx.errors import choices

KINDS = (Checkpoint, ProgressBar)  # a Trainer uses one callback of each of these kinds


def with_defaults(own: Sequence[pl.Callback], defaults: Iterable[pl.Callback]) -> tuple[list[pl.Callback], list[str]]:
    """Return the callbacks of the user and those of mtx that they do not replace, and what is replaced in words.

    A callback of the user replaces the one of mtx of the same class, and a checkpoint or a progress bar replaces mtx's
    callback of that kind.

    Args:
        own: callbacks of the user.
        defaults: callbacks of mtx.
    """
    kept, replaced = [], []
    for callback in defaults:
        kind = next((kind for kind in KINDS if isinstance(callback, kind)), type(callback))
        others = [other for other in own if isinstance(other, kind)]
        if others:
            replaced.append(f"{type(others[0]).__name__} replaces {type(callback).__name__}")
        else:
            kept.append(callback)
    return [*kept, *own], replaced


def unlogged_monitor(trainer: pl.Trainer) -> str | None:
    """Return the message for a callback that monitors a metric which the model has not logged; None without one."""
    logged = trainer.callback_metrics
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # a list
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor not in logged and logged:
            names = choices(monitor, logged)
            return (
                f"trainer.callbacks: {type(callback).__name__} monitors {monitor!r}, which the model does not log. It "
                f"logs {names}. Set monitor: {names.partition(',')[0]}"
            )
    return None


def single_thread_before_fork(trainer: pl.Trainer) -> bool:
    """Set one thread for torch in a process that a Trainer forks, and return whether the number has changed.

    A forked process has no copies of the threads of an OpenMP pool, but waits for them in its first parallel operation.
    """
    launcher = getattr(trainer.strategy, "launcher", None)
    if getattr(launcher, "_start_method", None) != "fork" or torch.get_num_threads() == 1:
        return False
    torch.set_num_threads(1)
    return True
