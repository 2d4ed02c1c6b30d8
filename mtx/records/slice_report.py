"""The part of a report about slices of the held-out pairs: where a model is good, and where it is not."""

import math

from pydantic import Field

from mtx.records.record_file import Count, Number, Record


class Slice(Record):
    """One slice of the held-out pairs: its pairs, and their summed likelihood and bytes."""

    name: str
    num_pairs: Count
    nats: Number | None = None
    target_bytes: Count = 0
    num_ranked: Count = 0
    num_first: Count = 0

    @property
    def bits_per_byte(self) -> float | None:
        """Bits per byte of the slice; None without bytes."""
        return None if self.nats is None or not self.target_bytes else self.nats / math.log(2) / self.target_bytes


class Contrastive(Record):
    """The share of held-out pairs whose own target is the likeliest of several per byte, and its 95 % interval."""

    num_pairs: Count
    num_candidates: Count
    accuracy: Number
    low: Number
    high: Number

    @property
    def guessing(self) -> str:
        """The accuracy that guessing gives, in percent."""
        return f"{100 / max(self.num_candidates, 1):.0f} %"

    @property
    def text(self) -> str:
        """The accuracy with its interval, the number of pairs, and what guessing gives."""
        shares = (self.accuracy, self.low, self.high)
        share, low, high = (f"{100 * value:.0f}" for value in shares)
        return f"{share} % [{low}, {high}] of {self.num_pairs} pairs; chance {self.guessing}"


class SliceReport(Record):
    """The slices of the held-out pairs, by the name of the slicing, and the contrastive accuracy on all of them.

    Each slicing has each pair once.
    """

    slices: dict[str, tuple[Slice, ...]] = Field(default_factory=dict)
    contrastive: Contrastive | None = None
