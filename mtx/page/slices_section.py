"""Compute the section on slices: the held-out bits per byte of each arm by slice, and where an arm beats the best one.

Differences have intervals over held-out sentences. The standard error is that of a ratio of sums by linearisation
(Cochran 1977, "Sampling Techniques", chapter 6), so it needs no resampling.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.errors import StoreError
from mtx.evaluation.critical_values import t_quantile
from mtx.evaluation.verdict import Difference
from mtx.evaluation.verdict_text import difference_text, names_text
from mtx.page.ranking import Row
from mtx.records.held_out_sentences import SLICE_PREFIX, read_columns
from mtx.records.result_types import JobRecord
from mtx.records.slice_report import Slice

MAX_ARMS = 6  # rows of the ranking in the tables
LEVEL = 0.95
MIN_PAIRS = 10  # a slice with fewer pairs gets no interval
TITLES = {
    "source_length": "length of the source",
    "rarest_word": "count of the rarest source word in the training text",
    "mixture_source": "source of the mixture",
}


@dataclass(frozen=True)
class SliceCell:
    """An arm in one slice: its bits per byte, and the difference to the best arm as text and as `better` or `worse`."""

    bits_per_byte: str
    difference: str
    sign: str


@dataclass(frozen=True)
class SliceTable:
    """The slices of one slicing.

    Attributes:
        title: What the slices are made by.
        arms: The labels of the arms, the best one first.
        rows: For each slice its label, its number of pairs, the contrastive accuracy of the best arm, and a cell for
            each arm.
    """

    title: str
    arms: tuple[str, ...]
    rows: tuple[tuple[str, int, str, tuple[SliceCell, ...]], ...]


@dataclass(frozen=True)
class SlicesSection:
    """The tables by slice, and one sentence for each arm that beats the best arm somewhere, or one that none does."""

    tables: tuple[SliceTable, ...]
    findings: tuple[str, ...]


def slices_section(rows: Sequence[Row]) -> SlicesSection | None:
    """Return the section on the first rows of the ranking; None if the best row has no slices.

    The slices are those of the first job of the best row. A row whose jobs stored other held-out pairs is left out.
    """
    arms = [(row, jobs) for row in rows if (jobs := [job for job in row.jobs if job.state == "completed"])]
    if not arms:
        return None
    first = next((job for job in arms[0][1] if job.report.slices), None)
    table = None if first is None else _stored(first.folder)
    if first is None or table is None:
        return None
    known: list[tuple[str, NDArray[np.float64]]] = []
    for row, jobs in arms[:MAX_ARMS]:
        if (nats := _mean_nats(jobs, table)) is not None:
            known.append((row.label, nats))
    if not known:
        return None
    num_bytes = table["target_bytes"].to_numpy().astype(np.float64)
    wins: dict[str, list[str]] = {label: [] for label, _ in known[1:]}
    tables = []
    for name, slices in first.report.slices.items():
        if f"{SLICE_PREFIX}{name}" not in table.column_names:
            continue
        of_pair = table[f"{SLICE_PREFIX}{name}"].fill_null(-1).to_numpy()
        tables.append(_slice_table(name, slices, of_pair, known, num_bytes, wins))
    return SlicesSection(tuple(tables), _findings(known[0][0], wins)) if tables else None


def run_slices(job: JobRecord) -> SlicesSection | None:
    """Return the tables of one run, from its report; None without slices."""
    tables = []
    for name, slices in job.report.slices.items():
        rows = tuple(
            (one.name, one.num_pairs, _accuracy(one), (SliceCell(_bits_text(one.bits_per_byte), "", ""),))
            for one in slices
        )
        tables.append(SliceTable(title_of(name), ("",), rows))
    return SlicesSection(tuple(tables), ()) if tables else None


def title_of(slicing: str) -> str:
    """Return the name of a slicing for people."""
    kind, _, name = slicing.partition(".")
    return TITLES.get(slicing, f"{kind} {name}" if name else kind)


def ratio_difference(nats: NDArray[np.float64], num_bytes: NDArray[np.float64]) -> Difference:
    """Return the difference of two models in bits per byte, with its interval over sentences.

    Args:
        nats: The difference of the two models on each sentence in nats, float64 [n].
        num_bytes: The bytes of each target, float64 [n].
    """
    total, num = num_bytes.sum(), len(nats)
    estimate = float(nats.sum() / total)
    if num < MIN_PAIRS:
        return Difference(estimate / math.log(2), -math.inf, math.inf, 1)
    rest = nats - estimate * num_bytes
    error = math.sqrt(num / (num - 1) * float(rest @ rest)) / total
    half = t_quantile(num - 1, (1 + LEVEL) / 2) * error
    low, high = (estimate - half) / math.log(2), (estimate + half) / math.log(2)
    return Difference(estimate / math.log(2), low, high, 1)


def _slice_table(
    name: str,
    slices: Sequence[Slice],
    of_pair: NDArray[np.int64],
    known: Sequence[tuple[str, NDArray[np.float64]]],
    num_bytes: NDArray[np.float64],
    wins: Mapping[str, list[str]],
) -> SliceTable:
    rows = []
    for number, one in enumerate(slices):
        inside = of_pair == number
        if not num_bytes[inside].sum():
            continue
        cells = []
        for label, nats in known:
            bits = float(nats[inside].sum() / num_bytes[inside].sum() / math.log(2))
            if label == known[0][0]:
                cells.append(SliceCell(_bits_text(bits), "", ""))
                continue
            found = ratio_difference(nats[inside] - known[0][1][inside], num_bytes[inside])
            sign = ("better" if found.estimate < 0 else "worse") if found.is_told_apart else ""
            if sign == "better":
                wins[label].append(f"{title_of(name)} {one.name} by {difference_text(found)}")
            cells.append(SliceCell(_bits_text(bits), difference_text(found), sign))
        rows.append((one.name, int(inside.sum()), _accuracy(one), tuple(cells)))
    return SliceTable(title_of(name), tuple(label for label, _ in known), tuple(rows))


def _findings(best: str, wins: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    if not wins:
        return ()
    found = [f"{label} beats {best} in: {'; '.join(where)}." for label, where in wins.items() if where]
    if found:
        return tuple(found)
    return (f"No slice is known in which {names_text(list(wins))} {'beats' if len(wins) == 1 else 'beat'} {best}.",)


def _mean_nats(jobs: Sequence[JobRecord], shared: pa.Table) -> NDArray[np.float64] | None:
    """Return the nats of each pair, averaged over jobs; None if a job stored none, or those of other pairs."""
    summed = np.zeros(len(shared))
    for job in jobs:
        table = _stored(job.folder)
        if table is None or any(not table[name].equals(shared[name]) for name in ("row", "target_bytes")):
            return None
        summed += table["nats"].to_numpy()
    mean: NDArray[np.float64] = summed / len(jobs)
    return mean if np.isfinite(mean).all() else None


def _stored(folder: Path) -> pa.Table | None:
    try:
        table = read_columns(folder)
    except StoreError:  # the page notes the damaged file where the verdict needs it
        return None
    if table is None or not {"nats", "target_bytes"} <= set(table.column_names):
        return None
    return table.filter(table["nats"].is_valid())


def _accuracy(one: Slice) -> str:
    return f"{100 * one.num_first / one.num_ranked:.0f} % of {one.num_ranked}" if one.num_ranked else "–"


def _bits_text(bits: float | None) -> str:
    return "–" if bits is None else f"{bits:.3f}"
