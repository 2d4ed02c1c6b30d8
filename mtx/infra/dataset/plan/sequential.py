"""Batches of a fixed number of pairs in the order of the dataset: for validation, and to compare with."""

from dataclasses import dataclass

from mtx.infra.dataset.plan.base import Lengths, Mask, Planner, candidates, check_at_least, check_flag
from mtx.infra.dataset.plan.fixed import FixedSizeDraft


@dataclass(frozen=True, kw_only=True)
class SequentialPlanner(Planner):
    """Cuts the rows as they lie in the dataset, the same way in every epoch.

    Args:
        batch_size: pairs of a batch. The last one has fewer, unless it is dropped.
        drop_last: leave out the pairs at the end that fill no batch, the same in each epoch.
    """

    batch_size: int = 64
    drop_last: bool = False

    def __post_init__(self) -> None:
        check_at_least("sampler.batch_size", self.batch_size, 1)
        check_flag("sampler.drop_last", self.drop_last)

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> FixedSizeDraft:
        """Take all rows as one group."""
        rows, dropped = candidates(len(lengths), excluded)
        return FixedSizeDraft(
            num_rows=len(lengths),
            groups=[rows],
            batch_size=self.batch_size,
            drop_last=self.drop_last,
            shuffle=False,
            dropped=dropped,
        )
