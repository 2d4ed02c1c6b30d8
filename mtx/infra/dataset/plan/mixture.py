"""Epochs of several sources: how often each row is served, exact to the row, and the batches of that.

Each source has a share of an epoch, by weights or by a temperature (Arivazhagan et al. 2019, arXiv 1907.05019), which
makes its quota: a number of servings, the same in every epoch. Its rows stand in a circle, in an order that the seed
decides, and an epoch takes as many of them as the quota says, from where the one before it ended. So in one epoch, and
over any epochs in a row, the rows of a source are served equally often, or differ by one.

>>> servings = servings_of(["big", "small"], np.array([0] * 6 + [1] * 2), shares=[0.5, 0.5])
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

from mtx.errors import ConfigError, EmptyDatasetError
from mtx.infra.dataset.plan.base import Draft, Int, Lengths, Mask, Plan, Planner, Rows, generator
from mtx.infra.dataset.plan.merge import merged
from mtx.infra.dataset.plan.shares import Float, apportioned, shares_by_temperature, shares_by_weight
from mtx.infra.dataset.plan.steady import steady_number, with_num_batches

LEAST_PART = 100_000  # servings; batches cut from fewer hold rows of less similar lengths, and so pad more
PURPOSE = 1 << 32  # of a source's order is this and more; smaller numbers are others' purposes

SourceIndex = NDArray[np.uint16]


@dataclass(frozen=True)
class Servings:
    """How many rows of each source an epoch has, and which: a pure function of (seed, epoch).

    Attributes:
        num_rows: rows of all sources, also those that are never served.
        names: of the sources. A source's order depends on its name, not on those beside it.
        rows: int32, the rows of each source that can be served, ascending.
        quotas: int64 [sources], servings of an epoch, each at least 1.
    """

    num_rows: int
    names: tuple[str, ...]
    rows: tuple[Rows, ...]
    quotas: Int

    @property
    def num_parts(self) -> int:
        """Into how many parts an epoch is cut: as many as a row is served times, unless they became too small."""
        most = max(-(-int(quota) // len(rows)) for quota, rows in zip(self.quotas, self.rows, strict=True))
        return max(1, min(most, int(self.quotas.sum()) // LEAST_PART))

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> "MixedDraft":
        """Return a planner's work on the epochs, each with as many batches as it needs.

        For lengths that change with the epoch: whoever changes them sees to the number of batches.
        """
        return MixedDraft(planner, lengths, self, excluded=excluded, steady=False)

    def parts(self, *, seed: int, epoch: int) -> list[Rows]:
        """Return the rows of each part of an epoch, int32, ascending.

        Rows that are served several times are dealt out, so that a batch hardly has one twice, and each part has its
        share of each source. Sizes of parts are the same in every epoch.
        """
        served = np.concatenate([self._served(source, seed, epoch) for source in range(len(self.names))])
        num_parts = self.num_parts
        return [np.sort(served[part::num_parts]) for part in range(num_parts)]

    def heaviest(self, cost: Int, *, seed: int) -> float:
        """Return the cost of the epoch that costs most, whichever it is, over that of epoch 0.

        Args:
            cost: [n] of a serving of each row.
            seed: of the epochs.
        """
        first = most = 0
        for source, (rows, quota) in enumerate(zip(self.rows, self.quotas, strict=True)):
            times, more = divmod(int(quota), len(rows))
            own = cost[self._circle(source, seed)].astype(np.int64)
            sums = np.cumsum(np.concatenate([[0], own, own[:more]]))
            windows = sums[more : more + len(rows)] - sums[: len(rows)]
            first += times * int(sums[len(rows)]) + int(windows[0])
            most += times * int(sums[len(rows)]) + int(windows.max())
        return most / first if first else 1.0

    def _served(self, source: int, seed: int, epoch: int) -> Rows:
        """Return the servings of a source in any order, those of one row side by side."""
        num_rows, quota = len(self.rows[source]), int(self.quotas[source])
        times, more = divmod(quota, num_rows)
        counts = np.full(num_rows, times, dtype=np.int64)
        counts[(epoch * quota % num_rows + np.arange(more)) % num_rows] += 1
        order = generator(seed, epoch, self._purpose(source) + PURPOSE).permutation(num_rows)
        return np.repeat(self._circle(source, seed)[order], counts[order])

    def _circle(self, source: int, seed: int) -> Rows:
        return generator(seed, 0, self._purpose(source)).permutation(self.rows[source])

    def _purpose(self, source: int) -> int:
        return PURPOSE + zlib.crc32(self.names[source].encode())


def servings_of(
    names: Sequence[str],
    source: NDArray[Any],
    *,
    shares: Sequence[float] | Float | None = None,
    temperature: float | None = None,
    epoch_pairs: int | None = None,
    unservable: Rows | None = None,
) -> Servings:
    """Find each source's quota of an epoch.

    Args:
        names: of the sources.
        source: [n], each row's source, a place in `names`.
        shares: of each source in an epoch, together 1.
        temperature: instead of shares, by the number of rows that can be served.
        epoch_pairs: servings of an epoch; None: as many as there are rows that can be served.
        unservable: rows that never are.

    Raises:
        EmptyDatasetError: no row of a source can be served.
        ConfigError: a source's share is less than one serving.
    """
    can = np.ones(len(source), dtype=np.bool_)
    if unservable is not None:
        can[unservable] = False
    rows = tuple(np.flatnonzero(can & (source == number)).astype(np.int32) for number in range(len(names)))
    if empty := [name for name, own in zip(names, rows, strict=True) if not len(own)]:
        raise EmptyDatasetError(
            f"the source {empty[0]!r} of the mixture has no pair that can be served: all are too long. Raise "
            "datamodule.max_source_tokens and datamodule.max_target_tokens or sampler.max_tokens, or leave it out of "
            "downloader.sources"
        )
    sizes = [len(own) for own in rows]
    if temperature is not None:
        shares = shares_by_temperature(sizes, temperature)
    assert shares is not None, "a mixture has shares or a temperature"
    total = sum(sizes) if epoch_pairs is None else epoch_pairs
    quotas = apportioned(shares, total)
    for name, quota, share in zip(names, quotas, shares, strict=True):
        if not quota:
            raise ConfigError(
                f"the source {name!r} has a share of {share:.3g} in an epoch of {total:,} pairs, which is not one "
                "pair. Raise its weight in downloader.weights, or downloader.epoch_pairs, or leave it out"
            )
    return Servings(len(source), tuple(names), rows, quotas)


class MixedDraft(Draft):
    """The epochs of a mixture in a planner's batches. Immutable but for what it remembers; picklable.

    An epoch costs a draft over its servings. `len` costs that of epoch 0: all epochs get as many batches as that
    needs, and as many more as the epoch with the longest rows may need. One that needs still more has its smallest
    batches put together, so that none leaves out rows of its quota.

    Args:
        planner: forms the batches.
        lengths: of all rows.
        servings: of each epoch.
        excluded: bool [n], True at rows that are too long; those that are drawn count under `dropped_length`.
        seed: of the epoch that says how many batches there are.
        steady: all epochs have the same number of batches; False: each has what it needs, and someone else sees to it.
    """

    def __init__(
        self,
        planner: Planner,
        lengths: Lengths,
        servings: Servings,
        *,
        excluded: Mask | None = None,
        seed: int = 0,
        steady: bool = True,
    ) -> None:
        self._planner = planner
        self._lengths = lengths
        self._servings = servings
        self._excluded = excluded
        self._seed = seed
        self._steady = steady
        self._num_batches: int | None = None

    def __len__(self) -> int:
        if self._num_batches is None:
            needed = len(self._plan(self._seed, 0))
            self._num_batches = self._enough(needed) if self._steady else needed
        return self._num_batches

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`, and the rows that it leaves to others as `not_drawn`."""
        plan = self._plan(seed, epoch)
        if not self._steady:
            return plan
        batch_multiple: int = getattr(self._planner, "batch_multiple", 1)
        length_multiple: int = getattr(self._planner, "length_multiple", 1)
        plan = merged(plan, len(self), self._lengths, length_multiple=length_multiple, batch_multiple=batch_multiple)
        return with_num_batches(plan, len(self), multiple=batch_multiple)

    def _enough(self, needed: int) -> int:
        """Return how many batches are enough for all epochs, given what epoch 0 needs."""
        if self._planner.counts_rows_alone:
            return needed
        spare = steady_number(self._planner, needed) - needed  # since planners cut every epoch another way
        longest = np.maximum(self._lengths.source, self._lengths.target)
        return math.ceil(needed * self._servings.heaviest(longest, seed=self._seed)) + spare

    def _plan(self, seed: int, epoch: int) -> Plan:
        parts = self._servings.parts(seed=seed, epoch=epoch)
        plans = []
        for number, rows in enumerate(parts):
            lengths = Lengths(self._lengths.source[rows], self._lengths.target[rows])
            excluded = None if self._excluded is None else self._excluded[rows]
            planned = self._planner.plan(lengths, seed=seed, epoch=epoch * len(parts) + number, excluded=excluded)
            plans.append(planned)
        return self._joined(parts, plans)

    def _joined(self, parts: list[Rows], plans: list[Plan]) -> Plan:
        """Put the parts' plans together, part after part, with the rows of the corpus in place of those of a part."""
        served = np.concatenate([rows[plan.rows] for rows, plan in zip(parts, plans, strict=True)])
        too_long = np.ones(self._servings.num_rows, dtype=np.bool_)
        too_long[np.concatenate(self._servings.rows)] = False
        if self._excluded is not None:
            too_long |= self._excluded
        for rows, plan in zip(parts, plans, strict=True):
            too_long[rows[plan.dropped_length]] = True
        drawn, batched = np.zeros((2, self._servings.num_rows), dtype=np.bool_)
        drawn[np.concatenate(parts)] = True
        batched[served] = True
        sizes = np.concatenate([np.diff(plan.offsets) for plan in plans])
        begun = np.cumsum([0, *(len(plan) for plan in plans[:-1])])
        widths = [plan.widths for plan in plans if plan.widths is not None]
        return Plan(
            num_rows=self._servings.num_rows,
            rows=served,
            offsets=np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes, dtype=np.int64)]),
            order=np.concatenate([plan.order + first for plan, first in zip(plans, begun, strict=True)]),
            dropped_length=_rows(too_long),
            dropped_remainder=_rows(drawn & ~batched & ~too_long),
            widths=np.concatenate(widths) if widths else None,
            not_drawn=_rows(~drawn & ~too_long),
        )


