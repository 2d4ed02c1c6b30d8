"""Callback that saves random states and accumulated gradients, so that a resumed run ends with the same weights."""

import random
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from mtx.training.lightning_compat import LightningCompat, pl

STATE_KEY = "mtx_exact_resume"

State = dict[str, Any]


class ExactResume(LightningCompat, pl.Callback):
    """Save random states and accumulated gradients in checkpoints, so that a resumed run continues exactly.

    The random states of torch (and of the accelerator), numpy and Python are saved for each rank. They are restored
    right before the first training batch. Each validation restores the random states from before it, so the number and
    times of validations do not change the training. A checkpoint between two optimizer steps, with
    `accumulate_grad_batches` above 1, also contains the gradients accumulated so far, on one device and with DDP.

    If the number of ranks has changed since the checkpoint, each new rank starts with the random state of a saved rank.
    """

    def __init__(self) -> None:
        self._before_look: State | None = None  # random state before the current validation
        self._restored: State | None = None
        self._is_unfinished = False  # True while gradients are accumulated before an optimizer step
        self._has_begun = False  # True from the first training batch of a run on

    @override
    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._before_look = random_state(pl_module.device)

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._before_look is not None:
            set_random_state(self._before_look, pl_module.device)
            self._before_look = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._has_begun = False

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._has_begun:
            self._has_begun = True
            _set_accumulation(trainer)
        if self._restored is None:
            return
        restored, self._restored = self._restored, None
        of_ranks = restored["random"]
        set_random_state(of_ranks[trainer.global_rank % len(of_ranks)], pl_module.device)
        for name, parameter in pl_module.named_parameters():
            if name in restored["gradients"]:
                parameter.grad = restored["gradients"][name].to(parameter.device)

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        self._is_unfinished = True

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self._is_unfinished = False

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        mine = random_state(pl_module.device) if self._before_look is None else self._before_look
        gradients = _gradients(trainer, pl_module) if self._is_unfinished else {}
        checkpoint[STATE_KEY] = {"random": _states_of_all_ranks(mine, trainer.world_size), "gradients": gradients}

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit":
            self._restored = checkpoint.get(STATE_KEY)
            self._is_unfinished = bool(self._restored and self._restored["gradients"])


def _set_accumulation(trainer: pl.Trainer) -> None:
    """Set the number of accumulated batches that Lightning's GradientAccumulationScheduler gives for the epoch.

    The scheduler acts at the start of an epoch, which a run that resumes within an epoch does not have.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by Lightning at run time
        if hasattr(callback, "get_accumulate_grad_batches"):
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)


def random_state(device: torch.device) -> State:
    """Return the states of all random generators that training on `device` may use, as plain values and tensors."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: State = {
        "torch": torch.get_rng_state(),
        "numpy": (torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, gauss),
        "python": random.getstate(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: State, device: torch.device) -> None:
    """Restore the states that `random_state` returned; states of another type of accelerator are ignored."""
    keys, position, has_gauss, gauss = state["numpy"]
    torch.set_rng_state(state["torch"].cpu())
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))
    random.setstate(state["python"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif device.type == "mps" and "mps" in state:
        torch.mps.set_rng_state(state["mps"].cpu())


def _states_of_all_ranks(mine: State, world_size: int) -> list[State]:
    if world_size == 1 or not torch.distributed.is_initialized():
        return [mine]
    found: list[Any] = [None] * world_size
    torch.distributed.all_gather_object(found, mine)
    return found


def _gradients(trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Tensor]:
    """Return the accumulated gradients, averaged over ranks; empty if the strategy splits gradients between ranks."""
    if trainer.world_size > 1 and not any(base.__name__ == "DDPStrategy" for base in type(trainer.strategy).__mro__):
        return {}
    found = {}
    for name, parameter in pl_module.named_parameters():
        if parameter.grad is not None:
            mean = trainer.strategy.reduce(parameter.grad.detach().clone(), reduce_op="mean")
            assert isinstance(mean, Tensor)
            found[name] = mean.cpu()
    return found
