"""From token ids to a batch of tensors: the last step of a datum's way.

B pairs, S source and T target positions, all padded on the right. `TokenRows` is the jagged form in which ids are
stored; `collate_rows` pads a choice of its rows, without a Python object a row: by the compiled kernels of `gather.py`
where numba is installed, else by numpy's index arithmetic. Both make the same batches.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.errors import ConfigError
from mtx.infra.dataset import gather
from mtx.infra.dataset.plan.base import Lengths

Batch = dict[str, Tensor]

_Int = NDArray[np.int64]
_Mask = NDArray[np.bool_]
_Arrays = tuple[_Int, _Mask, _Int, _Mask, _Int]  # encoder ids, mask; decoder ids, mask; labels

_ANY_NUMBER = np.iinfo(np.int32).max  # more ids than any row has
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
    def label_padding(self) -> int:
        """What fills labels behind EOS."""
        if self.label_pad_id is not None:
            return self.label_pad_id
        return IGNORED_LABEL if self.names == "huggingface" else self.target.pad

    @property
    def source_extra(self) -> int:
        """Positions that a source takes beyond its own ids."""
        return int(self.source_eos)


class TokenRows:
    """Rows of token ids of different lengths: one flat array and where each row begins.

    Args:
        ids: uint16, uint32 or int64 [number of tokens]; may be memory-mapped. Kept as a read-only view.
        offsets: int64 [n + 1]. Kept as a read-only view.
    """

    def __init__(self, ids: NDArray[Any], offsets: NDArray[np.int64]) -> None:
        self.ids = _read_only(ids)
        self.offsets = _read_only(offsets)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ids, self.offsets)  # by the constructor, since numpy would unpickle writable arrays

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


def _read_only(array: NDArray[Any]) -> NDArray[Any]:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


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


def collate_rows(
    pairs: EncodedPairs,
    rows: NDArray[np.int64],
    batch_format: BatchFormat,
    *,
    widths: tuple[int, int] | None = None,
    compiled: bool | None = None,
) -> Batch:
    """Make the batch of `rows` (int64 [B]), cut to the format's maxima.

    Args:
        pairs: where the rows are.
        rows: their numbers, in the order in which they come in the batch.
        batch_format: how the batch looks.
        widths: S and T, before they are rounded up, unless the longest row needs more; None: what that needs.
        compiled: False: by numpy; None: by compiled kernels where there are any. Both give the same.

    Returns:
        `encoder_input_ids` [B, S] int64, source ids, EOS, pad; `encoder_attn_mask` [B, S] bool, True at real tokens;
        `decoder_input_ids` [B, T] int64, BOS, target ids, pad; `labels` [B, T] int64, target ids, EOS, label pad;
        `decoder_attn_mask` [B, T] bool; `row_ids` [B] int64. With `names="huggingface"`: `input_ids`,
        `attention_mask`, `decoder_input_ids`, `decoder_attention_mask`, `labels`; masks int64.

    Raises IndexError for rows that are not there.
    """
    rows = np.array(rows, dtype=np.int64)  # a copy, which becomes the batch's `row_ids`
    kernels = None if compiled is False else gather.load()
    least = widths or (0, 0)
    if kernels is None:
        made = _by_numpy(pairs, rows, batch_format, least)
    else:
        made = _by_kernels(kernels, pairs, rows, batch_format, least)
    encoder_ids, encoder_mask, decoder_ids, decoder_mask, labels = (torch.from_numpy(array) for array in made)
    if batch_format.names == "huggingface":
        return {
            "input_ids": encoder_ids,
            "attention_mask": encoder_mask.long(),
            "decoder_input_ids": decoder_ids,
            "decoder_attention_mask": decoder_mask.long(),
            "labels": labels,
        }
    return {
        "encoder_input_ids": encoder_ids,
        "encoder_attn_mask": encoder_mask,
        "decoder_input_ids": decoder_ids,
        "labels": labels,
        "decoder_attn_mask": decoder_mask,
        "row_ids": torch.from_numpy(rows),
    }


def load_kernels(pairs: EncodedPairs) -> None:
    """Load the compiled kernels for these pairs, which else the first batch does; half a second in each process."""
    kernels = gather.load()
    if kernels is not None:
        for side in (pairs.source, pairs.target):
            kernels.prepare(side.ids.dtype)


def _by_kernels(
    kernels: gather.Kernels, pairs: EncodedPairs, rows: NDArray[np.int64], layout: BatchFormat, least: tuple[int, int]
) -> _Arrays:
    source, target, num_rows, multiple = pairs.source, pairs.target, len(rows), layout.length_multiple
    kernels.prepare(source.ids.dtype)
    kernels.prepare(target.ids.dtype)
    longest_source = kernels.longest(source.offsets, source.ids.size, rows)
    longest_target = kernels.longest(target.offsets, target.ids.size, rows)
    if longest_source < 0 or longest_target < 0:
        raise IndexError(_what_is_wrong(pairs, rows))

    room, extra = _room(layout.max_source_tokens, layout.source_extra), layout.source_extra
    shape = num_rows, _width(longest_source, room, extra, multiple, least[0])
    encoder_ids, encoder_mask = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.bool_)
    ids = layout.source
    kernels.fill_source(source.ids, source.offsets, rows, room, ids.pad, ids.eos, extra, encoder_ids, encoder_mask)

    room = _room(layout.max_target_tokens, 1)
    shape = num_rows, _width(longest_target, room, 1, multiple, least[1])
    decoder_ids, labels = np.empty(shape, dtype=np.int64), np.empty(shape, dtype=np.int64)
    decoder_mask = np.empty(shape, dtype=np.bool_)
    ids, label_pad = layout.target, layout.label_padding
    kernels.fill_target(
        target.ids, target.offsets, rows, room, ids.pad, ids.bos, ids.eos, label_pad, decoder_ids, labels, decoder_mask
    )
    return encoder_ids, encoder_mask, decoder_ids, decoder_mask, labels


def _by_numpy(pairs: EncodedPairs, rows: NDArray[np.int64], layout: BatchFormat, least: tuple[int, int]) -> _Arrays:
    if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < len(pairs):
        raise IndexError(_what_is_wrong(pairs, rows))
    source, target, extra = layout.source, layout.target, layout.source_extra
    encoder_ids, encoder_mask = _padded(
        pairs.source,
        rows,
        room=_room(layout.max_source_tokens, extra),
        multiple=layout.length_multiple,
        pad_id=source.pad,
        eos_id=source.eos if extra else None,
        least=least[0],
    )
    labels, decoder_mask = _padded(
        pairs.target,
        rows,
        room=_room(layout.max_target_tokens, 1),
        multiple=layout.length_multiple,
        pad_id=target.pad,
        eos_id=target.eos,
        least=least[1],
    )
    decoder_ids = np.empty_like(labels)
    decoder_ids[:, 0] = target.bos
    decoder_ids[:, 1:] = np.where(decoder_mask[:, 1:], labels[:, :-1], target.pad)
    if layout.label_padding != target.pad:
        labels[~decoder_mask] = layout.label_padding
    return encoder_ids, encoder_mask, decoder_ids, decoder_mask, labels


def _padded(
    side: TokenRows,
    rows: NDArray[np.int64],
    *,
    room: int,
    multiple: int,
    pad_id: int,
    eos_id: int | None,
    least: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return ids [B, L] int64, closed by `eos_id` unless it is None, and which of them are real [B, L]."""
    starts = side.offsets[rows]
    lengths = np.minimum(side.offsets[rows + 1] - starts, room)
    extra = int(eos_id is not None)
    width = _width(int(lengths.max(initial=0)), room, extra, multiple, least)
    positions = np.arange(width)
    ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    ids[positions < lengths[:, None]] = side.ids[places]
    if eos_id is not None:
        ids[np.arange(len(rows)), lengths] = eos_id
    return ids, positions < (lengths + extra)[:, None]


def _room(most: int | None, extra: int) -> int:
    """Return how many ids of a row fit beside its special token."""
    return _ANY_NUMBER if most is None else most - extra


def _width(longest: int, room: int, extra: int, multiple: int, least: int) -> int:
    return -(-max(min(longest, room) + extra, least) // multiple) * multiple


def _what_is_wrong(pairs: EncodedPairs, rows: NDArray[np.int64]) -> str:
    wrong = rows[(rows < 0) | (rows >= len(pairs))]
    if len(wrong):
        return f"rows are numbered from 0 to {len(pairs) - 1}, but row {wrong[0]} was asked for"
    return (
        "the offsets of the encoded rows do not fit their ids, so the dataset is damaged. Remove it from the store, "
        "which `mtx task=show` lists, and let it be built again"
    )
