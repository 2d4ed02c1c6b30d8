"""Epochs of a mixture: which rows of each source an epoch draws, and the batches of these rows.

Weights or a temperature (Arivazhagan et al. 2019, arXiv 1907.05019) give each source a share of the epoch. The share
gives the quota: the number of draws per epoch, which is the same in every epoch. The rows of a source form a cycle, in
an order that the seed decides. An epoch draws as many rows as the quota says, starting where the previous epoch ended.
So in one epoch, and over consecutive epochs, the numbers of draws of two rows of a source differ by at most one.

>>> servings = epoch_quotas(["big", "small"], np.array([0] * 6 + [1] * 2), shares=[0.5, 0.5])
>>> servings.quotas.tolist()
[4, 4]
>>> [np.bincount(np.concatenate(servings.parts(seed=0, epoch=epoch)), minlength=8)[6:].tolist() for epoch in range(2)]
[[2, 2], [2, 2]]
>>> sum(np.bincount(np.concatenate(servings.parts(seed=0, epoch=epoch)), minlength=8) for epoch in range(3)).tolist()
[2, 2, 2, 2, 2, 2, 6, 6]
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.constant_epoch_length import constant_num_batches, plan_with_num_batches
from mtx.batches.plan.merge_to_batch_count import merged_plan
from mtx.batches.plan.mixture_proportions import Float, apportioned_counts, shares_by_temperature
from mtx.batches.plan.planner import Draft, Int, Lengths, Mask, Plan, Planner, Rows, random_generator
from mtx.errors import ConfigError, EmptyDatasetError

MIN_PART_ROWS = 100_000  # draws; in smaller parts, rows of a batch have less similar lengths, and padding grows
SOURCE_ORDER_PURPOSE = 1 << 32  # smallest `purpose` of random generators for source orders; others are smaller

SourceIndex = NDArray[np.uint16]


@dataclass(frozen=True)
class EpochQuotas:
    """Number of draws of each source per epoch. The drawn rows are a pure function of (seed, epoch).

    Attributes:
        num_rows: number of rows of all sources, including rows that are never drawn.
        names: names of the sources. The order of a source's rows depends on its name, not on the other sources.
        rows: int32 arrays, the rows of each source that can be drawn, ascending.
        quotas: int64 [sources], draws of each source per epoch, at least 1.
    """

    num_rows: int
    names: tuple[str, ...]
    rows: tuple[Rows, ...]
    quotas: Int

    @property
    def num_parts(self) -> int:
        """Number of parts into which an epoch is divided.

        It is the largest number of draws of one row, but small enough that each part has at least 100,000 draws.
        """
        most = max(-(-int(quota) // len(rows)) for quota, rows in zip(self.quotas, self.rows, strict=True))
        return self._limited_parts(most)

    def _limited_parts(self, most_draws: int) -> int:
        return max(1, min(most_draws, int(self.quotas.sum()) // MIN_PART_ROWS))

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> "MixedDraft":
        """Return a draft of the mixture's epochs, in which each epoch has as many batches as it needs.

        Use it if lengths change with the epoch; the caller must adjust the number of batches.
        """
        return MixedDraft(planner, lengths, self, excluded=excluded, steady=False)

    def parts(self, *, seed: int, epoch: int) -> list[Rows]:
        """Return the rows of each part of an epoch, int32, ascending.

        Draws of the same row go to different parts, so that a batch rarely contains a row twice. Each part has its
        share of each source. The sizes of the parts are the same in every epoch.
        """
        served = np.concatenate([self._drawn_rows(source, seed, epoch) for source in range(len(self.names))])
        num_parts = self.num_parts
        return [np.sort(served[part::num_parts]) for part in range(num_parts)]

    def max_cost_ratio(self, cost: Int, *, seed: int) -> float:
        """Return the cost of the most expensive epoch, divided by the cost of epoch 0.

        Args:
            cost: [n], cost of one draw of each row.
            seed: seed of the epochs.
        """
        first = most = 0
        for source, (rows, quota) in enumerate(zip(self.rows, self.quotas, strict=True)):
            times, more = divmod(int(quota), len(rows))
            own = cost[self._row_cycle(source, seed)].astype(np.int64)
            sums = np.cumsum(np.concatenate([[0], own, own[:more]]))
            windows = sums[more : more + len(rows)] - sums[: len(rows)]
            first += times * int(sums[len(rows)]) + int(windows[0])
            most += times * int(sums[len(rows)]) + int(windows.max())
        return most / first if first else 1.0

    def _drawn_rows(self, source: int, seed: int, epoch: int) -> Rows:
        """Return the draws of a source in random order; repeated draws of one row are adjacent."""
        num_rows, quota = len(self.rows[source]), int(self.quotas[source])
        times, more = divmod(quota, num_rows)
        counts = np.full(num_rows, times, dtype=np.int64)
        counts[(epoch * quota % num_rows + np.arange(more)) % num_rows] += 1
        order = random_generator(seed, epoch, self._rng_purpose(source) + SOURCE_ORDER_PURPOSE).permutation(num_rows)
        return np.repeat(self._row_cycle(source, seed)[order], counts[order])

    def _row_cycle(self, source: int, seed: int) -> Rows:
        return random_generator(seed, 0, self._rng_purpose(source)).permutation(self.rows[source])

    def _rng_purpose(self, source: int) -> int:
        return SOURCE_ORDER_PURPOSE + zlib.crc32(self.names[source].encode())


def epoch_quotas(
    names: Sequence[str],
    source: NDArray[Any],
    *,
    shares: Sequence[float] | Float | None = None,
    temperature: float | None = None,
    epoch_pairs: int | None = None,
    unservable: Rows | None = None,
    group_by: str | None = None,
) -> EpochQuotas:
    """Compute the quota of each source per epoch.

    Args:
        names: names of the sources.
        source: [n], the source of each row, as an index of `names`.
        shares: share of each source in an epoch, with sum 1.
        temperature: computes the shares from the number of rows that can be drawn; used instead of `shares`.
        epoch_pairs: number of draws per epoch; None: the number of rows that can be drawn.
        unservable: rows that are never drawn.
        group_by: the column whose values are the sources, for messages; None: the sources are those of a mixture.

    Raises:
        EmptyDatasetError: no row of a source can be drawn.
        ConfigError: the share of a source is less than one draw per epoch.
    """
    can = np.ones(len(source), dtype=np.bool_)
    if unservable is not None:
        can[unservable] = False
    rows = tuple(np.flatnonzero(can & (source == number)).astype(np.int32) for number in range(len(names)))
    if empty := [name for name, own in zip(names, rows, strict=True) if not len(own)]:
        of, remove = _origin(empty[0], group_by)
        raise EmptyDatasetError(
            f"all pairs of {of} are too long, so none can be drawn. Raise datamodule.max_source_tokens and "
            f"datamodule.max_target_tokens, or sampler.max_tokens, or {remove}"
        )
    sizes = [len(own) for own in rows]
    if temperature is not None:
        shares = shares_by_temperature(sizes, temperature)
    assert shares is not None, "a mixture has shares or a temperature"
    total = sum(sizes) if epoch_pairs is None else epoch_pairs
    quotas = apportioned_counts(shares, total)
    for name, quota, share in zip(names, quotas, shares, strict=True):
        if not quota:
            of, remove = _origin(name, group_by)
            more = (
                "downloader.weights, raise downloader.epoch_pairs" if group_by is None else "datamodule.group_weights"
            )
            raise ConfigError(
                f"an epoch needs at least one pair of {of}, but its share is {share:.3g} of {total:,} pairs. Raise its "
                f"weight in {more}, or {remove}"
            )
    return EpochQuotas(len(source), tuple(names), rows, quotas)


def _origin(name: str, group_by: str | None) -> tuple[str, str]:
    """Return how a message calls a source, and how to do without it."""
    if group_by is None:
        return f"the source {name!r} of the mixture", "remove the source from downloader.sources"
    return f"the group {group_by}={name}", "drop its pairs by a filter"


class MixedDraft(Draft):
    """Draft of the epochs of a mixture, with batches that a planner forms.

    Immutable except for a cached length; picklable. Each call of `plan` makes a new draft over the epoch's rows. `len`
    plans epoch 0. If `steady`, all epochs get the number of batches of epoch 0, and some more. The epoch with the
    longest rows may need these. An epoch that needs still more merges its smallest batches. It drops
    rows only of batches that cannot merge, such as those of packed rows.

    Args:
        planner: forms the batches.
        lengths: lengths of all rows.
        servings: quotas of each source.
        excluded: bool [n], True at rows that are too long; drawn rows among them are counted as `dropped_length`.
        seed: seed of the epoch 0 that decides the number of batches.
        steady: True: all epochs have the same number of batches; False: each epoch has as many as it needs.
    """

    def __init__(
        self,
        planner: Planner,
        lengths: Lengths,
        servings: EpochQuotas,
        *,
        excluded: Mask | None = None,
        seed: int = 0,
        steady: bool = True,
    ) -> None:
        self._planner = planner
        self._lengths = lengths
        self._quotas = servings
        self._excluded = excluded
        self._seed = seed
        self._steady = steady
        self._num_batches: int | None = None

    def __len__(self) -> int:
        if self._num_batches is None:
            needed = len(self._plan(self._seed, 0))
            self._num_batches = self._sufficient_num_batches(needed) if self._steady else needed
        return self._num_batches

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`; rows that the epoch does not draw are in `not_drawn`."""
        plan = self._plan(seed, epoch)
        if not self._steady:
            return plan
        batch_multiple: int = getattr(self._planner, "batch_multiple", 1)
        length_multiple: int = getattr(self._planner, "length_multiple", 1)
        plan = merged_plan(
            plan,
            len(self),
            self._lengths,
            length_multiple=length_multiple,
            batch_multiple=batch_multiple,
            real_tokens=self._real_tokens,
        )
        return plan_with_num_batches(plan, len(self), multiple=batch_multiple)

    def _sufficient_num_batches(self, needed: int) -> int:
        """Return a number of batches that is sufficient for all epochs, given the number of epoch 0."""
        if self._planner.is_length_agnostic:
            return needed
        spare = constant_num_batches(self._planner, needed) - needed  # planners cut each epoch differently
        source, target = self._lengths.source, self._lengths.target
        cost = np.maximum(source, target) if self._real_tokens is None else source.astype(np.int64) + target
        return math.ceil(needed * self._quotas.max_cost_ratio(cost, seed=self._seed)) + spare

    @property
    def _real_tokens(self) -> int | None:
        """The largest number of tokens in a batch, if the planner limits them and not padded positions."""
        return getattr(self._planner, "real_tokens", None)

    def _plan(self, seed: int, epoch: int) -> Plan:
        parts = self._quotas.parts(seed=seed, epoch=epoch)
        plans = []
        for number, rows in enumerate(parts):
            lengths = Lengths(self._lengths.source[rows], self._lengths.target[rows])
            excluded = None if self._excluded is None else self._excluded[rows]
            planned = self._planner.plan(lengths, seed=seed, epoch=epoch * len(parts) + number, excluded=excluded)
            plans.append(planned)
        return self._joined_plan(parts, plans)

    def _joined_plan(self, parts: list[Rows], plans: list[Plan]) -> Plan:
        """Concatenate the plans of all parts, and replace the row numbers of each part by those of the corpus."""
        served = np.concatenate([rows[plan.rows] for rows, plan in zip(parts, plans, strict=True)])
        too_long = np.ones(self._quotas.num_rows, dtype=np.bool_)
        too_long[np.concatenate(self._quotas.rows)] = False
        if self._excluded is not None:
            too_long |= self._excluded
        for rows, plan in zip(parts, plans, strict=True):
            too_long[rows[plan.dropped_length]] = True
        drawn, batched = np.zeros((2, self._quotas.num_rows), dtype=np.bool_)
        drawn[np.concatenate(parts)] = True
        batched[served] = True
        sizes = np.concatenate([np.diff(plan.offsets) for plan in plans])
        begun = np.cumsum([0, *(len(plan) for plan in plans[:-1])])
        widths = [plan.widths for plan in plans if plan.widths is not None]
        return Plan(
            num_rows=self._quotas.num_rows,
            rows=served,
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)]),
            order=np.concatenate([plan.order + first for plan, first in zip(plans, begun, strict=True)]),
            dropped_length=_row_numbers(too_long),
            dropped_remainder=_row_numbers(drawn & ~batched & ~too_long),
            widths=np.concatenate(widths) if widths else None,
            not_drawn=_row_numbers(~drawn & ~too_long),
            mixes_lengths=any(plan.mixes_lengths for plan in plans),
            is_packed=any(plan.is_packed for plan in plans),
        )


def source_ledgers(plan: Plan, names: Sequence[str], source: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Return the ledger of each source, as `Plan.ledger` does for all rows, with `drawn`: its rows in all batches."""
    served = np.bincount(plan.rows, minlength=plan.num_rows)
    kinds = {
        "batched": _row_numbers(served > 0),
        "dropped_length": plan.dropped_length,
        "dropped_remainder": plan.dropped_remainder,
        **({} if plan.not_drawn is None else {"not_drawn": plan.not_drawn}),
    }
    of_source = {kind: np.bincount(source[rows], minlength=len(names)) for kind, rows in kinds.items()}
    num_pairs = np.bincount(source, minlength=len(names))
    servings = np.bincount(source[plan.rows], minlength=len(names))
    return {
        name: {
            "num_pairs": int(num_pairs[number]),
            **{kind: int(counts[number]) for kind, counts in of_source.items()},
            "repeated": int(servings[number] - of_source["batched"][number]),
            "drawn": int(servings[number]),
        }
        for number, name in enumerate(names)
    }


def _row_numbers(mask: Mask) -> Rows:
    return np.flatnonzero(mask).astype(np.int32)
