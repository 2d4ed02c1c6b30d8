"""Batches of a fixed number of pairs in random order: the plainest way, and the one that pads most."""

from dataclasses import dataclass
from typing import ClassVar

from mtx.infra.dataset.plan.fixed import FixedSizePlanner


@dataclass(frozen=True, kw_only=True)
class RandomPlanner(FixedSizePlanner):
    """Cuts a random permutation of all rows, another in each epoch.

    Args:
        batch_size: pairs of a batch. The last of the cut has fewer, unless it is dropped.
        drop_last: leave out what fills no batch: fewer than `batch_size` pairs, others in each epoch.
    """

    SHUFFLE: ClassVar[bool] = True
