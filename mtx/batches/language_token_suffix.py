"""Batches of the first mBART, whose language tokens come last in a source and start the decoder of a target.

Rows of token ids begin with the language token. This module moves the token of a source behind its EOS, and lets that
of a target replace BOS: `source </s> en_XX`, and `de_DE target` for the labels `target </s>` (Liu et al. 2020,
"Multilingual Denoising Pre-training for Neural Machine Translation").

B pairs, S source and T target positions, N and M all source and target positions of a flat batch.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def padded_with_suffix(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of a padded batch with the language tokens in their places.

    Args:
        tensors: row ids [B], source ids and mask [B, S], decoder ids, labels and mask [B, T + 1]. Each source and each
            target in them begins with a language token.

    Returns:
        New tensors in the same order, with T target positions.
    """
    rows, source, mask, *targets = tensors
    moved = source.roll(-1, dims=1)
    if source.numel():
        moved[:, -1] = source[:, -1]  # padding of a source that does not fill its row
        moved[torch.arange(len(source)), (mask.sum(dim=1) - 1).clamp(min=0)] = source[:, 0]
    return [rows, moved, mask, *(each[:, 1:].clone(memory_format=torch.contiguous_format) for each in targets)]


def flat_with_suffix(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Return the tensors of a flat batch with the language tokens in their places.

    Args:
        tensors: row ids [B], source ids [N], offsets [B + 1] and positions [N], decoder ids and labels [M + B], offsets
            [B + 1] and positions [M + B]. Each source and each target in them begins with a language token.

    Returns:
        New tensors in the same order, with M target positions.
    """
    rows, source, offsets, positions, inputs, labels, target_offsets, target_positions = tensors
    moved = source.roll(-1)
    moved[offsets[1:].long() - 1] = source[offsets[:-1].long()]
    kept = target_positions > 0
    pairs = torch.arange(len(target_offsets), dtype=target_offsets.dtype)
    targets = inputs[kept], labels[kept], target_offsets - pairs, target_positions[kept] - 1
    return [rows, moved, offsets, positions, *targets]
