"""Callbacks that mtx adds to a user's callbacks, and settings of the process that a Trainer needs."""

import inspect
from collections.abc import Iterable, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint, EarlyStopping, ModelCheckpoint, ProgressBar

from mtx.errors import choices
from mtx.library_errors import innermost_frame

KINDS = (Checkpoint, ProgressBar)  # a Trainer uses one callback of each of these kinds
MONITORS = frozenset(inspect.getfile(kind) for kind in (EarlyStopping, ModelCheckpoint))


def with_defaults(own: Sequence[pl.Callback], defaults: Iterable[pl.Callback]) -> tuple[list[pl.Callback], list[str]]:
    """Return the callbacks of the user and those of mtx that they do not replace, and what is replaced in words.

    A callback of the user replaces mtx's callback of the same class. A checkpoint or a progress bar of the user
    replaces mtx's callback of that kind.

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


def unlogged_monitor(error: Exception, trainer: pl.Trainer) -> str | None:
    """Return the message for an error of a callback that monitors a metric which is not logged; None for any other.

    The callback itself must have raised the error: many errors end a training before its first validation.
    """
    frame = innermost_frame(error)
    callback = None if frame is None else frame.tb_frame.f_locals.get("self")
    if frame is None or not isinstance(callback, EarlyStopping | ModelCheckpoint):
        return None
    monitor, logged = callback.monitor, trainer.callback_metrics
    if frame.tb_frame.f_code.co_filename not in MONITORS or monitor is None or monitor in logged or not logged:
        return None
    names = choices(monitor, logged)
    return (
        f"trainer.callbacks: {type(callback).__name__} monitors {monitor!r}, which the model has not logged by step "
        f"{trainer.global_step}. It has logged {names}. Set monitor: {names.partition(',')[0]}"
    )


def single_thread_before_fork(trainer: pl.Trainer) -> bool:
    """Set one thread for torch in a process that a Trainer forks, and return whether the number has changed.

    A forked process has no copies of the threads of an OpenMP pool, but waits for them in its first parallel operation.
    """
    launcher = getattr(trainer.strategy, "launcher", None)
    if getattr(launcher, "_start_method", None) != "fork" or torch.get_num_threads() == 1:
        return False
    torch.set_num_threads(1)
    return True
