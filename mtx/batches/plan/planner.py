"""Base classes of planners, and the plan of an epoch: which rows form which batch, as arrays.

A planner takes the lengths of all rows and returns batches of row numbers. A plan is a pure function of (lengths,
planner, seed, epoch). It does not depend on torch, ranks or texts. Its ledger accounts for every row: in a batch,
dropped because of its length, dropped as remainder, or not drawn.

A `Planner` holds the options, a `Draft` the data that all epochs share, a `Plan` the batches of one epoch:

>>> from mtx.batches.plan.token_budget import TokenBudgetPlanner
>>> lengths = Lengths.of([3, 5, 3, 9, 5, 3], [4, 5, 4, 8, 6, 4])
>>> draft = TokenBudgetPlanner(max_tokens=12).draft(lengths)
>>> len(draft)  # number of batches in every epoch
3
>>> plan = draft.plan(seed=0, epoch=3)
>>> sorted(sorted(rows.tolist()) for rows in plan)
[[0, 2, 5], [1, 4], [3]]
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mtx.errors import ConfigError

Int = NDArray[np.int64]
Rows = NDArray[np.int32]  # row numbers; int32 saves memory, since there may be 100 million
Mask = NDArray[np.bool_]

MAX_ROWS = 2**31 - 1
NO_PADDING = 0  # as `length_multiple`: batches are flat, so a batch has the positions of its real tokens only


@dataclass(frozen=True)
class Lengths:
    """Number of tokens of each row in the tensors of a batch, including BOS and EOS.

    Attributes:
        source: int32 [n], at least 0; may be memory-mapped.
        target: int32 [n], at least 0; may be memory-mapped.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.source.shape != self.target.shape or self.source.ndim != 1:
            raise ValueError(
                f"lengths are two arrays [n] of one n, but their shapes are {self.source.shape} and {self.target.shape}"
            )
        for side, values in (("source", self.source), ("target", self.target)):
            if values.dtype != np.int32:
                raise ValueError(f"{side} lengths are int32, but are {values.dtype}. Convert them with Lengths.of")
            if len(values) and values.min() < 0:
                raise ValueError(f"{side} lengths are at least 0, but row {values.argmin()} has {values.min()}")

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, source: Sequence[int] | NDArray[Any], target: Sequence[int] | NDArray[Any] | None = None) -> "Lengths":
        """Convert integer sequences to Lengths; without `target`, both sides get the source's lengths.

        Raises:
            ValueError: a value is not an integer, or does not fit into int32.
        """
        source_array = _int32("source", source)
        return cls(source_array, source_array if target is None else _int32("target", target))


def _int32(side: str, values: Sequence[int] | NDArray[Any]) -> NDArray[np.int32]:
    array = np.asarray(values)
    if array.size == 0:
        array = array.astype(np.int32)
    if array.dtype.kind not in "iu":
        raise ValueError(f"{side} lengths are integers, but are {array.dtype}")
    if array.size and int(array.max()) > MAX_ROWS:
        raise ValueError(f"{side} lengths are below 2**31, but one is {array.max()}")
    return array.astype(np.int32, copy=False)


