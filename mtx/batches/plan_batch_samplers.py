"""PyTorch batch samplers that yield the batches of a plan as lists of row numbers.

    loader = DataLoader(dataset, batch_sampler=PlanBatchSampler(planner, lengths), collate_fn=...)

A loader reads and collates the rows that a sampler yields.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from mtx.batches.plan.bucket import Boundaries, BucketPlanner
from mtx.batches.plan.planner import Draft, Lengths, Mask, Plan, Planner
from mtx.batches.plan.rank_assignment import assigned_batches, num_steps
from mtx.batches.process_rank import check_rank_is_known, given_ranks, process_rank
from mtx.errors import ConfigError


class PlanBatchSampler(Sampler[list[int]]):
    """Batch sampler that yields the batches of a planner, each as a list of row numbers.

    `set_epoch` chooses the epoch. If it was never called, each pass over the sampler is the next epoch. So a plain loop
    over a DataLoader gets new batches in each pass. Lightning calls `set_epoch` on the attribute `sampler` of a batch
    sampler, which here returns the batch sampler itself. Use a PlanBatchSampler in the main process only. It is
    picklable: the draft is left out and built again when it is needed.

    Args:
        planner: forms the batches.
        lengths: lengths of all rows.
        seed: seed of all random choices, together with the epoch.
        excluded: bool [n], True at rows that never enter a batch; they are counted as `dropped_length`.
        rank: rank of this process. Each rank gets equally many batches, and no batch is repeated; None: there is one
            rank. If `torch.distributed` is initialized with several ranks, `rank` and `world_size` are required.
        world_size: number of ranks, given together with `rank`.
    """

    def __init__(
        self,
        planner: Planner,
        lengths: Lengths,
        *,
        seed: int = 0,
        excluded: Mask | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        self.planner = planner
        self.lengths = lengths
        self.seed = seed
        self.excluded = excluded
        self._ranks = given_ranks(rank, world_size)
        self._epoch: int | None = None
        self._num_passes = 0
        self._draft: Draft | None = None

    def __len__(self) -> int:
        """Return the number of batches of each rank, which is the same in every epoch."""
        if self._ranks is None:
            return len(self.draft)
        plan = self.plan()
        return num_steps(len(plan), len(plan.rows), self._ranks[1])

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of the current epoch; the epoch is read when the first batch is requested.

        Raises:
            ConfigError: this process is one of several ranks, and `rank` and `world_size` are not given.
        """
        if self._ranks is None:
            self._check_alone()
        plan = self.plan()
        self._num_passes += 1
        rank, world_size = self._ranks or (0, 1)
        for item in assigned_batches(plan, world_size).items(rank=rank):
            yield (item[0] if isinstance(item, tuple) else item).tolist()

    def _check_alone(self) -> None:
        check_rank_is_known()
        rank, world_size = process_rank()
        if world_size > 1:
            raise ConfigError(
                f"this process is rank {rank} of {world_size}, and {type(self).__name__} does not know whether it or "
                f"another tool divides the batches. Give {type(self).__name__} rank={rank}, world_size={world_size}; "
                "or rank=0, world_size=1 for a tool that gives each rank its part, as accelerate does with "
                "even_batches=False"
            )

    @property
    def epoch(self) -> int:
        """Number of the epoch that the next pass yields."""
        return self._num_passes if self._epoch is None else self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Make every pass yield `epoch`, until `set_epoch` is called again."""
        self._epoch = epoch

    @property
    def sampler(self) -> "PlanBatchSampler":
        """This batch sampler itself, because Lightning calls `set_epoch` only on `batch_sampler.sampler`."""
        return self

    @property
    def draft(self) -> Draft:
        """The planner's draft, which all epochs share; it is built at the first access."""
        if self._draft is None:
            self._draft = self.planner.draft(self.lengths, excluded=self.excluded)
        return self._draft

    def plan(self) -> Plan:
        """Return the plan of the epoch that the next pass yields."""
        return self.draft.plan(seed=self.seed, epoch=self.epoch)

    def ledger(self) -> dict[str, int]:
        """Return the counts of all rows by their use, as `Plan.ledger` does; they are the same in every epoch."""
        return self.plan().ledger()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_draft": None}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.planner!r}, rows={len(self.lengths)}, seed={self.seed})"


class BucketBatchSampler(PlanBatchSampler):
    """Batch sampler that yields batches from one bucket each, shuffled within and across buckets.

    It is a `PlanBatchSampler` with a `BucketPlanner`, for lengths given as sequences:

    >>> words = [3, 9, 2, 8, 3, 9, 8, 2]
    >>> sampler = BucketBatchSampler(bucket_ids=words, batch_size=2, len_key=words, drop_last=True)
    >>> sorted([words[row] for row in rows] for rows in sampler)
    [[2, 2], [3, 3], [8, 8], [9, 9]]

    Args:
        bucket_ids: a number for each row, such as its length. If there are at most `num_buckets` different numbers,
            each is a bucket; otherwise `boundaries` groups them. A bucket with less than one batch is merged with the
            next.
        batch_size: number of rows in a batch. Each bucket has at most one smaller batch.
        len_key: length of each row; rows of a bucket are then sorted by it within pools, so that rows of a batch have
            similar lengths. None: rows of a bucket are in random order.
        drop_last: whether to drop the last, incomplete batch of each bucket; the dropped rows change each epoch.
        seed: seed of all random choices, together with the epoch.
        num_buckets: largest number of buckets.
        boundaries: `equal_mass`, `geometric`, `optimal`, or the greatest number of each bucket, ascending; None:
            `equal_mass`. See `BucketPlanner`.
        pool_batches: the rows of this many batches of a bucket are sorted together by `len_key`, then split into
            batches.
        rank, world_size: see `PlanBatchSampler`.

    Raises:
        ValueError: `bucket_ids` and `len_key` differ in length, or contain values that are not integers of at least 0.
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
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        if len_key is not None and len(bucket_ids) != len(len_key):
            raise ValueError(
                f"bucket_ids and len_key need one number for each row, but their lengths are {len(bucket_ids)} and "
                f"{len(len_key)}. Compute both from the same rows"
            )
        planner = BucketPlanner(
            batch_size=batch_size,
            num_buckets=num_buckets,
            boundaries="equal_mass" if boundaries is None else boundaries,
            by="source",  # bucket_ids are passed as source lengths, and len_key as target lengths
            pool_batches=1 if len_key is None else pool_batches,
            drop_last=drop_last,
        )
        super().__init__(planner, Lengths.of(bucket_ids, len_key), seed=seed, rank=rank, world_size=world_size)
