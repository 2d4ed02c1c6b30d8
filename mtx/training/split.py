"""One split as loaders need it: its pairs, mapped into memory, their lengths in a batch, and which are too long."""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from mtx.infra.dataset.collate import Batch, BatchFormat, EncodedPairs, truncated
from mtx.infra.dataset.plan.base import Draft, Lengths, Mask, Planner
from mtx.infra.dataset.plan.share import Item
from mtx.training.loader import EncodedBatches

TooLong = Literal["drop", "truncate"]

# What a batch of text to translate has, beside `row_ids`, under the names of either `datamodule.batch_format`.
SOURCE_KEYS = ("encoder_input_ids", "encoder_attn_mask", "input_ids", "attention_mask")


class Drawing(Protocol):
    """What draws epochs from the pairs of a mixture."""

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> Draft:
        """Return the planner's work on the epochs."""


class OpenSplit:
    """One split, mapped into memory: its pairs, their lengths in a batch, and which of them are too long.

    `drawing` draws the epochs of a mixture; None: an epoch has every pair once. `left_out` are pairs that are not
    served, whatever their length in tokens; they count as dropped.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        num_target_bytes: NDArray[np.int64],
        layout: BatchFormat,
        too_long: TooLong,
        drawing: Drawing | None = None,
        left_out: Mask | None = None,
    ) -> None:
        self.pairs = pairs
        self.layout = layout
        self._drawing = drawing
        full = pairs.lengths(layout)
        self.lengths = truncated(full, layout)
        long_source, long_target = self.lengths.source < full.source, self.lengths.target < full.target
        is_long = long_source | long_target
        num_long = int(np.count_nonzero(is_long))
        self.excluded = is_long if too_long == "drop" else None
        self.num_truncated = 0 if too_long == "drop" else num_long
        if left_out is not None:
            self.excluded = left_out if self.excluded is None else self.excluded | left_out
        self.num_dropped = 0 if self.excluded is None else int(np.count_nonzero(self.excluded))
        sides = {"source": long_source, "target": long_target, "both": long_source & long_target}
        self._num_long = {side: int(np.count_nonzero(found)) for side, found in sides.items()}
        self._drafts: dict[Planner, Draft] = {}
        self._num_target_bytes = num_target_bytes

    def num_too_long(self) -> dict[str, int]:
        """Return how many pairs are dropped and truncated, of all, and by side: see `TranslationDataModule`."""
        counts = {"dropped_length": self.num_dropped, "truncated": self.num_truncated}
        by_side = {
            f"{done}_{side}": number if total else 0
            for done, total in counts.items()
            for side, number in self._num_long.items()
        }
        return {**counts, **by_side}

    def num_target_bytes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the UTF-8 bytes of the targets of `rows`, int64 [B]; of a truncated one its share of kept tokens."""
        offsets = self.pairs.target.offsets
        full = offsets[rows + 1] - offsets[rows] + 1  # BOS or EOS
        kept: NDArray[np.int64] = self._num_target_bytes[rows] * self.lengths.target[rows] // full
        return kept

    def draft(self, planner: Planner) -> Draft:
        """Return the planner's work on the lengths, done once for all loaders of this split."""
        if planner not in self._drafts:
            if self._drawing is None:
                self._drafts[planner] = planner.draft(self.lengths, excluded=self.excluded)
            else:
                self._drafts[planner] = self._drawing.draft(planner, self.lengths, excluded=self.excluded)
        return self._drafts[planner]


class SourceBatches(EncodedBatches):
    """Batches of text to translate: the source's side, and `row_ids`, the numbers of the lines from 0."""

    def built(self, items: Sequence[Item], *, pin_memory: bool = False) -> list[Batch]:
        """Make the batches of some items at once."""
        made = super().built(items, pin_memory=pin_memory)
        return [self._source(batch, item, pin_memory) for batch, item in zip(made, items, strict=True)]

    def _source(self, batch: Batch, item: Item, pin_memory: bool) -> Batch:
        kept = {name: batch[name] for name in SOURCE_KEYS if name in batch}
        row_ids = torch.as_tensor(item[0] if isinstance(item, tuple) else item)
        return {**kept, "row_ids": row_ids.pin_memory() if pin_memory else row_ids}