@dataclass(frozen=True)
class Plan:
    """The batches of one epoch.

    `rows` is in cut order, in which neighbouring batches cost about the same. `order` gives the order in which training
    uses the batches.

    Attributes:
        num_rows: number of rows for which the plan accounts.
        rows: int32 [drawn rows]; batch k in cut order has the rows `rows[offsets[k]:offsets[k + 1]]`.
        offsets: int64 [number of batches + 1], strictly increasing from 0.
        order: int64 [number of batches], a permutation; training step b uses batch `order[b]` in cut order.
        dropped_length: int32 [k], rows dropped because of their length, ascending.
        dropped_remainder: int32 [k], rows dropped because they do not fill a batch, ascending.
        widths: int64 [number of batches, 2], source and target positions to which batch k in cut order is padded. They
            are never below the lengths of its rows. None: each batch is padded to its longest row.
        not_drawn: int32 [k], rows that the epoch of a mixture does not draw, ascending; None: an epoch draws all rows.
        mixes_lengths: whether ranks get batches of different lengths in a step, at similar costs.
        is_packed: whether a row of a batch holds several pairs; `widths` are then the rows of a batch and their length.
    """

    num_rows: int
    rows: Rows
    offsets: Int
    order: Int
    dropped_length: Rows
    dropped_remainder: Rows
    widths: Int | None = None
    not_drawn: Rows | None = None
    mixes_lengths: bool = False
    is_packed: bool = False

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, batch: int) -> Int:
        """Return the rows of the batch that training uses at step `batch` (from 0), int64 [B]."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batches are numbered from 0 to {len(self) - 1}, but {batch} was requested")
        cut = self.order[batch]
        return self.rows[self.offsets[cut] : self.offsets[cut + 1]].astype(np.int64)

    def __iter__(self) -> Iterator[Int]:
        return (self[batch] for batch in range(len(self)))

    def ledger(self) -> dict[str, int]:
        """Return the number of rows by their use in the epoch.

        Returns:
            `num_pairs`, all rows; `batched`, rows in at least one batch; `dropped_length`; `dropped_remainder`.
            `repeated` counts draws of a row beyond its first. `not_drawn` is there if an epoch is a sample of the rows.
            `num_pairs` is the sum of `batched`, `dropped_length`, `dropped_remainder` and `not_drawn`.

        Raises:
            AssertionError: the plan loses a row, or counts a row twice.
        """
        seen = np.zeros(self.num_rows, dtype=bool)
        seen[self.rows] = True
        batched = int(np.count_nonzero(seen))
        seen[self.dropped_length] = True
        seen[self.dropped_remainder] = True
        ledger = {
            "num_pairs": self.num_rows,
            "batched": batched,
            "dropped_length": len(self.dropped_length),
            "dropped_remainder": len(self.dropped_remainder),
            "repeated": len(self.rows) - batched,
        }
        accounted = batched + len(self.dropped_length) + len(self.dropped_remainder)
        if self.not_drawn is not None:
            seen[self.not_drawn] = True
            ledger["not_drawn"] = len(self.not_drawn)
            accounted += len(self.not_drawn)
        assert accounted == int(np.count_nonzero(seen)) == self.num_rows, f"rows are lost or counted twice: {ledger}"
        return ledger


class Draft(ABC):
    """Data that all epochs of a planner over the same lengths share.

    Drafts are immutable and picklable, and hold arrays of up to a few bytes per row. Keep a draft to plan many epochs.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches, which is the same in every epoch."""

    @abstractmethod
    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`. Deterministic in (seed, epoch)."""

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return the length limits of groups that share no batch in `epoch`, if the planner has such groups.

        Returns:
            For each of `source` and `target`, the greatest length of each group but the last, ascending. A side that
            does not decide the groups is left out.
        """
        return {}


class Planner(ABC):
    """Forms the batches of an epoch. Base class of all samplers in the config.

    Subclasses are frozen dataclasses of plain values: picklable, hashable, without state. They raise ConfigError for
    invalid values. All random numbers come from `random_generator(seed, epoch)`.

    `is_length_agnostic` is True if the number of batches depends on the number of rows, not on their lengths.
    `has_fixed_shapes` is True if each side is padded to one of a few widths, the same in every epoch.
    """

    is_length_agnostic: ClassVar[bool] = False
    has_fixed_shapes: ClassVar[bool] = False

    @abstractmethod
    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> Draft:
        """Compute the data that all epochs share.

        Args:
            lengths: lengths of all rows in the tensors, after truncation.
            excluded: bool [n], True at rows that the caller excludes because they are too long. They are counted as
                `dropped_length`, together with rows that are too long for the planner.
        """

    def plan(self, lengths: Lengths, *, seed: int, epoch: int, excluded: Mask | None = None) -> Plan:
        """Return the batches of one epoch. To plan several epochs, keep the draft."""
        return self.draft(lengths, excluded=excluded).plan(seed=seed, epoch=epoch)


def random_generator(seed: int, epoch: int, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of (seed, epoch, purpose), which is independent of all other generators."""
    if min(seed, epoch, purpose) < 0:
        raise ConfigError(f"seed and epoch must be at least 0, but are {seed} and {epoch}. Set seed=0")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, purpose])))


