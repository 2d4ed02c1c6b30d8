"""Encoded pairs with the token ids of a prompt around each source, for decoder-only batches.

The sequence of a pair is BOS, the ids before the source, the source, the ids between, the target, EOS. The prompt is
all of it before the target. Many pairs share their ids before and between; they are stored once for each variant.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import DataError

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PromptVariants:
    """The token ids around the sources of a split.

    Attributes:
        before: ids before the source, BOS included, of each variant.
        between: ids between source and target, of each variant.
        of_pair: an integer [n], the variant of each pair; None: all pairs have variant 0.
    """

    before: TokenRows
    between: TokenRows
    of_pair: NDArray[Any] | None = None

    @property
    def lengths(self) -> NDArray[np.int32]:
        """Number of prompt tokens of each pair without its source, int32 [n], or [1] if there is one variant."""
        both = self.before.lengths + self.between.lengths
        return both if self.of_pair is None else both[self.of_pair]

    def numbers(self, pairs: Rows) -> NDArray[Any]:
        """Return the variant of some pairs, [B]."""
        return np.zeros(len(pairs), dtype=np.int64) if self.of_pair is None else self.of_pair[pairs]


@dataclass(frozen=True)
class PromptedPairs(EncodedPairs):
    """Encoded pairs, and the prompt around each source.

    Attributes:
        prompts: the ids around the sources.
    """

    prompts: PromptVariants = field(kw_only=True)


def crossed_pairs(pairs: EncodedPairs, sources: Rows, targets: Rows) -> PromptedPairs:
    """Return pairs of the sources of some pairs, with their prompts, and the targets of others.

    Raises:
        DataError: the pairs have no prompts.
    """
    prompts = prompts_of(pairs)
    return PromptedPairs(
        TokenRows.of([pairs.source[row].tolist() for row in pairs.row_numbers(sources)]),
        TokenRows.of([pairs.target[row].tolist() for row in pairs.row_numbers(targets)]),
        prompts=PromptVariants(prompts.before, prompts.between, prompts.numbers(sources)),
    )


def prompts_of(pairs: EncodedPairs) -> PromptVariants:
    """Return the prompts of pairs. Raises DataError if they have none."""
    if isinstance(pairs, PromptedPairs):
        return pairs.prompts
    raise DataError(
        "batches with datamodule.batch_format=causal need pairs with a prompt, but these are plain pairs. Load them "
        "with a data module, or make mtx.batches.prompted_pairs.PromptedPairs"
    )
