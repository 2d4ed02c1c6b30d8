"""Batches of a fixed number of pairs in the order of the dataset: for validation, and to compare with."""

from dataclasses import dataclass
from typing import ClassVar

from mtx.infra.dataset.plan.fixed import FixedSizePlanner


@dataclass(frozen=True, kw_only=True)
class SequentialPlanner(FixedSizePlanner):
    """Cuts the rows as they lie in the dataset, the same way in every epoch.

    Args:
        batch_size: pairs of a batch. The last one has fewer, unless it is dropped.
        drop_last: leave out the pairs at the end that fill no batch, the same in each epoch.
    """

    SHUFFLE: ClassVar[bool] = False
