"""What the data costs while a model trains: tokens a second, padding, waiting, and how far the epoch is."""

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from mtx.callbacks.masks import source_mask, target_mask
from mtx.errors import ConfigError
from mtx.lightning import OfBothPackages, pl

EVERY = 50  # steps, for a Trainer that never logs
IN_BAR = frozenset({"data/tokens_per_s", "data/padding", "data/waiting"})


class DataCosts(OfBothPackages, pl.Callback):
    """Logs what the training data costs, every few steps, and shows it in the progress bar.

    | name | unit | what it says, of the steps since it was last logged, over all ranks |
    | --- | --- | --- |
    | `data/tokens_per_s` | tokens/s | real tokens of both sides, by the masks |
    | `data/padding` | share | slots of both sides that hold padding |
    | `data/waiting` | share | the time that training waited for the next batch |
    | `data/steps_per_s` | steps/s | updates of the weights |
    | `data/epoch`, `data/batch` | | the epoch, and its batches so far, those of all ranks counted |

    The first three are in the bar. Looks at held-out text do not count as time. Batches on the CPU are counted at
    once, elsewhere on their device, where the sums stay until they are logged, so no step waits. For batches without
    masks tokens and padding are left out. Takes any LightningModule; with `barebones` a Trainer logs nothing at all.

    Args:
        every_n_steps: optimizer steps between two logs; None: the Trainer's `log_every_n_steps`.

    Raises ConfigError where `every_n_steps` is below 1.
    """

    def __init__(self, *, every_n_steps: int | None = None) -> None:
        if every_n_steps is not None and every_n_steps < 1:
            raise ConfigError(f"DataCosts: every_n_steps is at least 1, or None, but is {every_n_steps}")
        self.every_n_steps = every_n_steps
        self._window = _Window()
        self._logged_step = 0
        self._clock = _FetchClock()

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.start(trainer)
        self._logged_step = trainer.global_step
        self._window = _Window(trainer.global_step)
        self._window.go_on()

    @override
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.barebones:
            return
        self._window.add(batch)
        step = trainer.global_step
        if step == self._logged_step or step % (self.every_n_steps or _of(trainer)):
            return
        self._logged_step = step
        found = self._window.costs(trainer, step, self._clock.take())
        found["data/epoch"] = trainer.current_epoch
        found["data/batch"] = (batch_idx + 1) * trainer.world_size
        # not by pl_module.log: what that shows in the bar it fetches from the device in every step
        trainer.progress_bar_metrics.update({name: value for name, value in found.items() if name in IN_BAR})
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in found.items()})
        for logger in trainer.loggers:
            logger.log_metrics(found, step=step - 1)  # Lightning counts the steps of its logs from 0
        self._window = _Window(step)
        self._window.go_on()

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._window.pause()

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._window.go_on()

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._clock.stop()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._clock.stop()


def _of(trainer: pl.Trainer) -> int:
    every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set while the Trainer is made
    return every or EVERY


class _Window:
    """Sums since the last log: time, slots, and real tokens, on the CPU or on the device that the batches are on."""

    def __init__(self, step: int = 0) -> None:
        self.step = step
        self._train_s = 0.0
        self._since: float | None = None
        self._slots = 0
        self._real = 0
        self._real_on_device: Tensor | None = None

    def go_on(self) -> None:
        """Let the clock run."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock."""
        if self._since is not None:
            self._train_s += time.perf_counter() - self._since
            self._since = None

    def add(self, batch: Any) -> None:
        """Count a batch of this rank."""
        for mask in (source_mask(batch), target_mask(batch)):
            if mask is None:
                continue
            self._slots += mask.numel()
            if mask.device.type == "cpu":
                self._real += int(np.count_nonzero(mask.numpy()))  # several times as fast as torch on small tensors
            else:
                real = mask.count_nonzero()
                self._real_on_device = real if self._real_on_device is None else self._real_on_device + real

    def costs(self, trainer: pl.Trainer, step: int, waited_s: float) -> dict[str, float]:
        """Return what is logged, over all ranks; every rank comes here at the same step."""
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
    """The time that a Trainer's training loop spends in asking the loader for the next batch.

    Lightning calls two methods around that, for its profiler; they are wrapped while training runs. The time between
    the hooks of two batches would count loggers, checkpoints and other callbacks as waiting.
    """

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._began = 0.0
        self._loop: Any = None

    def start(self, trainer: pl.Trainer) -> None:
        """Begin to measure, from 0."""
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
        """Return the seconds since this was last asked."""
        waited_s, self._waited_s = self._waited_s, 0.0
        return waited_s

    def stop(self) -> None:
        """Give the loop its own methods back."""
        if self._loop is not None:
            del self._loop._on_before_fetch, self._loop._on_after_fetch
            self._loop = None
