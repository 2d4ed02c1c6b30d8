"""One split as loaders need it: memory-mapped pairs, their lengths in a batch, and which pairs are too long."""

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mtx.batches.batch_format import BatchFormat
from mtx.batches.pair_lengths import batch_lengths, tensor_lengths, truncated_lengths
from mtx.batches.plan.planner import Draft, Lengths, Mask, Planner
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.data.token_rows import EncodedPairs
from mtx.errors import ConfigError

TooLong = Literal["drop", "truncate"]


def _check_room(prompts: PromptVariants, layout: BatchFormat, too_long: TooLong) -> None:
    """Raise ConfigError if sources are truncated, and a prompt leaves no room for one token of its source."""
    most, longest = layout.max_source_tokens, int(prompts.lengths.max(initial=0))
    if too_long == "truncate" and most is not None and longest >= most:
        raise ConfigError(
            "datamodule.max_source_tokens must leave room for a token of the source beside the text of "
            f"datamodule.template, but it is {most}, and the text has up to {longest} tokens. Set "
            f"datamodule.max_source_tokens={longest + 1} or more"
        )


class EpochSampling(Protocol):
    """Protocol of objects that draw the pairs of each epoch from the sources of a mixture."""

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> Draft:
        """Return a draft that plans epochs with the drawn pairs."""


class SplitData:
    """One memory-mapped split: its pairs, their lengths in a batch, and which pairs are too long.

    Args:
        pairs: the encoded pairs.
        num_target_bytes: UTF-8 bytes of the target texts, int64, indexed by the rows of the token ids in `pairs`.
        layout: the format of a batch, with the maximal lengths.
        too_long: drop or truncate pairs that are longer than a maximum of the layout.
        drawing: draws the pairs of each epoch of a mixture; None: an epoch has every pair once.
        left_out: mask of pairs that are in no batch, whatever their length in tokens; they count as dropped.
        prompts: the text around the sources of decoder-only batches; None: another format.

    Raises ConfigError if sources are truncated, and a prompt leaves no room for its source.

    Attributes:
        lengths: lengths of the pairs in the tensors of a batch, after truncation.
        side_lengths: the same by side; in a decoder-only batch, the prompt is the source.
    """

    def __init__(
        self,
        pairs: EncodedPairs,
        num_target_bytes: NDArray[np.int64],
        layout: BatchFormat,
        too_long: TooLong,
        drawing: EpochSampling | None = None,
        left_out: Mask | None = None,
        prompts: PromptVariants | None = None,
    ) -> None:
        if prompts is not None:
            _check_room(prompts, layout, too_long)
            pairs = PromptedPairs(pairs.source, pairs.target, pairs.selection, prompts=prompts)
        self.pairs, self.prompts = pairs, prompts
        self.layout = layout
        self._drawing = drawing
        full = batch_lengths(pairs, layout)
        self.side_lengths = truncated_lengths(full, layout, prompts)
        self.lengths = tensor_lengths(self.side_lengths, layout)
        long_source, long_target = self.side_lengths.source < full.source, self.side_lengths.target < full.target
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
        """Return how many pairs are dropped and truncated, in total and by side; see `TranslationData.split_counts`."""
        counts = {"dropped_length": self.num_dropped, "truncated": self.num_truncated}
        by_side = {
            f"{done}_{side}": number if total else 0
            for done, total in counts.items()
            for side, number in self._num_long.items()
        }
        return {**counts, **by_side}

    def num_target_bytes(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the UTF-8 bytes of the targets of `rows`, int64 [B]; truncated targets count in part."""
        offsets, located = self.pairs.target.offsets, self.pairs.row_numbers(rows)
        full = offsets[located + 1] - offsets[located] + self.layout.target_extra
        kept: NDArray[np.int64] = self._num_target_bytes[located] * self.side_lengths.target[rows] // full
        return kept

    def draft(self, planner: Planner) -> Draft:
        """Return the planner's draft for the lengths of the split, which all loaders of the split share."""
        if planner not in self._drafts:
            if self._drawing is None:
                self._drafts[planner] = planner.draft(self.lengths, excluded=self.excluded)
            else:
                self._drafts[planner] = self._drawing.draft(planner, self.lengths, excluded=self.excluded)
        return self._drafts[planner]
