"""Lengths of pairs in a batch format: special tokens included, cut to the maximum length. Needs no torch."""

import numpy as np

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import Lengths
from mtx.data.token_rows import EncodedPairs


def batch_lengths(pairs: EncodedPairs, batch_format: BatchFormat) -> Lengths:
    """Return the number of positions of each pair on each side in a batch, before truncation."""
    return Lengths(
        pairs.num_source_tokens + np.int32(batch_format.source_extra),
        pairs.num_target_tokens + np.int32(batch_format.target_extra),
    )


def truncated_lengths(lengths: Lengths, batch_format: BatchFormat) -> Lengths:
    """Return `lengths`, each limited to the format's maximum of its side."""
    most_source, most_target = batch_format.max_source_tokens, batch_format.max_target_tokens
    return Lengths(
        lengths.source if most_source is None else np.minimum(lengths.source, np.int32(most_source)),
        lengths.target if most_target is None else np.minimum(lengths.target, np.int32(most_target)),
    )
