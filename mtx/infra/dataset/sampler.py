"""Plans as PyTorch batch samplers: row numbers of one batch after another.

    loader = DataLoader(dataset, batch_sampler=PlanBatchSampler(planner, lengths), collate_fn=...)

The last stage before the rows themselves: what a sampler yields, the loader reads and collates.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mtx.infra.dataset.plan.base import Draft, Lengths, Mask, Plan, Planner
from mtx.infra.dataset.plan.bucket import Boundaries, BucketPlanner


class PlanBatchSampler(Sampler[list[int]]):
    """Yields the batches of a planner as lists of row numbers.

    Which epoch comes is decided by `set_epoch`. As long as it was never called, each pass over the sampler is the
    next epoch, so that a plain loop over a DataLoader gets fresh batches. Lightning calls `set_epoch` on the
    `sampler` of a batch sampler, which is this one itself. Lives in the main process only; picklable, without its
    draft, which is made again when needed.

    Args:
        planner: how to form batches.
        lengths: of all rows.
        seed: decides, with the epoch, on every random choice.
        excluded: bool [n], True at rows that never enter a batch; counted as dropped for their length.
    """

    def __init__(self, planner: Planner, lengths: Lengths, *, seed: int = 0, excluded: Mask | None = None) -> None:
        self.planner = planner
        self.lengths = lengths
        self.seed = seed
        self.excluded = excluded
        self._epoch: int | None = None
        self._num_passes = 0
        self._draft: Draft | None = None

    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""
        return len(self.draft)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the epoch; which one is decided when the first is asked for."""
        plan = self.plan()
        self._num_passes += 1
        for rows in plan:
            yield rows.tolist()

    @property
    def epoch(self) -> int:
        """The epoch of the next pass."""
        return self._num_passes if self._epoch is None else self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Make all passes from now on those of `epoch`, until it is called again."""
        self._epoch = epoch

    @property
    def sampler(self) -> "PlanBatchSampler":
        """This sampler: Lightning calls `batch_sampler.sampler.set_epoch`, and no other."""
        return self

    @property
    def draft(self) -> Draft:
        """What all epochs have in common; made when first needed."""
        if self._draft is None:
            self._draft = self.planner.draft(self.lengths, excluded=self.excluded)
        return self._draft

    def plan(self) -> Plan:
        """Return the batches of the next pass."""
        return self.draft.plan(seed=self.seed, epoch=self.epoch)

    def ledger(self) -> dict[str, int]:
        """Account for all rows, as `Plan.ledger`; the counts are the same in every epoch."""
        return self.plan().ledger()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_draft": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.planner!r}, rows={len(self.lengths)}, seed={self.seed})"


class BucketBatchSampler(PlanBatchSampler):
    """Yields batches of rows of one bucket, shuffled within and across buckets.

    A thin form of `PlanBatchSampler` with a `BucketPlanner`, for lengths at hand:

    >>> words = [3, 9, 2, 8, 3, 9, 8, 2]
    >>> sampler = BucketBatchSampler(bucket_ids=words, batch_size=2, len_key=words, drop_last=True)
    >>> sorted([words[row] for row in rows] for rows in sampler)
    [[2, 2], [3, 3], [8, 8], [9, 9]]

    Args:
        bucket_ids: a number for each row, such as its length. Up to `num_buckets` different numbers are buckets as
            they are; more are put together by `boundaries`. A bucket too small for one batch joins the next.
        batch_size: rows of a batch. Each bucket has at most one batch of fewer.
        len_key: the length of each row, to have rows of similar length in a batch also within a bucket; None: rows
            of a bucket meet at random.
        drop_last: leave out what fills no batch: fewer than `batch_size` rows of each bucket, others in each epoch.
        seed: decides, with the epoch, on every random choice.
        num_buckets: buckets to form at most.
        boundaries: `equal_mass`, `geometric`, `optimal`, or the greatest number of each bucket, ascending; None:
            `equal_mass`. See `BucketPlanner`.
        pool_batches: so many batches of a bucket at a time are ordered by `len_key` before they are cut.

    Raises:
        ValueError: `bucket_ids` and `len_key` differ in length, or are no whole numbers of at least 0.
        ConfigError: an option is out of range.
    """

    def __init__(
        self,
        bucket_ids: Sequence[int] | NDArray[np.integer[Any]],
        batch_size: int,
        len_key: Sequence[int] | NDArray[np.integer[Any]] | None = None,
        drop_last: bool = False,
        *,
        seed: int = 0,
        num_buckets: int = 32,
        boundaries: Boundaries | None = None,
        pool_batches: int = 50,
    ) -> None:
        if len_key is not None and len(bucket_ids) != len(len_key):
            raise ValueError(
                f"bucket_ids and len_key have one number for each row, but there are {len(bucket_ids)} and "
                f"{len(len_key)}. Make both from the same rows"
            )
        planner = BucketPlanner(
            batch_size=batch_size,
            num_buckets=num_buckets,
            boundaries="equal_mass" if boundaries is None else boundaries,
            by="source",  # bucket_ids; then len_key is the other side
            pool_batches=1 if len_key is None else pool_batches,
            drop_last=drop_last,
        )
        super().__init__(planner, Lengths.of(bucket_ids, len_key), seed=seed)
