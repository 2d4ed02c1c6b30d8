"""Decoder-only batches: prompt and target of each pair in one sequence, one or several sequences in a row.

R is the number of rows, L their positions, B the number of pairs. The rows hold one pair each, or several whole pairs
(packed rows), or there is one row of all pairs without padding. Pairs stand in the order of `row_ids`, row after row.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.prompted_pairs import prompts_of
from mtx.batches.schema import IGNORED_LABEL, is_causal
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import DataError

Int = NDArray[np.int64]

MODEL_INPUTS = ("input_ids", "position_ids", "labels")
PROMPT_INPUTS = ("input_ids", "attention_mask")


def causal_arrays(pairs: EncodedPairs, rows: Int, layout: BatchFormat, widths: tuple[int, int] = (0, 0)) -> list[Int]:
    """Return the arrays of a batch in the order of the schema `causal`, all int64; see `collate_rows`.

    Args:
        pairs: the pairs, with prompts.
        rows: numbers of the pairs, int64 [B].
        layout: the format of the batch.
        widths: rows and positions of a row, for packed rows; (0, 0): one pair a row, or one row without padding.

    Raises:
        DataError: the pairs have no prompts, or a pair is longer than a packed row.
    """
    sequences = _Sequences(pairs, rows, layout)
    first, shape = _places(sequences.lengths, widths, layout.length_multiple)
    return [*sequences.tables(first, shape, layout.target.pad), rows]


def prompt_arrays(pairs: EncodedPairs, rows: Int, layout: BatchFormat) -> tuple[Int, Int]:
    """Return prompts without targets, padded on the left as generation needs: ids and mask, int64 [B, L].

    A prompt ends with the target ids that are given, as many as `layout.forced_target_tokens` says.

    Raises:
        DataError: the pairs have no prompts.
    """
    sequences = _Sequences(pairs, rows, layout, is_prompt=True)
    width = int(sequences.lengths.max(initial=0))
    first = (np.arange(len(rows)) + 1) * width - sequences.lengths
    ids, _, _, segments = sequences.tables(first, (len(rows), width), layout.target.pad)
    return ids, (segments > 0).astype(np.int64)


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a transformers model for a decoder-only batch, with `use_cache=False`.

    Models of transformers see from positions that begin again which tokens belong together, so that no pair attends to
    another. They do so only without a mask and without a cache, which they make by default. Flash attention does so
    only for a batch of one row. Any other model needs `block_causal_mask`.
    """
    return {**{name: batch[name] for name in MODEL_INPUTS}, "use_cache": False}


def prompt_inputs(batch: Mapping[str, Any], *, forced_target_tokens: int = 0) -> dict[str, Tensor]:
    """Return the prompts of a decoder-only batch without targets, padded on the left with 0, as `generate` takes them.

    The prompts are in the order of `row_ids`: `input_ids` and `attention_mask`, int64 [B, longest prompt]. A batch for
    prediction has them already.

    Args:
        batch: the batch.
        forced_target_tokens: number of given ids at the start of each target, such as a language token, with which the
            prompts then end. mtx fills in the argument of this name of a model's constructor.

    Raises:
        DataError: the batch has no `segment_ids`.
    """
    if not is_causal(batch) and set(PROMPT_INPUTS) <= set(batch):
        return {name: batch[name] for name in PROMPT_INPUTS}
    segments, is_target = _segments(batch), batch["labels"] != IGNORED_LABEL
    is_given = torch.zeros_like(is_target)
    is_given[:, :-1] = is_target[:, :-1] & is_target[:, 1:]  # without EOS, which ends each target
    is_given &= _numbers_in_targets(is_target) < forced_target_tokens
    is_prompt = (segments > 0) & (~is_target | is_given)
    lengths = torch.bincount(batch["segment_ids"][is_prompt], minlength=len(batch["row_ids"]) + 1)[1:]
    width = int(lengths.max()) if len(lengths) else 0
    mask = torch.arange(width, device=lengths.device) >= width - lengths[:, None]
    ids = torch.zeros(mask.shape, dtype=torch.int64, device=lengths.device)
    ids[mask] = batch["input_ids"][is_prompt]
    return {"input_ids": ids, "attention_mask": mask.long()}


def block_causal_mask(batch: Mapping[str, Any]) -> Tensor:
    """Return which positions a position may attend to: itself, and those before it in its own pair. Bool [R, 1, L, L].

    It is the mask of `torch.nn.functional.scaled_dot_product_attention`. A padding position attends to itself alone, so
    that no row of the attention is empty.

    Raises:
        DataError: the batch has no `segment_ids`.
    """
    segments = _segments(batch)
    is_same = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    positions = torch.arange(segments.shape[1], device=segments.device)
    is_earlier, is_itself = positions[:, None] >= positions, positions[:, None] == positions
    return (is_same & is_earlier | is_itself)[:, None]


def pair_offsets(batch: Mapping[str, Any]) -> Tensor:
    """Return where each pair begins among the real tokens of a batch, and where the last one ends: int32 [B + 1].

    They are the `cu_seqlens` of varlen attention over `input_ids[segment_ids > 0]`.

    Raises:
        DataError: the batch has no `segment_ids`.
    """
    sizes = torch.bincount(_segments(batch).flatten(), minlength=len(batch["row_ids"]) + 1)[1:]
    return torch.nn.functional.pad(sizes.cumsum(0), (1, 0)).int()


