"""How a training run shows itself: a bar on a terminal, and a line at each validation anywhere."""

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.trainer.states import TrainerFn
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from typing_extensions import override

from mtx.data.progress import PlainConsole

COSTS = {"data/tokens_per_s": "{:,.0f} tok/s", "data/padding": "pad {:.1%}", "data/waiting": "wait {:.0%}"}
BAR_WIDTH = 8  # of 80 characters, most of which numbers take
REFRESH_S = 0.1  # between two drawings of the bar; more often costs time and shows nothing new


class StepBar(ProgressBar):
    """Counts optimizer steps to the end of the run, not batches to the end of an epoch.

    Shows what the module logs with `prog_bar=True`. Drawn by the training loop itself: a thread would disturb the
    start of worker processes.

    Args:
        console: where it is shown; a bar only where that is a terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._enabled = True
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._drawn = 0.0

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
        self._open("training", num_steps(trainer), trainer.global_step)

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._draw(trainer, trainer.global_step, "training")

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == TrainerFn.VALIDATING:
            self._open("held-out text", sum(trainer.num_val_batches), 0)

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
        alone = trainer.state.fn == TrainerFn.VALIDATING
        self._draw(trainer, batch_idx + 1 if alone else trainer.global_step, "held-out text")

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        metrics = self._metrics(trainer)
        if trainer.state.fn == TrainerFn.VALIDATING:
            self.print(f"held-out text  {metrics}", highlight=False)
            self._close()
        else:
            of = "" if (total := num_steps(trainer)) is None else f"/{total}"
            self.print(f"step {trainer.global_step:>{len(str(total or 0))}}{of}  {metrics}", highlight=False)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._close()

    def _open(self, description: str, total: float | None, completed: int) -> None:
        self._close()
        if not self._enabled or not self._console.is_terminal:
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=BAR_WIDTH),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[metrics]}", markup=False),
        )
        self._bar = Progress(*columns, console=self._console, auto_refresh=False, transient=True)
        self._task = self._bar.add_task(description, total=total, completed=completed, metrics="")
        self._bar.start()

    def _draw(self, trainer: pl.Trainer, completed: int, description: str) -> None:
        now = time.monotonic()
        if self._bar is not None and now - self._drawn >= REFRESH_S:
            self._drawn = now
            metrics = self._metrics(trainer, with_costs=True)
            self._bar.update(self._task, completed=completed, description=description, metrics=metrics, refresh=True)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _metrics(self, trainer: pl.Trainer, *, with_costs: bool = False) -> str:
        """Put what was logged for the bar into a line; with what the data costs, in few characters."""
        logged = {
            name: value for name, value in trainer.progress_bar_metrics.items() if isinstance(value, (int, float))
        }
        costs = [form.format(logged[name]) for name, form in COSTS.items() if name in logged]
        others = [f"{name} {value:.3f}" for name, value in logged.items() if name not in COSTS]
        # behind the first, which is the loss: where the line is too long, its end is cut off
        return "  ".join([*others[:1], *costs, *others[1:]] if with_costs else others)

    def __getstate__(self) -> dict[str, Any]:
        # for Trainers that start processes by pickling themselves: a console holds a lock
        return {**self.__dict__, "_console": None, "_bar": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _console=PlainConsole())


def num_steps(trainer: pl.Trainer) -> int | None:
    """Return the optimizer steps of the whole run, or None where it has no known end."""
    ends = []
    if trainer.max_steps >= 0:
        ends.append(trainer.max_steps)
    if trainer.max_epochs is not None and trainer.max_epochs >= 0 and trainer.num_training_batches != float("inf"):
        a_epoch = -(-int(trainer.num_training_batches) // trainer.accumulate_grad_batches)
        ends.append(a_epoch * trainer.max_epochs)
    return min(ends) if ends else None