def candidate_rows(num_rows: int, excluded: Mask | None) -> tuple[Rows, Rows]:
    """Split all row numbers into those to plan and those that are excluded: two int32 arrays, ascending.

    Raises:
        ValueError: the mask is not bool [num_rows], or there are more than 2**31 - 1 rows.
    """
    if num_rows > MAX_ROWS:
        raise ValueError(f"a plan can have at most {MAX_ROWS} rows, but there are {num_rows}")
    if excluded is None:
        return np.arange(num_rows, dtype=np.int32), np.empty(0, dtype=np.int32)
    if excluded.shape != (num_rows,) or excluded.dtype != np.bool_:
        raise ValueError(f"excluded must be bool [{num_rows}], but is {excluded.dtype} {list(excluded.shape)}")
    return np.flatnonzero(~excluded).astype(np.int32), np.flatnonzero(excluded).astype(np.int32)


def batch_shapes(plan: Plan, lengths: Lengths, *, length_multiple: int = 1) -> Int:
    """Return the shape of each batch in training order, int64 [number of batches, 3].

    A shape is the number of pairs, source positions and target positions. The positions are the plan's `widths` if it
    has them, else the longest row of the batch. Both are rounded up to `length_multiple`, as the collate function does.
    With `NO_PADDING`, a batch counts as one row of all its tokens. Packed rows count as rows without a target.
    """
    if not len(plan):
        return np.empty((0, 3), dtype=np.int64)
    if length_multiple == NO_PADDING:
        sums = [_sums(plan, side) for side in (lengths.source, lengths.target)]
        return np.column_stack([np.ones(len(plan), dtype=np.int64), *sums])[plan.order]
    if plan.is_packed and plan.widths is not None:
        return np.column_stack([plan.widths, np.zeros(len(plan), dtype=np.int64)])[plan.order]
    sides = max_lengths(plan, lengths) if plan.widths is None else plan.widths
    padded = -(-sides // length_multiple) * length_multiple
    return np.column_stack([np.diff(plan.offsets), padded])[plan.order]


def max_lengths(plan: Plan, lengths: Lengths) -> Int:
    """Return the longest source and target of each batch in cut order, int64 [number of batches, 2]."""
    starts = plan.offsets[:-1]
    sides = [np.maximum.reduceat(side[plan.rows], starts).astype(np.int64) for side in (lengths.source, lengths.target)]
    return np.stack(sides, axis=1)


def row_costs(plan: Plan, lengths: Lengths, *, is_flat: bool = False) -> NDArray[np.float64]:
    """Return the mean number of positions of a row in each batch in cut order, both sides together: float64 [batches].

    They are padded positions, or real tokens if batches are flat.
    """
    if is_flat:
        both = _sums(plan, lengths.source) + _sums(plan, lengths.target)
        return np.asarray(both / np.diff(plan.offsets), np.float64)
    if plan.is_packed and plan.widths is not None:
        return np.asarray(plan.widths.prod(axis=1) / np.diff(plan.offsets), np.float64)
    sides = max_lengths(plan, lengths) if plan.widths is None else plan.widths
    return np.asarray(sides.sum(axis=1), np.float64)


def _sums(plan: Plan, side: NDArray[np.int32]) -> Int:
    """Return the tokens of a side of each batch in cut order, int64 [number of batches]."""
    before = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(side[plan.rows], dtype=np.int64)])
    sums: Int = np.diff(before[plan.offsets])
    return sums


def padding_ratios(plan: Plan, lengths: Lengths, *, length_multiple: int = 1) -> dict[str, float]:
    """Return the padding ratios of an epoch: padding positions ÷ all positions.

    The keys are `padding_ratio` (both sides), `source_padding_ratio` and `target_padding_ratio`. The ratio of an empty
    epoch is 0. For `length_multiple`, see `batch_shapes`.
    """
    pairs, *positions = batch_shapes(plan, lengths, length_multiple=length_multiple).T
    slots = [int((pairs * side).sum()) for side in positions]
    real = [int(side[plan.rows].sum(dtype=np.int64)) for side in (lengths.source, lengths.target)]

    def ratio(real: int, slots: int) -> float:
        return (slots - real) / slots if slots else 0.0

    return {
        "padding_ratio": ratio(sum(real), sum(slots)),
        "source_padding_ratio": ratio(real[0], slots[0]),
        "target_padding_ratio": ratio(real[1], slots[1]),
    }
