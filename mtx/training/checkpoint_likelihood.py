"""Likelihood of given translations under the model of a checkpoint, for bits per byte.

Shapes: n pairs, B pairs of a batch, T target positions, V target vocabulary.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from mtx.batches.collate import Batch
from mtx.evaluation.contrastive import TargetScorer
from mtx.evaluation.likelihood import without_first_labels
from mtx.training.checkpoint_translator import (
    CheckpointTranslator,
    Generator,
    ReferenceGenerator,
    SearchOptions,
    batches_by_length,
)
from mtx.training.reference.network import Transformer
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

    NaN for pairs that are longer than the model takes. None for a user's own model without the method `target_nats`.

    Args:
        translator: the translator of a checkpoint.
        sources: token ids of each source, without special ids.
        targets: token ids of each target, without special ids.
        batch_tokens: padded positions of a batch.
        reach: called after each batch with the number of finished pairs.
    """
    if (nats_of := _scorer(translator.generator)) is None:
        return None
    layout = translator.state.batch_format
    extra = translator.num_source_extra, layout.target_extra
    positions = [
        (len(source) + extra[0], len(target) + extra[1]) for source, target in zip(sources, targets, strict=True)
    ]
    longest = [sum(sides) if layout.is_causal else max(sides) for sides in positions]
    found = np.full(len(sources), np.nan)
    most = _max_length(translator)
    lengths = [length if length <= most else 0 for length in longest]
    num_done = lengths.count(0)
    for rows in batches_by_length(lengths, SearchOptions(beam=1, batch_tokens=batch_tokens)):
        batch = translator.batch_of([sources[row] for row in rows], [targets[row] for row in rows])
        found[rows] = nats_of(batch).cpu().numpy()
        num_done += len(rows)
        if reach is not None:
            reach(num_done)
    return found


def _scorer(generator: Generator) -> Callable[[Batch], torch.Tensor] | None:
    """Return what computes the nats of each target of a batch; None if the model cannot."""
    if isinstance(generator, ReferenceGenerator):
        return partial(_network_nats, generator.network, generator.forced_target_tokens)
    model = getattr(generator, "model", None)
    return model.target_nats if isinstance(model, TargetScorer) else None


def _max_length(translator: CheckpointTranslator) -> float:
    """Return the number of positions of a side that the model takes; of both together in a decoder-only row."""
    if isinstance(translator.generator, ReferenceGenerator):
        return translator.generator.network.max_positions
    layout = translator.state.batch_format
    both = layout.max_source_tokens or math.inf, layout.max_target_tokens or math.inf
    return sum(both) if layout.is_causal else min(both)


def _network_nats(network: Transformer, forced_target_tokens: int, batch: Batch) -> torch.Tensor:
    names = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids", "labels", "decoder_attn_mask")
    source_ids, source_mask, decoder_ids, labels, real = (batch[name] for name in names)
    hidden = network(source_ids, source_mask, decoder_ids)
    return network_nll(
        network, *without_first_labels(hidden[real], labels[real], real.sum(dim=1), forced_target_tokens)
    )
