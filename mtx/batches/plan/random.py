"""The random planner: batches of a fixed number of pairs in random order, a baseline with the most padding."""

from typing import ClassVar

from mtx.batches.plan.fixed_size import FixedSizePlanner
from mtx.components.checked_options import component


@component("sampler")
class RandomPlanner(FixedSizePlanner):
    """Cuts batches from a random permutation of all rows, which changes each epoch.

    Args:
        batch_size: number of pairs in a batch. The last batch in cut order may have fewer.
        drop_last: whether to drop that last batch if it is incomplete; the dropped pairs change each epoch.
    """

    kind: ClassVar[str] = "sampler/random"
    version: ClassVar[int] = 1

    SHUFFLE: ClassVar[bool] = True
