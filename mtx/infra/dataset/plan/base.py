"""The plan of an epoch: which rows make which batch, as arrays.

A plan is a pure function of (lengths, planner, seed, epoch). It knows nothing of torch, of ranks or of texts. It
accounts for every row: in a batch, dropped for its length, dropped as remainder, or repeated.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]


@dataclass(frozen=True)
class Lengths:
    """Tokens of each row in the tensors of a batch, BOS and EOS included.

    Attributes:
        source: int32 [n].
        target: int32 [n].
    """

    source: NDArray[np.int32]
    target: NDArray[np.int32]

    def __post_init__(self) -> None:
        if self.source.shape != self.target.shape or self.source.ndim != 1:
            raise ValueError(f"lengths are two arrays [n], but are {self.source.shape} and {self.target.shape}")

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def of(cls, source: Sequence[int] | NDArray[Any], target: Sequence[int] | NDArray[Any] | None = None) -> "Lengths":
        """Take any integer sequences; without `target`, both sides have the source's lengths."""
        source_array = np.asarray(source, dtype=np.int32)
        return cls(source_array, source_array if target is None else np.asarray(target, dtype=np.int32))


@dataclass(frozen=True)
class Plan:
    """Batches of one epoch, in the order they are served.

    Attributes:
        rows: int64 [number of rows served]; the rows of batch b are `rows[offsets[b]:offsets[b + 1]]`.
        offsets: int64 [number of batches + 1], starting with 0, strictly increasing.
        dropped_length: int64 [k], rows left out for their length, ascending.
        dropped_remainder: int64 [k], rows left out since they fill no batch, ascending.
    """

    rows: Int
    offsets: Int
    dropped_length: Int
    dropped_remainder: Int

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, batch: int) -> Int:
        """Return the rows of one batch, int64 [B]."""
        if not 0 <= batch < len(self):
            raise IndexError(f"batch {batch} of {len(self)}")
        return self.rows[self.offsets[batch] : self.offsets[batch + 1]]

    def __iter__(self) -> Iterator[Int]:
        return (self[batch] for batch in range(len(self)))

    def ledger(self, num_rows: int) -> dict[str, int]:
        """Account for `num_rows` rows.

        Returns `num_pairs`, `batched` (rows in at least one batch), `dropped_length`, `dropped_remainder`, and
        `repeated` (servings beyond a row's first). `num_pairs` is the sum of the first three. Raises AssertionError
        where the plan loses a row.
        """
        batched = int(np.count_nonzero(np.bincount(self.rows, minlength=num_rows))) if len(self.rows) else 0
        ledger = {
            "num_pairs": num_rows,
            "batched": batched,
            "dropped_length": len(self.dropped_length),
            "dropped_remainder": len(self.dropped_remainder),
            "repeated": len(self.rows) - batched,
        }
        accounted = batched + len(self.dropped_length) + len(self.dropped_remainder)
        assert accounted == num_rows, f"the plan accounts for {accounted} of {num_rows} rows: {ledger}"
        return ledger


class Planner(ABC):
    """Forms the batches of an epoch.

    Subclasses are frozen dataclasses of plain values: picklable, hashable, without state. Random choices come from
    `numpy.random.Generator(Philox)` seeded by (seed, epoch) alone. The number of batches is the same in every epoch.
    """

    @abstractmethod
    def plan(self, lengths: Lengths, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`. Deterministic; costs no more than a few sorts of the lengths."""


def generator(seed: int, epoch: int, purpose: int = 0) -> np.random.Generator:
    """Return the random generator of (seed, epoch, purpose), independent of all others."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, epoch, purpose])))


def padding(plan: Plan, lengths: Lengths) -> dict[str, float]:
    """Return `padding_ratio`, `source_padding_ratio`, `target_padding_ratio` (share of slots), over all batches."""
    raise NotImplementedError
