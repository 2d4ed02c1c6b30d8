"""Position embeddings of transformers models for packed batches: each pair has the positions that it has alone.

Models such as BART, Marian and M2M-100 number the positions of a batch in a module `embed_positions`, and their
encoders take no `position_ids`. While `positions_of_pairs` is active, such a module gets the batch as padded rows, one
for each pair, and its output is packed again. So it computes what it computes for a padded batch, with the same
gradients.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

POSITION_MODULE = "embed_positions"


@contextmanager
def positions_of_pairs(stack: nn.Module, offsets: Tensor, pad_id: int) -> Iterator[None]:
    """Let the position embeddings of an encoder or decoder number the positions of each pair from the start.

    Args:
        stack: the encoder or decoder; nothing happens without a module called `embed_positions`.
        offsets: pair i has the positions from offset i to offset i + 1, exclusive, int [B + 1].
        pad_id: the id of padding, by which M2M-100 knows which positions to number.
    """
    rows = _PaddedRows(offsets, pad_id)
    with ExitStack() as hooks:
        for name, module in stack.named_modules():
            if name.split(".")[-1] == POSITION_MODULE:
                hooks.enter_context(_removed(module.register_forward_pre_hook(rows.before, with_kwargs=True)))
                hooks.enter_context(_removed(module.register_forward_hook(rows.after)))
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


class _PaddedRows:
    """Hooks of a module that see packed tensors [1, N, ...] as padded rows [B, L, ...], L positions of the longest."""

    def __init__(self, offsets: Tensor, pad_id: int) -> None:
        offsets = offsets.long()
        lengths = offsets.diff()
        self._shape = len(lengths), int(lengths.max()) if len(lengths) else 0
        self._packed = 1, int(offsets[-1])
        self._pairs = torch.repeat_interleave(torch.arange(len(lengths), device=offsets.device), lengths)
        self._positions = torch.arange(self._packed[1], device=offsets.device) - offsets[self._pairs]
        self._pad_id = pad_id

    def before(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        return tuple(map(self._padded, args)), {name: self._padded(value) for name, value in kwargs.items()}

    def after(self, module: nn.Module, args: Any, output: Tensor) -> Tensor:
        if output.dim() == 2:  # one row for all pairs, as Marian returns it
            return output[self._positions][None]
        return output.expand(self._shape[0], *output.shape[1:])[self._pairs, self._positions][None]

    def _padded(self, value: Any) -> Any:
        if isinstance(value, Tensor) and tuple(value.shape[:2]) == self._packed:
            padded = value.new_full((*self._shape, *value.shape[2:]), 0 if value.is_floating_point() else self._pad_id)
            padded[self._pairs, self._positions] = value[0]
            return padded
        if isinstance(value, Tensor) and tuple(value.shape) == self._packed[1:]:  # positions of one row, from the first
            return value[: self._shape[1]]
        if isinstance(value, tuple | list) and tuple(value[:2]) == self._packed:  # a shape
            return torch.Size((*self._shape, *value[2:]))
        return value
