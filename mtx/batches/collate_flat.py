"""Flat batches without compiled kernels, as jagged nested tensors, and their sources with padding.

A flat batch has the tokens of all pairs one after another, without padding. Pair i has the source positions from
`encoder_offsets[i]` to `encoder_offsets[i + 1]`, exclusive, and its target positions from `decoder_offsets`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.batches.collate_compiled import CollateSide
from mtx.batches.schema import batch_tensor, is_flat
from mtx.errors import DataError

Int = NDArray[np.int64]
Int32 = NDArray[np.int32]


def flat_source(side: CollateSide, rows: Int) -> tuple[Int, Int32, Int32]:
    """Return the ids int64 [N], offsets int32 [B + 1] and positions int32 [N] of the sources of `rows`."""
    ids, offsets, positions = _flat_ids(side, rows)
    if side.extra:
        ids[offsets[1:] - 1] = side.eos
    return ids, offsets, positions


def flat_target(side: CollateSide, rows: Int, bos: int) -> tuple[Int, Int, Int32, Int32]:
    """Return decoder ids and labels int64 [M], offsets int32 [B + 1] and positions int32 [M] of the targets."""
    labels, offsets, positions = _flat_ids(side, rows)
    labels[offsets[1:] - 1] = side.eos
    inputs = np.empty_like(labels)
    inputs[1:] = labels[:-1]
    inputs[offsets[:-1]] = bos
    return inputs, labels, offsets, positions


def jagged(batch: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of a flat batch as torch's jagged nested tensors, which share their memory.

    The nested tensors have the shapes [B, S of each pair] and [B, T of each pair]. Layers of torch that take nested
    tensors of the layout `torch.jagged` work on them.

    Args:
        batch: a batch with `batch_format=flat`; the target side may be missing.

    Returns:
        `encoder_input_ids`, `encoder_positions`, `decoder_input_ids`, `labels` and `decoder_positions` as nested
        tensors, as far as the batch has them; and `row_ids` int64 [B].

    Raises:
        DataError: the batch is not flat.
    """
    if not is_flat(batch) or "encoder_input_ids" not in batch:
        raise DataError(
            f"jagged takes a flat batch, with encoder_offsets and encoder_input_ids, but the batch has "
            f"{', '.join(map(str, batch))}. Set datamodule.batch_format=flat"
        )
    found: dict[str, Tensor] = {}
    for offsets, names in (
        ("encoder_offsets", ("encoder_input_ids", "encoder_positions")),
        ("decoder_offsets", ("decoder_input_ids", "labels", "decoder_positions")),
    ):
        for name in names:
            if name in batch:
                nested = torch.nested.nested_tensor_from_jagged(batch[name], batch[offsets])
                assert isinstance(nested, Tensor)
                found[name] = nested
    return {**found, "row_ids": batch["row_ids"]}


def padded_sources(batch: Mapping[str, Any], pad_id: int) -> tuple[Tensor, Tensor]:
    """Return the sources of a batch of any format as padded ids int64 [B, S], and their mask bool [B, S].

    Raises:
        DataError: the batch has no source ids, or it has padding but no mask.
    """
    found, mask = batch_tensor(batch, "source_ids"), batch_tensor(batch, "source_mask")
    if found is not None and mask is not None:
        return found, mask.bool()
    offsets = batch_tensor(batch, "source_offsets")
    if found is None or offsets is None:
        raise DataError(f"a batch has no sources with a mask or offsets, but {', '.join(map(str, batch))}")
    lengths = offsets.long().diff()
    within = torch.arange(max(int(lengths.max()) if len(lengths) else 0, 1), device=offsets.device)
    mask = within < lengths[:, None]
    ids = torch.full(mask.shape, pad_id, dtype=torch.int64, device=offsets.device)
    ids[mask] = found.flatten()
    return ids, mask


def first_of_targets(batch: Mapping[str, Any], name: str, device: torch.device) -> Tensor:
    """Return the first entry of each target of a batch in `labels` or `decoder_input_ids`, int64 [B].

    The batch may be flat.
    """
    ids: Tensor = batch[name].to(device)
    return ids.flatten()[batch["decoder_offsets"][:-1].long().to(device)] if is_flat(batch) else ids[:, 0]


def _flat_ids(side: CollateSide, rows: Int) -> tuple[Int, Int32, Int32]:
    """Return ids, offsets and positions; the extra position of each row has any id."""
    starts = side.offsets[rows]
    lengths = np.minimum(side.offsets[rows + 1] - starts, side.capacity) + side.extra
    ends = np.cumsum(lengths)
    within = np.arange(int(lengths.sum())) - np.repeat(ends - lengths, lengths)
    offsets = np.concatenate([np.zeros(1, dtype=np.int32), ends.astype(np.int32)])
    places = within + np.repeat(starts, lengths)
    ids = side.ids.take(places, mode="clip") if side.ids.size else places
    return ids.astype(np.int64), offsets, within.astype(np.int32)
