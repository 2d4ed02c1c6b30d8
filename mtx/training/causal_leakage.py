"""Check, before training, that a decoder-only model computes the loss of each pair of a row from that pair alone."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, collate_rows
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.data.token_rows import TokenRows
from mtx.errors import ConfigError
from mtx.evaluation.contrastive import TargetScorer
from mtx.library_errors import library_reason
from mtx.training.pair_leakage import evaluation_mode, model_device

log = logging.getLogger(__name__)

NUM_PAIRS, SIDE_TOKENS = 4, 3  # two pairs in each of two rows
ROW_TOKENS = 2 * (2 * SIDE_TOKENS + 3) + 1  # BOS, EOS between and EOS of each pair, and one position of padding
MAX_CHANGE = 1e-6  # of a loss, relative: equal inputs of equal shapes give equal losses but for rounding


def check_rows_keep_pairs_apart(model: Any, layout: BatchFormat, num_ids: int, num_rows: int) -> None:
    """Check that a change of the first pair of a batch leaves the losses of the other pairs as they are.

    Args:
        model: the LightningModule. One without `target_nats`, or without weights yet, is not checked.
        layout: the format of a batch.
        num_ids: ids below this number are valid.
        num_rows: rows of a training batch; two of them are tried at most.

    Raises:
        ConfigError: a loss depends on another pair.
    """
    if not (isinstance(model, TargetScorer) and isinstance(model, torch.nn.Module)):
        return
    if next(model.parameters(), None) is None:
        return
    try:
        with evaluation_mode(model, model_device(model), uses_autocast=False):
            found = [model.target_nats(_batch(layout, num_ids, num_rows, first)).double().cpu() for first in (0, 1)]
    except Exception as error:  # such as a model that needs its Trainer; training tells what is wrong
        log.warning("it could not be checked that the pairs of a row do not mix: %s", library_reason(error))
        return
    before, after = (losses[1:].tolist() for losses in found)
    for was, now in zip(before, after, strict=True):
        if not abs(was - now) <= MAX_CHANGE * max(1, abs(was)):
            raise ConfigError(
                f"{type(model).__name__} mixes the pairs of a row with datamodule.batch_format=causal: after one pair "
                f"was changed, the loss of another went from {was:.7g} to {now:.7g} nats. Give a transformers model "
                "mtx.batches.collate_causal.model_inputs(batch), and flash attention only batches of one row; or set "
                "sampler=token_budget, with one pair a row"
            )


def _batch(layout: BatchFormat, num_ids: int, num_rows: int, first: int) -> Batch:
    """Return a batch of made-up pairs; only its first pair depends on `first`."""
    ids, other = (
        np.random.default_rng(seed).integers(min(4, num_ids - 1), num_ids, (NUM_PAIRS, 2, SIDE_TOKENS))
        for seed in (0, 1 + first)
    )
    ids[0] = other[0]
    sources, targets = (TokenRows.of(ids[:, side].tolist()) for side in (0, 1))
    prompt = PromptVariants(TokenRows.of([[layout.target.bos]]), TokenRows.of([[layout.target.eos]]))
    pairs = PromptedPairs(sources, targets, prompts=prompt)
    whole = replace(layout, max_source_tokens=None, max_target_tokens=None)
    if layout.length_multiple == NO_PADDING:
        return collate_rows(pairs, np.arange(NUM_PAIRS), whole)
    widths = (1, 2 * ROW_TOKENS) if num_rows == 1 else (2, ROW_TOKENS)
    return collate_rows(pairs, np.arange(NUM_PAIRS), whole, widths=widths)
