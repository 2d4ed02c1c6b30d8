"""The plan of an epoch: which rows make which batch, as arrays.

Lengths come in, batches of row numbers go out. A plan is a pure function of (lengths, planner, seed, epoch). It
knows nothing of torch, of ranks or of texts, and it accounts for every row: in a batch, dropped for its length,
dropped as remainder, or repeated.

A `Planner` holds the options, a `Draft` what all epochs have in common, a `Plan` the batches of one epoch:

>>> from mtx.infra.dataset.plan.token_budget import TokenBudgetPlanner
>>> lengths = Lengths.of([3, 5, 3, 9, 5, 3], [4, 5, 4, 8, 6, 4])
>>> draft = TokenBudgetPlanner(max_tokens=12).draft(lengths)
>>> len(draft)  # batches in every epoch
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

from mtx.errors import ConfigError, choices

Int = NDArray[np.int64]
Rows = NDArray[np.int32]  # row numbers where there may be 100 million of them
Mask = NDArray[np.bool_]

MAX_ROWS = 2**31 - 1


@dataclass(frozen=True)
class Lengths:
    """Tokens of each row in the tensors of a batch, BOS and EOS included.

    Attributes:
        source: int32 [n], none below 0; may be memory-mapped.
        target: int32 [n], none below 0; may be memory-mapped.
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.source.shape != self.target.shape or self.source.ndim != 1:
            raise ValueError(f"lengths are two arrays [n], but are {self.source.shape} and {self.target.shape}")
        for side, values in (("source", self.source), ("target", self.target)):
            if values.dtype != np.int32:
                raise ValueError(f"{side} lengths are int32, but are {values.dtype}; use Lengths.of to convert them")
            if len(values) and values.min() < 0:
                raise ValueError(f"{side} lengths are at least 0, but row {values.argmin()} has {values.min()}")

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, source: Sequence[int] | NDArray[Any], target: Sequence[int] | NDArray[Any] | None = None) -> "Lengths":
        """Take any integer sequences; without `target`, both sides have the source's lengths.

        Raises ValueError for values that are no integers or do not fit into int32.
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
    """Batches of one epoch.

    The rows lie in the order in which they were cut: neighbouring batches cost about the same. `order` says in which
    order the batches are served.

    Attributes:
        num_rows: rows that the plan accounts for.
        rows: int32 [rows served]; batch k of the cut is `rows[offsets[k]:offsets[k + 1]]`.
        offsets: int64 [number of batches + 1], starting with 0, strictly increasing.
        order: int64 [number of batches], a permutation; the batch served as number b is batch `order[b]` of the cut.
        dropped_length: int32 [k], rows left out for their length, ascending.
        dropped_remainder: int32 [k], rows left out since they fill no batch, ascending.
        widths: int64 [number of batches, 2], source and target positions that batch k of the cut is padded to, none
            below what its rows need; None: each batch is padded to its own longest rows.
    """

    num_rows: int
    rows: Rows
    offsets: Int
    order: Int
    dropped_length: Rows
    dropped_remainder: Rows
    widths: Int | None = None
    not_drawn: Rows | None = None

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, batch: int) -> Int:
        """Return the rows of the batch served as number `batch` (from 0), int64 [B]."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batches are numbered from 0 to {len(self) - 1}, but {batch} was asked for")
        cut = self.order[batch]
        return self.rows[self.offsets[cut] : self.offsets[cut + 1]].astype(np.int64)

    def __iter__(self) -> Iterator[Int]:
        return (self[batch] for batch in range(len(self)))

    def ledger(self) -> dict[str, int]:
        """Account for all rows.

        Returns `num_pairs`, `batched` (rows in at least one batch), `dropped_length`, `dropped_remainder`, and
        `repeated` (servings beyond a row's first). `num_pairs` is the sum of the three in between, and of `not_drawn`
        where an epoch is a sample of the rows. Raises AssertionError where the plan loses a row or counts it twice.
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
    """What all epochs of a planner over the same lengths have in common.

    Immutable and picklable; holds arrays of up to a few bytes a row. Keep it to plan many epochs.
    """

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of batches, the same in every epoch."""

    @abstractmethod
    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`. Deterministic in (seed, epoch)."""

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return where lengths are cut into groups that share no batch in `epoch`, as far as rules like that decide.

        By `source` and `target`: the greatest length of each group but the last, ascending. A side that is not cut is
        left out.
        """
        return {}


class Planner(ABC):
    """Forms the batches of an epoch.

    Subclasses are frozen dataclasses of plain values: picklable, hashable, without state. They raise ConfigError for
    values that make no sense. Random choices come from `generator(seed, epoch)` alone.

    `counts_rows_alone` says that the number of batches depends on that of the rows, and not on their lengths;
    `keeps_shapes`, that batches have the same few shapes in every epoch, as long as the lengths are the same.
    """

    counts_rows_alone: ClassVar[bool] = False
    keeps_shapes: ClassVar[bool] = False

    @abstractmethod
    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> Draft:
        """Do the work that does not depend on the epoch.

        Args:
            lengths: of all rows, as they will be in the tensors: after truncation.
            excluded: bool [n], True at rows that never enter a batch since they are too long by somebody else's
                rule. They count under `dropped_length`, with those that the planner finds too long itself.
        """

    def plan(self, lengths: Lengths, *, seed: int, epoch: int, excluded: Mask | None = None) -> Plan:
        """Return the batches of one epoch. For more than one, keep the draft."""
        return self.draft(lengths, excluded=excluded).plan(seed=seed, epoch=epoch)


def generator(seed: int, epoch: int, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of (seed, epoch, purpose), all at least 0, independent of all others."""
    if min(seed, epoch, purpose) < 0:
        raise ConfigError(f"seed and epoch are at least 0, but are {seed} and {epoch}. Set seed=0")
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, purpose])))


def candidates(num_rows: int, excluded: Mask | None) -> tuple[Rows, Rows]:
    """Split the rows into those to plan and those excluded: two int32 arrays, ascending.

    Raises ValueError where the mask has another shape or type than bool [num_rows].
    """
    if num_rows > MAX_ROWS:
        raise ValueError(f"a plan has at most {MAX_ROWS} rows, but there are {num_rows}")
    if excluded is None:
        return np.arange(num_rows, dtype=np.int32), np.empty(0, dtype=np.int32)
    if excluded.shape != (num_rows,) or excluded.dtype != np.bool_:
        raise ValueError(f"excluded is bool [{num_rows}], but is {excluded.dtype} {list(excluded.shape)}")
    return np.flatnonzero(~excluded).astype(np.int32), np.flatnonzero(excluded).astype(np.int32)


def shapes(plan: Plan, lengths: Lengths, *, length_multiple: int = 1) -> Int:
    """Return the shape of each batch in serving order, int64 [number of batches, 3]: pairs, source, target positions.

    `length_multiple` is what the collate function rounds the longest length of a side up to. Where the plan has
    widths, they are the positions.
    """
    if not len(plan):
        return np.empty((0, 3), dtype=np.int64)
    sides = longest(plan, lengths) if plan.widths is None else plan.widths
    padded = -(-sides // length_multiple) * length_multiple
    return np.column_stack([np.diff(plan.offsets), padded])[plan.order]


def longest(plan: Plan, lengths: Lengths) -> Int:
    """Return the longest source and target of each batch of the cut, int64 [number of batches, 2]."""
    starts = plan.offsets[:-1]
    sides = [np.maximum.reduceat(side[plan.rows], starts).astype(np.int64) for side in (lengths.source, lengths.target)]
    return np.stack(sides, axis=1)


def padding(plan: Plan, lengths: Lengths, *, length_multiple: int = 1) -> dict[str, float]:
    """Return `padding_ratio`, `source_padding_ratio`, `target_padding_ratio`: padded slots ÷ all slots of the epoch.

    Ratios of nothing are 0. `length_multiple` as in `shapes`.
    """
    pairs, *positions = shapes(plan, lengths, length_multiple=length_multiple).T
    slots = [int((pairs * side).sum()) for side in positions]
    real = [int(side[plan.rows].sum(dtype=np.int64)) for side in (lengths.source, lengths.target)]

    def ratio(real: int, slots: int) -> float:
        return (slots - real) / slots if slots else 0.0

    return {
        "padding_ratio": ratio(sum(real), sum(slots)),
        "source_padding_ratio": ratio(real[0], slots[0]),
        "target_padding_ratio": ratio(real[1], slots[1]),
    }


def check_at_least(key: str, value: object, least: int) -> None:
    """Raise ConfigError unless `value` is an integer of `least` or more. `key` as in `sampler.max_tokens`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ConfigError(f"{key} is an integer of at least {least}, but is {value!r}. Set {key} to {least} or more")


def check_choice(key: str, value: object, known: tuple[str, ...]) -> None:
    """Raise ConfigError unless `value` is one of `known`."""
    if value not in known:
        raise ConfigError(f"{key} is one of {choices(str(value), known)}, but is {value!r}. Set {key}={known[0]}")


def check_flag(key: str, value: object) -> None:
    """Raise ConfigError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is true or false, but is {value!r}. Set {key}=true or {key}=false")
