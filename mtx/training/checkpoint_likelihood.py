"""Likelihood of given translations under the reference model of a checkpoint, for bits per byte.

Shapes: n pairs, B pairs of a batch, T target positions, V target vocabulary.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mtx.training.checkpoint_translator import (
    CheckpointTranslator,
    ReferenceGenerator,
    SearchOptions,
    batches_by_length,
)
from mtx.training.reference.target_likelihoods import network_nll


@torch.inference_mode()
def target_nats(
    translator: CheckpointTranslator,
    sources: Sequence[list[int]],
    targets: Sequence[list[int]],
    *,
    batch_tokens: int,
    reach: Callable[[int], None] | None = None,
) -> NDArray[np.float64] | None:
    """Return the negative log-likelihood of each target, EOS included, in nats: float64 [n].

    NaN for pairs that are longer than the model takes. None for another model than the reference model, whose logits
    mtx does not know.

    Args:
        translator: the translator of a checkpoint.
        sources: token ids of each source, without special ids.
        targets: token ids of each target, without special ids.
        batch_tokens: padded positions of a batch.
        reach: called after each batch with the number of finished pairs.
    """
    generator = translator.generator
    if not isinstance(generator, ReferenceGenerator):
        return None
    network = generator.network
    longest = [max(len(source), len(target)) + 1 for source, target in zip(sources, targets, strict=True)]
    found = np.full(len(sources), np.nan)
    lengths = [length if length <= network.max_positions else 0 for length in longest]
    num_done = lengths.count(0)
    for rows in batches_by_length(lengths, SearchOptions(beam=1, batch_tokens=batch_tokens)):
        batch = translator.batch_of([sources[row] for row in rows], [targets[row] for row in rows])
        source_ids, source_mask, decoder_ids, labels, real = _fields(batch)
        hidden = network(source_ids, source_mask, decoder_ids)
        found[rows] = network_nll(network, hidden[real], labels[real], real.sum(dim=1)).numpy()
        num_done += len(rows)
        if reach is not None:
            reach(num_done)
    return found


def _fields(batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
    names = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids", "labels", "decoder_attn_mask")
    return tuple(batch[name] for name in names)
