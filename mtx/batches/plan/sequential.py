"""The sequential planner: batches of a fixed number of pairs in dataset order, a baseline."""

from typing import ClassVar

from mtx.batches.plan.fixed_size import FixedSizePlanner
from mtx.components.checked_options import component


@component("sampler")
class SequentialPlanner(FixedSizePlanner):
    """Cuts batches from the rows in dataset order; the batches are the same in every epoch.

    Args:
        batch_size: number of pairs in a batch. The last batch may have fewer.
        drop_last: whether to drop the last batch if it is incomplete: the same pairs in every epoch.
    """

    kind: ClassVar[str] = "sampler/sequential"
    version: ClassVar[int] = 1

    SHUFFLE: ClassVar[bool] = False
