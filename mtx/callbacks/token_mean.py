"""Gradients of the mean over tokens, however these are cut into batches and dealt to ranks.

A model's loss is the mean over the real target tokens of one batch. Lightning takes the plain mean of that over
accumulated batches, and DDP over ranks: a token of a short batch then counts more than one of a long batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from mtx.callbacks.masks import target_mask
from mtx.errors import ConfigError, DataError
from mtx.lightning import OfBothPackages, pl

# Losses are weighed by tokens over this, so that half-precision gradients keep about their size until the step.
TYPICAL_TOKENS = 1024  # a power of two, by which floats are scaled without rounding
KEY = "mtx_token_mean"


class TokenMeanGradients(OfBothPackages, pl.Callback):
    """Makes each optimizer step's gradient that of one big batch: of all accumulated batches of all ranks.

    For modules whose `training_step` returns the mean loss per real target token of its batch, as cross entropy over
    labels does, and `transformers` models do. Each loss is weighed by its batch's tokens while its gradient flows, and
    before the optimizer's step, and before gradients are clipped, the sum is divided by all tokens. A window that an
    epoch's end cuts short, and ranks with unequal batches, come out right. Needs no look ahead, and no wait for the
    device. On one rank without accumulation it does nothing. The loss that is logged stays that of the batch.

    Works with automatic optimization on one device, DDP and FSDP, with any precision: a gradient scaler has taken its
    scale out before. Needs the target's mask in each batch (`decoder_attn_mask` or `decoder_attention_mask`).

    Raises:
        ConfigError: the module optimizes by itself, or the strategy accumulates by itself, as DeepSpeed does.
        DataError: a batch has no mask of the target.
    """

    def __init__(self) -> None:
        self._is_needed = False
        self._batch_tokens: Tensor | None = None  # float [], of the batch at hand
        self._tokens: Tensor | None = None  # float [], of this rank since the last step
        self._restored: float | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not pl_module.automatic_optimization:
            raise ConfigError(
                "TokenMeanGradients weighs the losses of automatic optimization, but "
                f"{type(pl_module).__name__} sets automatic_optimization=False. Divide by the tokens there, and leave "
                "the callback out"
            )
        if trainer.strategy.handles_gradient_accumulation:
            raise ConfigError(
                f"TokenMeanGradients needs Lightning to accumulate gradients, but {type(trainer.strategy).__name__} "
                "does so by itself. Choose trainer.strategy=ddp or fsdp, or leave the callback out"
            )
        self._tokens = None
        if self._restored is not None:
            self._tokens = torch.tensor(self._restored, dtype=_exact(pl_module.device), device=pl_module.device)
            self._restored = None

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # a schedule may change the accumulation while training goes on
        self._is_needed = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1
        if not self._is_needed:
            return
        mask = target_mask(batch)
        if mask is None:
            names = ", ".join(map(str, batch)) if hasattr(batch, "keys") else f"it is a {type(batch).__name__}"
            raise DataError(
                "TokenMeanGradients counts real target tokens by decoder_attn_mask or decoder_attention_mask, but the "
                f"batch has neither ({names}). Add the mask to the batch, or leave the callback out"
            )
        self._batch_tokens = mask.count_nonzero().to(_exact(mask.device))

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if not self._is_needed or self._batch_tokens is None:
            return
        tokens, self._batch_tokens = self._batch_tokens, None
        self._tokens = tokens if self._tokens is None else self._tokens + tokens
        weight = (tokens / TYPICAL_TOKENS).to(loss.dtype)
        loss.register_hook(lambda gradient: gradient * weight)  # type: ignore[no-untyped-call]  # torch's

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._tokens is None:
            return
        mean = _mean_over_ranks(trainer, self._tokens)
        self._tokens = None
        # Lightning has divided by the batches, DDP by the ranks; only zero gradients come of no tokens
        factor = TYPICAL_TOKENS * trainer.accumulate_grad_batches / mean.clamp(min=1)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._is_needed:  # on every rank or on none: they meet here
            tokens = torch.zeros((), device=pl_module.device) if self._tokens is None else self._tokens
            if mean := float(_mean_over_ranks(trainer, tokens)):
                checkpoint[KEY] = mean

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit":
            self._restored = checkpoint.get(KEY)


def _mean_over_ranks(trainer: pl.Trainer, tokens: Tensor) -> Tensor:
    mean = trainer.strategy.reduce(tokens.clone(), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def _exact(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
