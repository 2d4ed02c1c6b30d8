"""The part of a report about slices of the held-out pairs: where a model is good, and where it is not."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field

from mtx.evaluation.slices import Slicing
from mtx.records.held_out_sentences import SLICE_PREFIX, read_columns
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
    def text(self) -> str:
        """The accuracy with its interval, the number of pairs, and what guessing gives."""
        shares = (self.accuracy, self.low, self.high)
        share, low, high = (f"{100 * value:.0f}" for value in shares)
        return f"{share} % [{low}, {high}] of {self.num_pairs} pairs; chance {100 / self.num_candidates:.0f} %"


class SliceReport(Record):
    """The slices of the held-out pairs, by the name of the slicing, and the contrastive accuracy on all of them.

    Each slicing has each pair once.
    """

    slices: dict[str, tuple[Slice, ...]] = Field(default_factory=dict)
    contrastive: Contrastive | None = None


def slice_columns(slicings: Sequence[Slicing]) -> dict[str, NDArray[np.int64]]:
    """Return the columns for `held_out.parquet`: the slice of each pair of the dataset, int64 [n]."""
    return {f"{SLICE_PREFIX}{slicing.name}": slicing.of_pair for slicing in slicings}


def slice_report(folder: Path, slicings: Sequence[Slicing]) -> SliceReport:
    """Return the sums of each slice, from the statistics in `held_out.parquet` of a run; empty without likelihoods.

    Raises:
        DamagedError: The file cannot be read.
    """
    table = read_columns(folder, ("row", "nats", "target_bytes", "is_first"))
    if table is None or "nats" not in table.column_names:
        return SliceReport()
    ranked = None
    if "is_first" in table.column_names:
        ranked = table.filter(pc.is_valid(table["is_first"]))
    table = table.filter(pc.is_valid(table["nats"]))
    rows, nats, num_bytes = (table[name].to_numpy() for name in ("row", "nats", "target_bytes"))
    found = {}
    for slicing in slicings:
        num, of_row = len(slicing.labels), slicing.of_pair[rows]
        counts, bytes_of = (np.bincount(of_row, weights=w, minlength=num) for w in (None, num_bytes))
        nats_of = [math.fsum(nats[of_row == number]) for number in range(num)]
        tried, first = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.int64)
        if ranked is not None:
            of_ranked = slicing.of_pair[ranked["row"].to_numpy()]
            tried = np.bincount(of_ranked, minlength=num)
            first = np.bincount(of_ranked, weights=ranked["is_first"].to_numpy(), minlength=num).astype(np.int64)
        found[slicing.name] = tuple(
            Slice(
                name=label,
                num_pairs=int(counts[i]),
                nats=nats_of[i] if math.isfinite(nats_of[i]) else None,
                target_bytes=int(bytes_of[i]),
                num_ranked=int(tried[i]),
                num_first=int(first[i]),
            )
            for i, label in enumerate(slicing.labels)
        )
    return SliceReport(slices=found)
