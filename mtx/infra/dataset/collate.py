"""From token ids to batches of tensors: the last step of a datum's way.

B pairs, S source and T target positions, all padded on the right. `TokenRows` is the jagged form in which ids are
stored; `collate_rows` pads a choice of its rows, without a Python object a row: by the compiled kernels of `gather.py`
where numba is installed, else by numpy's index arithmetic. Both make the same batches. A
`Collator` makes some batches at once, so that a thread that builds them seldom needs the interpreter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.errors import ConfigError
from mtx.infra.dataset import gather
from mtx.infra.dataset.plan.base import Lengths

Batch = dict[str, Tensor]

Int = NDArray[np.int64]

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
            -100 unless `label_pad_id` says otherwise, and there are no `row_ids`. `decoder_input_ids` begin with BOS
            there too, so that a model's config has `decoder_start_token_id` = the BOS id, by which it then generates.
            Published Marian and T5 models start with pad: `tokenizer=pretrained "tokenizer.bos_token='<pad>'"`.
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
        narrow = ids.astype(np.uint16)  # for which the kernels are most likely there
        return cls(narrow if np.array_equal(narrow, ids) else ids, offsets)


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


class Collator:
    """Makes batches of rows of encoded pairs. Picklable, and thread-safe.

    Args:
        pairs: where the rows are.
        batch_format: how a batch looks.
        compiled: False: by numpy; None: by compiled kernels where there are any, which the first call loads. Both make
            the same batches.
        pin_memory: make tensors in pinned memory.
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
        """Make a batch of each of `rows` (int64 [B]), padded to at least each of `widths`; see `collate_rows`."""
        widths = [(0, 0)] * len(rows) if widths is None else widths
        if self._gather is not None:
            return [self._named(tensors) for tensors in self._gather(rows, widths)]
        return [self._named(self._by_numpy(each, least)) for each, least in zip(rows, widths, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_gather"}

    @cached_property
    def _gather(self) -> gather.Gather | None:
        source, target = self._sides
        kernels = None if self.compiled is False else gather.load(source.ids.dtype, target.ids.dtype)
        if kernels is None:
            return None
        bos, label_pad = self.batch_format.target.bos, self.batch_format.label_padding
        return gather.Gather(kernels, source, target, bos=bos, label_pad=label_pad, pin_memory=self.pin_memory)

    @property
    def _sides(self) -> tuple[gather.Side, gather.Side]:
        layout, multiple = self.batch_format, self.batch_format.length_multiple
        source, target, ids, extra = self.pairs.source, self.pairs.target, layout.source, layout.source_extra
        room = _room(layout.max_source_tokens, extra), _room(layout.max_target_tokens, 1)
        return (
            gather.Side(source.ids, source.offsets, room[0], ids.pad, ids.eos, extra, multiple),
            gather.Side(target.ids, target.offsets, room[1], layout.target.pad, layout.target.eos, 1, multiple),
        )

    def _by_numpy(self, rows: Int, least: tuple[int, int]) -> gather.Tensors:
        rows = np.array(rows, dtype=np.int64)  # a copy, which becomes the batch's `row_ids`
        num_rows, (source, target) = len(self.pairs), self._sides
        if rows.size and not 0 <= int(rows.min()) <= int(rows.max()) < num_rows:
            raise IndexError(gather.what_is_wrong(num_rows, rows))
        encoder_ids, encoder_mask = _padded(source, rows, least[0])
        labels, decoder_mask = _padded(target, rows, least[1])
        decoder_ids = np.empty_like(labels)
        decoder_ids[:, 0] = self.batch_format.target.bos
        decoder_ids[:, 1:] = np.where(decoder_mask[:, 1:], labels[:, :-1], target.pad)
        if self.batch_format.label_padding != target.pad:
            labels[~decoder_mask] = self.batch_format.label_padding
        arrays = (rows, encoder_ids, encoder_mask, decoder_ids, labels, decoder_mask)
        return [self._placed(torch.from_numpy(array)) for array in arrays]

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.pin_memory() if self.pin_memory else tensor

    def _named(self, tensors: gather.Tensors) -> Batch:
        row_ids, encoder_ids, encoder_mask, decoder_ids, labels, decoder_mask = tensors
        if self.batch_format.names == "huggingface":
            return {
                "input_ids": encoder_ids,
                "attention_mask": self._placed(encoder_mask.long()),
                "decoder_input_ids": decoder_ids,
                "decoder_attention_mask": self._placed(decoder_mask.long()),
                "labels": labels,
            }
        return {
            "encoder_input_ids": encoder_ids,
            "encoder_attn_mask": encoder_mask,
            "decoder_input_ids": decoder_ids,
            "labels": labels,
            "decoder_attn_mask": decoder_mask,
            "row_ids": row_ids,
        }


def collate_rows(
    pairs: EncodedPairs,
    rows: Int,
    batch_format: BatchFormat,
    *,
    widths: tuple[int, int] | None = None,
    compiled: bool | None = None,
) -> Batch:
    """Make the batch of `rows` (int64 [B]), cut to the format's maxima. For many batches, keep a `Collator`.

    Args:
        pairs: where the rows are.
        rows: their numbers, in the order in which they come in the batch; may be none.
        batch_format: how the batch looks.
        widths: S and T, before they are rounded up, unless the longest row needs more; None: what that needs.
        compiled: False: by numpy; None: by compiled kernels where there are any. Both give the same.

    Returns:
        `encoder_input_ids` [B, S] int64, source ids, EOS, pad; `encoder_attn_mask` [B, S] bool, True at real tokens;
        `decoder_input_ids` [B, T] int64, BOS, target ids, pad; `labels` [B, T] int64, target ids, EOS, label pad;
        `decoder_attn_mask` [B, T] bool; `row_ids` [B] int64. With `names="huggingface"`: `input_ids`,
        `attention_mask`, `decoder_input_ids`, `decoder_attention_mask`, `labels`; masks int64. Each tensor has memory
        of its own: keeping one keeps no other. A batch of no rows is as wide as one of empty rows.

    Raises IndexError for rows that are not there.
    """
    return Collator(pairs, batch_format, compiled=compiled)([rows], None if widths is None else [widths])[0]


def load_kernels(pairs: EncodedPairs) -> None:
    """Load the compiled kernels for these pairs, which else the first batch does."""
    gather.load(pairs.source.ids.dtype, pairs.target.ids.dtype)


def _padded(side: gather.Side, rows: Int, least: int) -> tuple[Int, NDArray[np.bool_]]:
    """Return ids [B, L] int64, each row closed by EOS where the side has it, and which of them are real [B, L]."""
    starts = side.offsets[rows]
    lengths = np.minimum(side.offsets[rows + 1] - starts, side.room)
    width = side.width(int(lengths.max(initial=0)), least)
    positions = np.arange(width)
    ids = np.full((len(rows), width), side.pad, dtype=np.int64)
    before = np.cumsum(lengths) - lengths
    places = np.arange(int(lengths.sum())) + np.repeat(starts - before, lengths)
    ids[positions < lengths[:, None]] = side.ids[places]
    if side.extra:
        ids[np.arange(len(rows)), lengths] = side.eos
    return ids, positions < (lengths + side.extra)[:, None]


def _room(most: int | None, extra: int) -> int:
    """Return how many ids of a row fit beside its special token."""
    return _ANY_NUMBER if most is None else most - extra