@dataclass(frozen=True)
class Mixing:
    """What a config asks of a mixture, and where each row comes from: makes a planner's work on it.

    Attributes:
        names: of the sources.
        source: uint16 [n], each row's source, a place in `names`.
        weights: of each source; None: by `temperature`.
        temperature: of the shares by size; None: by `weights`.
        epoch_pairs: servings of an epoch; None: as many as there are rows that can be served.
        seed: of the order of training.
    """

    names: tuple[str, ...]
    source: SourceIndex
    weights: tuple[float, ...] | None
    temperature: float | None
    epoch_pairs: int | None
    seed: int

    def servings(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> Servings:
        """Return the servings of the epochs; rows that are excluded, or too long for the planner, are in none."""
        unservable = planner.plan(lengths, seed=self.seed, epoch=0, excluded=excluded).dropped_length
        return servings_of(
            self.names,
            self.source,
            shares=None if self.weights is None else shares_by_weight(self.weights),
            temperature=self.temperature,
            epoch_pairs=self.epoch_pairs,
            unservable=unservable,
        )

    def draft(self, planner: Planner, lengths: Lengths, *, excluded: Mask | None = None) -> MixedDraft:
        """Return the planner's work on the epochs. Raises as `servings_of` does."""
        servings = self.servings(planner, lengths, excluded=excluded)
        return MixedDraft(planner, lengths, servings, excluded=excluded, seed=self.seed)


def ledgers(plan: Plan, names: Sequence[str], source: NDArray[Any]) -> dict[str, dict[str, int]]:
    """Account for the rows of each source, as `Plan.ledger` does for all, with `servings`: its rows in all batches."""
    served = np.bincount(plan.rows, minlength=plan.num_rows)
    kinds = {
        "batched": _rows(served > 0),
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
            "servings": int(servings[number]),
        }
        for number, name in enumerate(names)
    }


def _rows(mask: Mask) -> Rows:
    return np.flatnonzero(mask).astype(np.int32)
