"""Compute the slices of a report from the statistics of held-out pairs in `held_out.parquet`."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.evaluation.slices import Slicing
from mtx.records.held_out_sentences import SLICE_PREFIX, read_columns
from mtx.records.slice_report import Slice, SliceReport


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
