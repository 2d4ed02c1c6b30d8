"""Batches of a fixed number of pairs in random order: the plainest way, and the one that pads most."""

from dataclasses import dataclass

from mtx.infra.dataset.plan.base import Lengths, Mask, Planner, candidates, check_at_least, check_flag
from mtx.infra.dataset.plan.fixed import FixedSizeDraft


@dataclass(frozen=True, kw_only=True)
class RandomPlanner(Planner):
    """Cuts a random permutation of all rows, another in each epoch.

    Args:
        batch_size: pairs of a batch. The last of the cut has fewer, unless it is dropped.
        drop_last: leave out what fills no batch: fewer than `batch_size` pairs, others in each epoch.
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
            shuffle=True,
            dropped=dropped,
        )
