"""From token ids to a batch of tensors: the last step of a datum's way.

B pairs, S source and T target positions, all padded on the right. `TokenRows` is the jagged form in which ids are
stored; `collate_rows` pads a choice of its rows, by index arithmetic, without a Python object a row.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.errors import ConfigError
from mtx.infra.dataset.plan.base import Lengths

Batch = dict[str, Tensor]

IGNORED_LABEL = -100  # what torch's cross entropy leaves out by default


class SpecialIds(NamedTuple):
    """Ids of the four special tokens in one vocabulary."""

    pad: int = 0
    bos: int = 1
    eos: int = 2
    unk: int = 3


TRAINED_IDS = SpecialIds()  # in every vocabulary that mtx trains


@dataclass(frozen=True)
class BatchFormat:
    """How a batch looks.

    Attributes:
        source: special ids of the source vocabulary.
        target: special ids of the target vocabulary.
        source_eos: whether EOS closes each source.
        label_pad_id: what fills labels behind EOS; None: the target's pad id.
        max_source_tokens: positions a source may take, EOS included; None: any number.
        max_target_tokens: positions a target may take, BOS or EOS included; None: any number.
        length_multiple: S and T are rounded up to a multiple of it, which suits tensor cores at 8.
        names: `mtx`, or `huggingface` for the names that transformers' models take; there labels are filled with
            -100 unless `label_pad_id` says otherwise, and there are no `row_ids`.
    """

    source: SpecialIds = TRAINED_IDS
    target: SpecialIds = TRAINED_IDS
    source_eos: bool = True
    label_pad_id: int | None = None
    max_source_tokens: int | None = None
    max_target_tokens: int | None = None
    length_multiple: int = 1
    names: Literal["mtx", "huggingface"] = "mtx"

    def __post_init__(self) -> None:
        for name in ("max_source_tokens", "max_target_tokens"):
            value = getattr(self, name)
            if value is not None and value < 2:
                raise ConfigError(f"datamodule.{name} leaves room for one token and EOS: at least 2, but is {value}")
        if self.names not in ("mtx", "huggingface"):
            raise ConfigError(f"datamodule.batch_format is mtx or huggingface, but is {self.names!r}")

    @property
    def source_extra(self) -> int:
        """Positions that a source takes beyond its own ids."""
        return int(self.source_eos)


class TokenRows:
    """Rows of token ids of different lengths: one flat array and where each row begins.

    Args:
        ids: uint16, uint32 or int64 [number of tokens]; may be memory-mapped.
        offsets: int64 [n + 1].
    """

    def __init__(self, ids: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.ids = ids
        self.offsets = offsets

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[Any]:
        """Return the ids of one row."""
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Tokens of each row, int32 [n]."""
        return np.diff(self.offsets).astype(np.int32)

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "TokenRows":
        """Take rows from Python sequences."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((token for row in rows for token in row), dtype=np.int64, count=int(offsets[-1]))
        return cls(ids, offsets)


@dataclass(frozen=True)
class EncodedPairs:
    """Source and target ids of the same pairs."""

    source: TokenRows
    target: TokenRows

    def __len__(self) -> int:
        return len(self.source)

    def lengths(self, batch_format: BatchFormat) -> Lengths:
        """Return the positions that each pair takes in a batch of this format, before truncation."""
        return Lengths(self.source.lengths + np.int32(batch_format.source_extra), self.target.lengths + np.int32(1))


def truncated(lengths: Lengths, batch_format: BatchFormat) -> Lengths:
    """Cap lengths at the format's maxima."""
    most_source, most_target = batch_format.max_source_tokens, batch_format.max_target_tokens
    return Lengths(
        lengths.source if most_source is None else np.minimum(lengths.source, np.int32(most_source)),
        lengths.target if most_target is None else np.minimum(lengths.target, np.int32(most_target)),
    )


def collate_rows(pairs: EncodedPairs, rows: NDArray[np.int64], batch_format: BatchFormat) -> Batch:
    """Make the batch of `rows` (int64 [B]), cut to the format's maxima.

    Returns:
        `encoder_input_ids` [B, S] int64, source ids, EOS, pad; `encoder_attn_mask` [B, S] bool, True at real tokens;
        `decoder_input_ids` [B, T] int64, BOS, target ids, pad; `labels` [B, T] int64, target ids, EOS, label pad;
        `decoder_attn_mask` [B, T] bool; `row_ids` [B] int64. With `names="huggingface"`: `input_ids`,
        `attention_mask`, `decoder_input_ids`, `decoder_attention_mask`, `labels`; masks int64.
    """
    source, target = batch_format.source, batch_format.target
    most_source, most_target = batch_format.max_source_tokens, batch_format.max_target_tokens
    extra = batch_format.source_extra
    encoder_ids, encoder_mask = _padded(
        pairs.source,
        rows,
        most=None if most_source is None else most_source - extra,
        multiple=batch_format.length_multiple,
        pad_id=source.pad,
        eos_id=source.eos if extra else None,
    )
    labels, decoder_mask = _padded(
        pairs.target,
        rows,
        most=None if most_target is None else most_target - 1,
        multiple=batch_format.length_multiple,
        pad_id=target.pad,
        eos_id=target.eos,
    )
    decoder_ids = np.empty_like(labels)
    decoder_ids[:, 0] = target.bos
    decoder_ids[:, 1:] = np.where(decoder_mask[:, 1:], labels[:, :-1], target.pad)
    label_pad_id = batch_format.label_pad_id
    if label_pad_id is None and batch_format.names == "huggingface":
        label_pad_id = IGNORED_LABEL
    if label_pad_id is not None and label_pad_id != target.pad:
        labels[~decoder_mask] = label_pad_id
    tensors = [torch.from_numpy(array) for array in (encoder_ids, encoder_mask, decoder_ids, decoder_mask, labels)]
    if batch_format.names == "huggingface":
        return {
            "input_ids": tensors[0],
            "attention_mask": tensors[1].long(),
            "decoder_input_ids": tensors[2],
            "decoder_attention_mask": tensors[3].long(),
            "labels": tensors[4],
        }
    return {
        "encoder_input_ids": tensors[0],
        "encoder_attn_mask": tensors[1],
        "decoder_input_ids": tensors[2],
        "labels": tensors[4],
        "decoder_attn_mask": tensors[3],
        "row_ids": torch.from_numpy(np.array(rows, dtype=np.int64)),
    }


def _padded(
    side: TokenRows,
    rows: NDArray[np.int64],
    *,
    most: int | None,
    multiple: int,
    pad_id: int,
    eos_id: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ids [B, L] int64, closed by `eos_id` unless it is None, and which of them are real [B, L]."""
    starts = side.offsets[rows]
    lengths = side.offsets[rows + 1] - starts
    if most is not None:
        np.minimum(lengths, most, out=lengths)
    extra = eos_id is not None
    width = -(-(int(lengths.max(initial=0)) + extra) // multiple) * multiple
    positions = np.arange(width)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    ids[positions < lengths[:, None]] = side.ids[places]
    if eos_id is not None:
        ids[np.arange(len(rows)), lengths] = eos_id
    return ids, positions < (lengths + extra)[:, None]
