"""Collate rows of encoded pairs into batches of padded tensors.

B is the number of pairs, S and T the source and target positions of a batch. All tensors are padded on the right.
`collate_rows` creates no Python object per row. It uses the compiled kernels of `collate_compiled.py` if numba is
installed, else numpy index arithmetic; both give the same batches. A `Collator` builds several batches in one call, so
that a background thread seldom holds the interpreter lock.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.batches import collate_compiled
from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate_causal import causal_arrays
from mtx.batches.collate_causal_compiled import CausalKernels, CompiledCausalCollator, compiled_causal_kernels
from mtx.batches.collate_flat import flat_source, flat_target
from mtx.batches.language_token_suffix import flat_with_suffix, padded_with_suffix
from mtx.batches.prompted_pairs import prompts_of
from mtx.batches.schema import supported_schema
from mtx.data.token_rows import EncodedPairs
from mtx.errors import ConfigError

Batch = dict[str, Tensor]

Int = NDArray[np.int64]

# Roles and dtypes of the tensors that the kernels return for a batch, in order.
TENSOR_DTYPES = {
    **{"row_ids": torch.int64, "source_ids": torch.int64, "source_mask": torch.bool},
    **{"decoder_input": torch.int64, "labels": torch.int64, "target_mask": torch.bool},
}
FLAT_DTYPES = {
    **{"row_ids": torch.int64, "source_ids": torch.int64},
    **{"source_offsets": torch.int32, "source_positions": torch.int32},
    **{"decoder_input": torch.int64, "labels": torch.int64},
    **{"target_offsets": torch.int32, "target_positions": torch.int32},
}

_ANY_NUMBER = np.iinfo(np.int32).max  # capacity of a side without a maximum: no row has this many ids


class Collator:
    """Builds batches from rows of encoded pairs. Instances are picklable and thread-safe.

    Args:
        pairs: the encoded pairs.
        batch_format: format of the batches.
        compiled: False: use numpy; None: use compiled kernels if they are available, which the first call loads. Both
            give the same batches.
        pin_memory: whether to allocate tensors in pinned memory.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        batch_format: BatchFormat,
        *,
        compiled: bool | None = None,
        pin_memory: bool = False,
    ) -> None:
        self.pairs = pairs
        self.batch_format = batch_format
        self.compiled = compiled
        self.pin_memory = pin_memory

    def __call__(self, rows: Sequence[Int], widths: Sequence[tuple[int, int]] | None = None) -> list[Batch]:
        """Build one batch for each of `rows` (int64 [B]), padded to at least its S and T in `widths`.

        See `collate_rows`.
        """
        widths = [(0, 0)] * len(rows) if widths is None else widths
        if self.batch_format.is_causal:
            return self._causal_batches(rows, widths)
        if self.batch_format.is_flat and any(map(any, widths)):
            raise ConfigError(
                "the plan gives batches fixed widths, but batches with "
                f"datamodule.batch_format={self.batch_format.names} have no padding. Set datamodule.batch_format=mtx, "
                "or choose another sampler, such as sampler=random_tokens"
            )
        if self._compiled_collator is None:
            return [
                self._named_batch(self._numpy_tensors(each, least)) for each, least in zip(rows, widths, strict=True)
            ]
        return [self._named_batch(tensors) for tensors in self._compiled_collator(rows, widths)]

    def __getstate__(self) -> dict[str, Any]:
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_compiled_collator", "_compiled_causal_collator", "_tensor_places")
        }

    def _causal_batches(self, rows: Sequence[Int], widths: Sequence[tuple[int, int]]) -> list[Batch]:
        names = [field.name for field in supported_schema(self.batch_format.names).fields]
        made = None if (compiled := self._compiled_causal_collator) is None else compiled.batches(rows, widths)
        if made is None:  # without kernels, or with a pair that is too long, which numpy's way refuses
            made = [self._causal_tensors(each, shape) for each, shape in zip(rows, widths, strict=True)]
        return [dict(zip(names, tensors, strict=True)) for tensors in made]

    def _causal_tensors(self, rows: Int, widths: tuple[int, int]) -> collate_compiled.Tensors:
        rows = np.array(rows, dtype=np.int64)  # copied, because it becomes `row_ids`
        self._check_rows(rows)
        arrays = causal_arrays(self.pairs, rows, self.batch_format, widths)
        return [self._pinned_tensor(torch.from_numpy(array)) for array in arrays]

    def _check_rows(self, rows: Int) -> None:
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(self.pairs):
            raise IndexError(collate_compiled.rows_problem(len(self.pairs), rows))

    @cached_property
    def _compiled_collator(self) -> collate_compiled.CompiledCollator | None:
        source, target = self._sides
        kernels = None if self.compiled is False else _kernels(self.pairs, self.batch_format)
        if not isinstance(kernels, collate_compiled.Kernels):
            return None
        bos, label_pad = self.batch_format.target.bos, self.batch_format.label_padding
        is_flat = self.batch_format.is_flat
        collator = collate_compiled.CompiledFlatCollator if is_flat else collate_compiled.CompiledCollator
        selection, pinned = self._selection, self.pin_memory
        return collator(kernels, source, target, selection=selection, bos=bos, label_pad=label_pad, pin_memory=pinned)

    @cached_property
    def _compiled_causal_collator(self) -> CompiledCausalCollator | None:
        prompts = prompts_of(self.pairs)
        kernels = None if self.compiled is False else _kernels(self.pairs, self.batch_format)
        if not isinstance(kernels, CausalKernels):
            return None
        source, target = self._sides
        source = source._replace(capacity=_ANY_NUMBER, extra=0)
        return CompiledCausalCollator(
            kernels,
            source,
            target,
            prompts=prompts,
            layout=self.batch_format,
            selection=self._selection,
            pin_memory=self.pin_memory,
        )

    @property
    def _selection(self) -> NDArray[Any] | None:
        """Row number of each pair as the kernels read it: uint32 or int64, contiguous."""
        selection = self.pairs.selection
        if selection is None:
            return None
        return np.ascontiguousarray(selection, np.uint32 if selection.dtype == np.uint32 else np.int64)

    @property
    def _sides(self) -> tuple[collate_compiled.CollateSide, collate_compiled.CollateSide]:
        layout, multiple = self.batch_format, self.batch_format.length_multiple
        source, target, ids, extra = self.pairs.source, self.pairs.target, layout.source, layout.source_extra
        capacity = (
            _id_capacity(layout.max_source_tokens, extra),
            _id_capacity(layout.max_target_tokens, layout.target_extra),
        )
        return (
            collate_compiled.CollateSide(source.ids, source.offsets, capacity[0], ids.pad, ids.eos, extra, multiple),
            collate_compiled.CollateSide(
                target.ids,
                target.offsets,
                capacity[1],
                layout.target.pad,
                layout.target.eos,
                1,
                multiple,
                1 - layout.target_extra,
            ),
        )

    def _numpy_tensors(self, rows: Int, least: tuple[int, int]) -> collate_compiled.Tensors:
        rows = np.array(rows, dtype=np.int64)  # copied, because it becomes `row_ids`
        source, target = self._sides
        self._check_rows(rows)
        located = self.pairs.row_numbers(rows)
        if self.batch_format.is_flat:
            bos = self.batch_format.target.bos
            arrays = (rows, *flat_source(source, located), *flat_target(target, located, bos))
            return [self._pinned_tensor(torch.from_numpy(array)) for array in arrays]
        encoder_ids, encoder_mask = _padded_ids(source, located, least[0])
        labels, decoder_mask = _padded_ids(target, located, least[1])
        decoder_ids = np.empty_like(labels)
        decoder_ids[:, 0] = self.batch_format.target.bos
        decoder_ids[:, 1:] = np.where(decoder_mask[:, 1:], labels[:, :-1], target.pad)
        if self.batch_format.label_padding != target.pad:
            labels[~decoder_mask] = self.batch_format.label_padding
        padded = (rows, encoder_ids, encoder_mask, decoder_ids, labels, decoder_mask)
        return [self._pinned_tensor(torch.from_numpy(array)) for array in padded]

    def _pinned_tensor(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.pin_memory else tensor

    def _named_batch(self, tensors: collate_compiled.Tensors) -> Batch:
        """Return the tensors as a dict with the names and dtypes of the format.

        The kernels always return bool masks and `row_ids`, which a format may lack or store as another dtype.
        """
        if self.batch_format.has_language_suffix:
            moved = flat_with_suffix if self.batch_format.is_flat else padded_with_suffix
            tensors = [self._pinned_tensor(each) for each in moved(tensors)]
        places, converted, single_rows = self._tensor_places
        batch = {name: tensors[place] for name, place in places}
        for name, wanted in converted:
            batch[name] = self._pinned_tensor(batch[name].to(wanted))
        for name in single_rows:
            batch[name] = batch[name][None]
        return batch

    @cached_property
    def _tensor_places(self) -> tuple[list[tuple[str, int]], list[tuple[str, torch.dtype]], list[str]]:
        """Name of each tensor and its place among those of the kernels; dtypes to convert to; tensors of one row."""
        dtypes = FLAT_DTYPES if self.batch_format.is_flat else TENSOR_DTYPES
        roles, fields = list(dtypes), supported_schema(self.batch_format.names).fields
        wanted = {field.name: getattr(torch, field.dtype) for field in fields}
        return (
            [(field.name, roles.index(field.role)) for field in fields],
            [(field.name, wanted[field.name]) for field in fields if dtypes[field.role] != wanted[field.name]],
            [field.name for field in fields if field.shape[0] == "1"],
        )


def collate_rows(
    pairs: EncodedPairs,
    rows: Int,
    batch_format: BatchFormat,
    *,
    widths: tuple[int, int] | None = None,
    compiled: bool | None = None,
) -> Batch:
    """Build the batch of `rows` (int64 [B]), truncated to the format's maximum lengths.

    For many batches, keep a `Collator`.

    Args:
        pairs: the encoded pairs.
        rows: row numbers, in the order of the batch; may be empty.
        batch_format: format of the batch.
        widths: smallest S and T, before they are rounded up to `length_multiple`; None: the length of the longest row.
            With `names="causal"`, R and L of packed rows; None: one pair a row, or one row with `NO_PADDING`.
        compiled: False: use numpy; None: use compiled kernels if they are available. Both give the same batch.

    Returns:
        With `names="mtx"`, these tensors:

        - `encoder_input_ids` [B, S] int64: source ids, EOS, pad.
        - `encoder_attn_mask` [B, S] bool: True at real tokens.
        - `decoder_input_ids` [B, T] int64: BOS, target ids, pad.
        - `labels` [B, T] int64: target ids, EOS, label pad.
        - `decoder_attn_mask` [B, T] bool: True at real tokens.
        - `row_ids` [B] int64.

        With `names="huggingface"`: `input_ids`, `attention_mask`, `decoder_input_ids`, `decoder_attention_mask`,
        `labels`, with int64 masks.

        With `names="flat"`, the pairs stand one after another, and N and M are all source and target positions:

        - `encoder_input_ids` [N] int64, and `decoder_input_ids` and `labels` [M] int64.
        - `encoder_offsets` and `decoder_offsets` [B + 1] int32: pair i has the positions from offset i to i + 1.
        - `encoder_positions` [N] and `decoder_positions` [M] int32: position in the pair, from 0.
        - `row_ids` [B] int64.

        With `names="huggingface_packed"`, the same tensors have the names `input_ids`, `position_ids`,
        `decoder_input_ids`, `decoder_position_ids` and `labels`, int64 and with a first dimension of 1. The offsets and
        `row_ids` are those of `flat`.

        With `names="causal"`, R rows of L positions hold prompt and target of one or several pairs:

        - `input_ids` [R, L] int64: for each pair BOS, prompt and source, target, EOS; then pad.
        - `position_ids` [R, L] int64: position in the pair, from 0; 0 at padding.
        - `labels` [R, L] int64: the id itself at targets and EOS, else -100. A model shifts them.
        - `segment_ids` [R, L] int64: number of the pair in `row_ids`, from 1; 0 at padding.
        - `row_ids` [B] int64.

        Each tensor owns its memory, so keeping one tensor does not keep the others. A batch
        without rows is as wide as a batch of empty rows.

    Raises:
        IndexError: a row number is out of range.
    """
    return Collator(pairs, batch_format, compiled=compiled)([rows], None if widths is None else [widths])[0]


def load_kernels(pairs: EncodedPairs, batch_format: BatchFormat) -> None:
    """Load the compiled kernels for the id dtypes of `pairs`, so that the first batch does not have to."""
    _kernels(pairs, batch_format)


def _kernels(pairs: EncodedPairs, batch_format: BatchFormat) -> collate_compiled.Kernels | CausalKernels | None:
    types = pairs.source.ids.dtype, pairs.target.ids.dtype
    if batch_format.is_causal:
        return compiled_causal_kernels(*types)
    found = collate_compiled.compiled_flat_kernels if batch_format.is_flat else collate_compiled.compiled_kernels
    return found(*types)


def _padded_ids(side: collate_compiled.CollateSide, rows: Int, least: int) -> tuple[Int, NDArray[np.bool_]]:
    """Return padded ids [B, L] int64, with EOS if the side has an extra position, and their mask [B, L] bool."""
    starts = side.offsets[rows]
    lengths = np.minimum(side.offsets[rows + 1] - starts, side.capacity)
    width = side.width(int(lengths.max(initial=0)), least)
    positions = np.arange(width)
    ids = np.full((len(rows), width), side.pad, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    ids[positions < lengths[:, None]] = side.ids[places]
    if side.extra:
        ids[np.arange(len(rows)), lengths] = side.eos
    return ids, positions < (lengths + side.extra)[:, None]


def _id_capacity(most: int | None, extra: int) -> int:
    """Return the largest number of a row's own ids, given the maximum positions `most` and `extra` special tokens."""
    return _ANY_NUMBER if most is None else most - extra
