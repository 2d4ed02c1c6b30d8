"""Callback that logs the costs of the training data: tokens per second, padding, and time spent waiting for batches."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from mtx.batches.schema import batch_masks, flat_token_counts, is_flat
from mtx.components.checked_options import Count, checked
from mtx.training.lightning_compat import LightningCompat, pl

DEFAULT_LOG_STEPS = 50  # optimizer steps between two logs if the Trainer's log_every_n_steps is 0
BAR_METRICS = frozenset({"data/tokens_per_s", "data/padding", "data/waiting"})


class DataCosts(LightningCompat, pl.Callback):
    """Log the costs of the training data every few steps, and show them in the progress bar.

    Each value covers the steps since the last log, over all ranks:

    | name | unit | meaning |
    | --- | --- | --- |
    | `data/tokens_per_s` | tokens/s | real tokens of both sides, all those of flat batches |
    | `data/padding` | share | padding among the padded tokens of both sides |
    | `data/waiting` | share | time that training waits for the next batch |
    | `data/steps_per_s` | steps/s | optimizer steps |
    | `data/epoch`, `data/batch` | | the epoch, and the number of batches of all ranks so far in the epoch |

    The progress bar shows the first three values. The time of validations does not count. Batches on the CPU are
    counted immediately. Batches on another device are counted on that device, and the sums stay there until they are
    logged, so that no step waits. If batches have no masks, tokens and padding are not logged. The callback works with
    any LightningModule. With `barebones=True`, a Trainer logs nothing.

    Args:
        every_n_steps: optimizer steps between two logs; None: the Trainer's `log_every_n_steps`.

    Raises ConfigError if `every_n_steps` is below 1.
    """

    @checked("DataCosts")
    def __init__(self, *, every_n_steps: Count | None = None) -> None:
        self.every_n_steps = every_n_steps
        self._window = _Window()
        self._logged_step = 0
        self._clock = _FetchClock()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.start(trainer)
        self._logged_step = trainer.global_step
        self._window = _Window(trainer.global_step)
        self._window.resume()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.barebones:
            return
        self._window.add(batch)
        step = trainer.global_step
        if step == self._logged_step or step % (self.every_n_steps or _log_interval(trainer)):
            return
        self._logged_step = step
        found = self._window.costs(trainer, step, self._clock.take())
        found["data/epoch"] = trainer.current_epoch
        found["data/batch"] = (batch_idx + 1) * trainer.world_size
        # pl_module.log would copy each value of the progress bar from the device in every step
        trainer.progress_bar_metrics.update({name: value for name, value in found.items() if name in BAR_METRICS})
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in found.items()})
        for logger in trainer.loggers:
            logger.log_metrics(found, step=step - 1)  # Lightning counts the steps of its logs from 0
        self._window = _Window(step)
        self._window.resume()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._window.pause()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._window.resume()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.stop()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._clock.stop()


def _log_interval(trainer: pl.Trainer) -> int:
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set in Trainer.__init__
    return every or DEFAULT_LOG_STEPS


class _Window:
    """Training time, padded tokens and real tokens since the last log; tokens are summed on the batches' device."""

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self._train_s = 0.0
        self._since: float | None = None
        self._slots = 0
        self._real = 0
        self._real_on_device: Tensor | None = None

    def resume(self) -> None:
        """Start the clock of the training time."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock of the training time."""
        if self._since is not None:
            self._train_s += time.perf_counter() - self._since
            self._since = None

    def add(self, batch: Any) -> None:
        """Add the padded and real tokens of a batch of this rank; all tokens of a flat batch are real."""
        if is_flat(batch):
            tokens = sum(flat_token_counts(batch))
            self._slots += tokens
            self._real += tokens
            return
        for mask in batch_masks(batch):
            self._slots += mask.numel()
            if mask.device.type == "cpu":
                self._real += int(np.count_nonzero(mask.numpy()))  # on small tensors, several times faster than torch
            else:
                real = mask.count_nonzero()
                self._real_on_device = real if self._real_on_device is None else self._real_on_device + real

    def costs(self, trainer: pl.Trainer, step: int, waited_s: float) -> dict[str, float]:
        """Return the values to log, over all ranks; every rank calls this method at the same step."""
        real = self._real + (0 if self._real_on_device is None else int(self._real_on_device))
        self.pause()
        train_s = self._train_s
        if trainer.world_size > 1:
            device = trainer.strategy.root_device
            dtype = torch.float32 if device.type == "mps" else torch.float64
            mine = torch.tensor([real, self._slots, waited_s, train_s], dtype=dtype, device=device)
            real, slots, waited_s, train_s = trainer.strategy.reduce(mine, reduce_op="sum").tolist()
            train_s /= trainer.world_size
            waited_s /= trainer.world_size
        else:
            slots = self._slots
        found = {"data/waiting": waited_s / train_s, "data/steps_per_s": (step - self.step) / train_s}
        if slots:
            found.update({"data/tokens_per_s": real / train_s, "data/padding": 1 - real / slots})
        return found


class _FetchClock:
    """Measures the time that the training loop waits for the loader to return the next batch.

    Lightning calls two methods of the loop before and after each fetch, for its profiler. This class wraps them while
    training runs. The time between two batch hooks would also include loggers, checkpoints and other callbacks.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._began = 0.0
        self._loop: Any = None

    def start(self, trainer: pl.Trainer) -> None:
        """Start to measure the waiting time from 0."""
        self.stop()
        self._waited_s = 0.0
        loop: Any = trainer.fit_loop.epoch_loop
        before, after = loop._on_before_fetch, loop._on_after_fetch

        def begin() -> None:
            before()
            self._began = time.perf_counter()

        def end() -> None:
            self._waited_s += time.perf_counter() - self._began
            after()

        loop._on_before_fetch, loop._on_after_fetch = begin, end
        self._loop = loop

    def take(self) -> float:
        """Return the waiting time in seconds since the last call, and reset it to 0."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def stop(self) -> None:
        """Restore the original methods of the training loop."""
        if self._loop is not None:
            del self._loop._on_before_fetch, self._loop._on_after_fetch
            self._loop = None
