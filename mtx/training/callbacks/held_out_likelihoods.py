"""Callback that collects the log-likelihood of each held-out pair from all ranks, for intervals over sentences."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from mtx.evaluation.likelihood import PairScorer
from mtx.training.lightning_compat import LightningCompat, pl

Table = NDArray[np.float64]  # [3, n]: rows, nats and bytes


class HeldOutLikelihoods(LightningCompat, pl.Callback):
    """Hands the log-likelihoods of the first validation set to a function, on the first rank.

    The function is called after each validation that is no part of a training. It is also called at the end of a
    training with the last validation in it. Models that are no `PairScorer` are passed over. All ranks gather together.

    Args:
        save: takes the row, the nats and the bytes of each pair, float64 [3, n]. It must be picklable if the Trainer
            starts ranks that do not share its memory.
    """

    def __init__(self, save: Callable[[Table], object]) -> None:
        self._save = save
        self._last: Table | None = None

    @override
    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking or not isinstance(pl_module, PairScorer):
            return
        found = next(iter(pl_module.pair_likelihoods.values()), None)
        if found is None:
            return
        self._last = gathered_over_ranks(trainer, found.as_tensor()).numpy()
        if trainer.state.fn == "validate":
            self._save_last(trainer)

    @override
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        if self._last is not None and self._last.shape[1] and trainer.is_global_zero:
            self._save(self._last)
        self._last = None


def gathered_over_ranks(trainer: pl.Trainer, table: Tensor) -> Tensor:
    """Return the columns of all ranks' tables, float64 [3, n] on the CPU; tables may have unequal numbers of columns.

    Rows are the first line of a table, and are not negative. All ranks must call this function together.
    """
    if trainer.world_size == 1:
        return table
    device = trainer.strategy.root_device
    own = torch.tensor(float(table.shape[1]), device=device)
    longest = int(trainer.strategy.reduce(own, reduce_op="max"))
    padded = torch.full((len(table), longest), -1.0, dtype=table.dtype, device=device)
    padded[:, : table.shape[1]] = table.to(device)
    every = trainer.strategy.all_gather(padded).cpu()  # [ranks, 3, longest]
    joined = every.permute(1, 0, 2).reshape(len(table), -1)
    return joined[:, joined[0] >= 0]
