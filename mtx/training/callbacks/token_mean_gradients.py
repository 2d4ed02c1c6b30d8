"""Callback that gives the gradient of the mean loss per token, however the tokens are split into batches and ranks.

The loss of a model is the mean over the real target tokens of one batch. Lightning averages this loss over accumulated
batches, and DDP averages it over ranks. Without this callback, a token of a small batch would count more than a token
of a large batch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from typing_extensions import override

from mtx.batches.schema import target_tokens
from mtx.errors import ConfigError, DataError
from mtx.training.lightning_compat import LightningCompat, pl

# Each loss is weighted by tokens / TYPICAL_TOKENS, so that half-precision gradients keep about their size.
TYPICAL_TOKENS = 1024  # a power of two, because scaling floats by a power of two does not round
STATE_KEY = "mtx_token_mean"


class TokenMeanGradients(LightningCompat, pl.Callback):
    """Make the gradient of each optimizer step equal to that of one big batch of all accumulated batches of all ranks.

    The module's `training_step` must return the mean loss per real target token of its batch. Cross entropy over labels
    and models of `transformers` do so. During the backward pass, the gradient of each loss is multiplied by the number
    of tokens in its batch. Before gradient clipping and the optimizer step, the summed gradient is divided by the
    number of all tokens. The result is also right if the end of an epoch cuts the accumulation short, and if ranks have
    batches of unequal size. The callback needs no future batches and never waits for the device. On one rank without
    accumulation, the callback does nothing. The logged loss is unchanged: it is the mean loss of the batch.

    The callback works with automatic optimization on one device, DDP and FSDP, with any precision; a gradient scaler
    unscales the gradients before. Each batch must contain the target mask (`decoder_attn_mask` or
    `decoder_attention_mask`), or be flat.

    Raises:
        ConfigError: the module uses manual optimization, or the strategy accumulates gradients itself, as DeepSpeed
            does.
        DataError: a padded batch has no target mask.
    """

    def __init__(self) -> None:
        self._is_needed = False
        self._batch_tokens: Tensor | None = None  # float [], tokens of the current batch
        self._tokens: Tensor | None = None  # float [], tokens of this rank since the last optimizer step
        self._restored: float | None = None

    @override
    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not pl_module.automatic_optimization:
            raise ConfigError(
                "TokenMeanGradients works only with automatic optimization, but "
                f"{type(pl_module).__name__} sets automatic_optimization=False. Remove the callback, and divide by "
                "the number of tokens in the module"
            )
        if trainer.strategy.handles_gradient_accumulation:
            raise ConfigError(
                f"TokenMeanGradients needs Lightning to accumulate gradients, but {type(trainer.strategy).__name__} "
                "accumulates them itself. Set trainer.strategy=ddp or trainer.strategy=fsdp, or remove the callback"
            )
        self._tokens = None
        if self._restored is not None:
            self._tokens = torch.tensor(self._restored, dtype=_exact_dtype(pl_module.device), device=pl_module.device)
            self._restored = None

    @override
    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # a scheduler may change accumulate_grad_batches during training
        self._is_needed = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1
        if not self._is_needed:
            return
        tokens = target_tokens(batch)
        if tokens is None:
            names = ", ".join(map(str, batch)) if hasattr(batch, "keys") else f"it is a {type(batch).__name__}"
            raise DataError(
                "TokenMeanGradients counts real target tokens with decoder_attn_mask or decoder_attention_mask, but "
                f"the batch has neither ({names}). Add the mask to the batch, or remove the callback"
            )
        self._batch_tokens = tokens.to(_exact_dtype(tokens.device))

    @override
    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor) -> None:
        if not self._is_needed or self._batch_tokens is None:
            return
        tokens, self._batch_tokens = self._batch_tokens, None
        self._tokens = tokens if self._tokens is None else self._tokens + tokens
        weight = (tokens / TYPICAL_TOKENS).to(loss.dtype)
        loss.register_hook(lambda gradient: gradient * weight)  # type: ignore[no-untyped-call]  # untyped in torch

    @override
    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        if self._tokens is None:
            return
        mean = _mean_over_ranks(trainer, self._tokens)
        self._tokens = None
        # Lightning has divided by the number of batches, DDP by the number of ranks; without tokens, gradients are 0
        factor = TYPICAL_TOKENS * trainer.accumulate_grad_batches / mean.clamp(min=1)
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(factor)

    @override
    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._is_needed:  # the same on all ranks, which must reduce together
            tokens = torch.zeros((), device=pl_module.device) if self._tokens is None else self._tokens
            if mean := float(_mean_over_ranks(trainer, tokens)):
                checkpoint[STATE_KEY] = mean

    @override
    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == "fit":
            self._restored = checkpoint.get(STATE_KEY)


def _mean_over_ranks(trainer: pl.Trainer, tokens: Tensor) -> Tensor:
    mean = trainer.strategy.reduce(tokens.clone(), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return mean


def _exact_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
