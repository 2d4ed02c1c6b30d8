"""Progress bar of a training in the terminal; `training_lines` writes the lines of the log."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from typing_extensions import override

from mtx.progress.formatting import rounded
from mtx.progress.literal_console import PlainConsole
from mtx.progress.progress_log import has_terminal
from mtx.progress.terminal_bar import Bar, BarState
from mtx.progress.tracking import REFRESH_S
from mtx.training.callbacks.training_end_estimate import Goal, Pace, nearest_goal, validation_goal

# Format of the known metrics, the most important first; other metrics follow with their logged names
SHOWN: Mapping[str, Callable[[float], str]] = {
    "train/loss": "loss {:.3f}".format,
    "data/tokens_per_s": lambda value: f"{rounded(value)} tokens/s",
    "val/bits_per_byte": "{:.3f} bits/byte".format,
    "data/padding": "padding {:.1%}".format,
    "data/waiting": "wait {:.1%}".format,
}


class StepBar(ProgressBar):
    """Progress bar that fills up to the nearest end of the run: a budget limit, or the Trainer's steps or epochs.

    The bar shows the metrics that the module logs with `prog_bar=True`. The training loop draws the bar, because a
    thread would disturb the start of worker processes.

    Args:
        console: the console to draw on; if it is not a terminal, the bar is drawn on standard error, if that is a
            terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._enabled = True
        self._bar: Bar | None = None
        self._drawn = 0.0
        self._pace = Pace()
        self._validation: Pace | None = None

    @override
    def disable(self) -> None:
        self._enabled = False

    @override
    def enable(self) -> None:
        self._enabled = True

    @override
    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._enabled:
            self._console.print(*args, **kwargs)

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        goal = nearest_goal(trainer)
        self._pace = Pace(0.0 if goal is None else goal.share)
        self._open()
        self._draw_training(trainer)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._is_due():
            self._draw_training(trainer)

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._validation = Pace()
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._open()

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
        if self._is_due() and self._validation is not None:
            self._draw("validation", validation_goal(trainer, batch_idx, dataloader_idx), self._validation, [])

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._close()
        elif not trainer.sanity_checking:
            self._draw_training(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._draw_training(trainer)
        self._close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _open(self) -> None:
        self._close()
        own = self._console.is_terminal and not self._console.quiet
        if self._enabled and (own or has_terminal()):
            self._bar = Bar(self._console if own else None)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _is_due(self) -> bool:
        return self._bar is not None and time.monotonic() - self._drawn >= REFRESH_S

    def _draw_training(self, trainer: pl.Trainer) -> None:
        if self._bar is not None:
            self._draw("training", nearest_goal(trainer), self._pace, shown_metrics(trainer), trainer.global_step)

    def _draw(self, label: str, goal: Goal | None, pace: Pace, metrics: list[str], done: int = 0) -> None:
        if self._bar is None:
            return
        self._drawn = time.monotonic()
        self._bar.draw(
            BarState(
                label=label,
                done=done if goal is None else goal.done,
                total=None if goal is None else goal.total,
                unit="steps" if goal is None else goal.unit,
                elapsed_s=pace.elapsed_s,
                left_s=None if goal is None else pace.left_s(goal.share),
                metrics=metrics,
            )
        )

    def __getstate__(self) -> dict[str, Any]:
        # some Trainers start processes by pickling themselves, and a console holds a lock, which cannot be pickled
        return {**self.__dict__, "_console": None, "_bar": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _console=PlainConsole())


def shown_metrics(trainer: pl.Trainer) -> list[str]:
    """Return the metrics logged for the progress bar as text, the most important first."""
    logged = {name: value for name, value in trainer.progress_bar_metrics.items() if isinstance(value, (int, float))}
    known = [form(logged.pop(name)) for name, form in SHOWN.items() if name in logged]
    return [*known, *(f"{name} {value:.3f}" for name, value in logged.items())]