def _numbers_in_targets(is_target: Tensor) -> Tensor:
    """Return the number from 0 of each target position in its target, int64 [R, L]; a prompt precedes each target."""
    counts = is_target.long().cumsum(1)
    before = torch.where(is_target, 0, counts).cummax(1).values
    return counts - before - 1


def _segments(batch: Mapping[str, Any]) -> Tensor:
    if not is_causal(batch):
        raise DataError(
            f"a decoder-only batch has segment_ids, but the batch has {', '.join(map(str, batch))}. Set "
            "datamodule.batch_format=causal"
        )
    segments: Tensor = batch["segment_ids"]
    return segments


class _Sequences:
    """The sequences of some pairs: BOS and ids before the source, source, ids between, target and EOS.

    With `is_prompt`, the target consists of its given ids, and no EOS follows.
    """

    def __init__(self, pairs: EncodedPairs, rows: Int, layout: BatchFormat, *, is_prompt: bool = False) -> None:
        prompts, located = prompts_of(pairs), pairs.row_numbers(rows)
        variants = prompts.numbers(rows).astype(np.int64)
        before, between = _Part(prompts.before, variants), _Part(prompts.between, variants)
        source, target = _Part(pairs.source, located), _Part(pairs.target, located)
        if layout.max_source_tokens is not None:
            source.limit(layout.max_source_tokens - before.lengths - between.lengths)
        if layout.max_target_tokens is not None:
            target.limit(np.full(len(rows), layout.max_target_tokens - 1))
        if is_prompt:
            target.limit(np.full(len(rows), layout.forced_target_tokens))
        self._parts = [before, source, between, target]
        self._eos = None if is_prompt else layout.target.eos
        prompt = before.lengths + source.lengths + between.lengths
        self._prompt_lengths = prompt
        self.lengths = prompt + target.lengths + (not is_prompt)

    def tables(self, first: Int, shape: tuple[int, int], pad: int) -> tuple[Int, Int, Int, Int]:
        """Return ids, positions, labels and segments, int64 [R, L]; pair i begins at place `first[i]` of the table."""
        size = shape[0] * shape[1]
        ids, positions, labels, segments = (np.full(size, value) for value in (pad, 0, IGNORED_LABEL, 0))
        start = first
        for part in self._parts:
            ids[_ranges(start, part.lengths)] = part.ids()
            start = start + part.lengths
        if self._eos is not None:
            ids[start] = self._eos
        places = _ranges(first, self.lengths)
        positions[places] = _ranges(np.zeros_like(first), self.lengths)
        segments[places] = np.repeat(np.arange(1, len(first) + 1), self.lengths)
        answers = _ranges(first + self._prompt_lengths, self.lengths - self._prompt_lengths)
        labels[answers] = ids[answers]
        return ids.reshape(shape), positions.reshape(shape), labels.reshape(shape), segments.reshape(shape)


class _Part:
    """The ids of one part of each sequence."""

    def __init__(self, rows: TokenRows, chosen: Int) -> None:
        self._ids, self._starts = rows.ids, rows.offsets[chosen]
        self.lengths = rows.offsets[chosen + 1] - self._starts

    def limit(self, most: Int) -> None:
        self.lengths = np.minimum(self.lengths, np.maximum(most, 0))

    def ids(self) -> NDArray[Any]:
        found: NDArray[Any] = self._ids[_ranges(self._starts, self.lengths)]
        return found


def _places(lengths: Int, widths: tuple[int, int], length_multiple: int) -> tuple[Int, tuple[int, int]]:
    """Return the first place of each pair in the table of a batch, int64 [B], and the shape of the table."""
    ends = np.cumsum(lengths)
    begins = ends - lengths
    if any(widths):
        num_rows, width = widths
        if (longest := int(lengths.max(initial=0))) > width:
            raise DataError(
                f"a packed row has {width} positions, but a pair has {longest} tokens. Set "
                f"sampler.row_tokens={longest} or more"
            )
        firsts = _row_firsts(ends, width)
        number = np.searchsorted(firsts, np.arange(len(lengths)), side="right") - 1
        return number * width + begins - begins[firsts[number]], (max(num_rows, len(firsts)), width)
    if length_multiple == NO_PADDING:
        return begins, (1, int(lengths.sum()))
    width = -(-int(lengths.max(initial=0)) // length_multiple) * length_multiple
    return np.arange(len(lengths)) * width, (len(lengths), width)


def _row_firsts(ends: Int, width: int) -> Int:
    """Return the number of the first pair of each packed row, int64.

    Each row takes the next pairs as long as they fit. No division of the same order into rows has fewer rows, so a
    planned batch never gets more rows than its plan says.
    """
    firsts, begin = [], 0
    while begin < len(ends):
        firsts.append(begin)
        used = int(ends[begin - 1]) if begin else 0
        begin = max(begin + 1, int(np.searchsorted(ends, used + width, side="right")))
    return np.array(firsts, dtype=np.int64)


def _ranges(starts: Int, lengths: Int) -> Int:
    """Return the numbers from each start on, as many as its length says, one range after another."""
    ends = np.cumsum(lengths)
    return np.arange(int(lengths.sum())) + np.repeat(starts - ends + lengths, lengths)
