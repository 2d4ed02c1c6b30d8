"""Lengths of pairs in a batch format: special tokens included, cut to the maximum length. Needs no torch."""

import numpy as np

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import Lengths
from mtx.batches.prompted_pairs import PromptVariants, prompts_of
from mtx.data.token_rows import EncodedPairs


def batch_lengths(pairs: EncodedPairs, batch_format: BatchFormat) -> Lengths:
    """Return the number of positions of each pair on each side in a batch, before truncation.

    In a decoder-only batch, the prompt is the source side: BOS, the source, and the text around it.
    """
    if batch_format.is_causal:
        around = prompts_of(pairs).lengths
        return Lengths(pairs.num_source_tokens + around, pairs.num_target_tokens + np.int32(1))
    return Lengths(
        pairs.num_source_tokens + np.int32(batch_format.source_extra),
        pairs.num_target_tokens + np.int32(batch_format.target_extra),
    )


def truncated_lengths(lengths: Lengths, batch_format: BatchFormat, prompts: PromptVariants | None = None) -> Lengths:
    """Return `lengths`, each limited to the format's maximum of its side.

    In a decoder-only batch, the text around the source, of the lengths in `prompts`, stays whole.
    """
    most_source, most_target = batch_format.max_source_tokens, batch_format.max_target_tokens
    source = lengths.source if most_source is None else np.minimum(lengths.source, np.int32(most_source))
    return Lengths(
        source if prompts is None else np.maximum(source, prompts.lengths),
        lengths.target if most_target is None else np.minimum(lengths.target, np.int32(most_target)),
    )


def tensor_lengths(lengths: Lengths, batch_format: BatchFormat) -> Lengths:
    """Return the number of positions of each pair in the tensors of a batch.

    Prompt and target of a decoder-only batch are one tensor, so their sum counts as source, and the target as 0.
    """
    if not batch_format.is_causal:
        return lengths
    return Lengths(lengths.source + lengths.target, np.zeros_like(lengths.target))
