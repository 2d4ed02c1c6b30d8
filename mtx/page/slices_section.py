"""Compute the section on slices: the held-out bits per byte of each arm by slice, and where an arm beats the best one.

Differences have intervals over held-out sentences, or over their documents, which are drawn as a whole. The standard
error is that of a ratio of sums by linearisation (Cochran 1977, "Sampling Techniques", chapter 6), so it needs no
resampling.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.errors import StoreError
from mtx.evaluation.corpus_metrics import METRICS
from mtx.evaluation.critical_values import t_quantile
from mtx.evaluation.verdict import Difference
from mtx.evaluation.verdict_text import difference_text, names_text
from mtx.page.ranking import Row
from mtx.records.held_out_sentences import SLICE_PREFIX, read_columns
from mtx.records.result_types import JobRecord
from mtx.records.sentence_intervals import clusters_of
from mtx.records.slice_report import Slice

MAX_ARMS = 6  # rows of the ranking in the tables
LEVEL = 0.95
LIKELIHOOD = METRICS["bits_per_byte"]
MIN_PAIRS = 10  # a slice with fewer pairs, or with fewer documents if these are known, gets no interval
TITLES = {
    "source_length": "length of the source",
    "rarest_word": "count of the rarest source word in the training text",
    "mixture_source": "source of the mixture",
    "direction": "direction of translation",
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
    unequal: list[str] = []
    for row, jobs in arms[:MAX_ARMS]:
        if (nats := _mean_nats(jobs, table)) is None:
            continue
        if all(_is_compared_by(job) for job in jobs):
            known.append((row.label, nats))
        else:
            unequal.append(row.label)
    left_out = _left_out_text(unequal)
    if not known:
        return SlicesSection((), left_out) if left_out else None
    num_bytes = table["target_bytes"].to_numpy().astype(np.float64)
    documents = table["document"].fill_null(-1).to_numpy() if "document" in table.column_names else None
    sums = _Sums(known, num_bytes, clusters_of(documents))
    wins: list[_Compared] = []
    tables = []
    for name, slices in first.report.slices.items():
        if f"{SLICE_PREFIX}{name}" not in table.column_names:
            continue
        of_pair = table[f"{SLICE_PREFIX}{name}"].fill_null(-1).to_numpy()
        tables.append(_slice_table(name, slices, of_pair, sums, wins))
    if not tables:
        return None
    return SlicesSection(tuple(tables), (*_findings([label for label, _ in known], wins), *left_out))


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


@dataclass(frozen=True)
class RatioDifference:
    """The difference of two models in bits per byte, its standard error and degrees of freedom; 0 without interval."""

    estimate: float
    error: float
    df: int

    def difference(self) -> Difference:
        """The difference with its interval for itself."""
        if not self.df:
            return Difference(self.estimate, -math.inf, math.inf, 1)
        half = t_quantile(self.df, (1 + LEVEL) / 2) * self.error
        return Difference(self.estimate, self.estimate - half, self.estimate + half, 1)

    def is_told_apart(self, num_compared: int) -> bool:
        """Whether the difference is told apart from 0 as one of several, by the correction of Bonferroni."""
        if not self.df:
            return False
        return abs(self.estimate) > t_quantile(self.df, 1 - (1 - LEVEL) / 2 / num_compared) * self.error


def ratio_difference(
    nats: NDArray[np.float64], num_bytes: NDArray[np.float64], clusters: NDArray[np.int64] | None = None
) -> RatioDifference:
    """Return the difference of two models in bits per byte, with its standard error over sentences or documents.

    Args:
        nats: The difference of the two models on each sentence in nats, float64 [n].
        num_bytes: The bytes of each target, float64 [n].
        clusters: The number of the document of each sentence, int64 [n]; None: each sentence is one of its own.
    """
    total = num_bytes.sum()
    estimate = float(nats.sum() / total)
    rest = nats - estimate * num_bytes
    if clusters is not None:
        place = np.unique(clusters, return_inverse=True)[1]
        rest = np.bincount(place, weights=rest).astype(np.float64)
    num = len(rest)
    if num < MIN_PAIRS:
        return RatioDifference(estimate / math.log(2), math.inf, 0)
    error = math.sqrt(num / (num - 1) * float(rest @ rest)) / total
    return RatioDifference(estimate / math.log(2), error / math.log(2), num - 1)


@dataclass(frozen=True, eq=False)
class _Sums:
    """The arms with the nats of each pair, the best arm first; the bytes and the cluster of each pair."""

    known: Sequence[tuple[str, NDArray[np.float64]]]
    num_bytes: NDArray[np.float64]
    clusters: NDArray[np.int64] | None


@dataclass(frozen=True)
class _Compared:
    """A compared cell: the position of its arm, the name of its slice, and the difference to the best arm."""

    arm: int
    where: str
    found: RatioDifference


def _slice_table(
    name: str, slices: Sequence[Slice], of_pair: NDArray[np.int64], sums: _Sums, compared: list[_Compared]
) -> SliceTable:
    """Return the table of one slicing, and add each compared cell to `compared`."""
    rows = []
    best = sums.known[0][1]
    for number, one in enumerate(slices):
        inside = of_pair == number
        num_bytes = sums.num_bytes[inside]
        if not num_bytes.sum():
            continue
        clusters = None if sums.clusters is None else sums.clusters[inside]
        cells = []
        for arm, (_, nats) in enumerate(sums.known):
            bits = float(nats[inside].sum() / num_bytes.sum() / math.log(2))
            if arm == 0:
                cells.append(SliceCell(_bits_text(bits), "", ""))
                continue
            found = ratio_difference(nats[inside] - best[inside], num_bytes, clusters)
            compared.append(_Compared(arm, f"{title_of(name)} {one.name}", found))
            told = found.difference()
            sign = ("better" if told.estimate < 0 else "worse") if told.is_told_apart else ""
            cells.append(SliceCell(_bits_text(bits), difference_text(told), sign))
        rows.append((one.name, int(inside.sum()), _accuracy(one), tuple(cells)))
    return SliceTable(title_of(name), tuple(label for label, _ in sums.known), tuple(rows))


def _findings(arms: Sequence[str], compared: Sequence[_Compared]) -> tuple[str, ...]:
    """Say where arms beat the best one, the first; all cells are told apart together, by Holm's method."""
    best, *others = arms
    if not others:
        return ()
    told: set[int] = set()
    waiting = {number for number, one in enumerate(compared) if one.found.df}
    while more := {number for number in waiting if compared[number].found.is_told_apart(len(waiting))}:
        told |= more
        waiting -= more
    found = []
    for position, label in enumerate(others, 1):
        wins = [one for number, one in enumerate(compared) if number in told and one.arm == position]
        where = [f"{one.where} by {difference_text(one.found.difference())}" for one in wins if one.found.estimate < 0]
        if where:
            found.append(f"{label} beats {best} in: {'; '.join(where)}.")
    if found:
        return tuple(found)
    return (f"No slice is known in which {names_text(others)} {'beats' if len(others) == 1 else 'beat'} {best}.",)


def _is_compared_by(job: JobRecord) -> bool:
    """Return whether the stored nats of a job give the number by which it is compared: not so at an equal budget."""
    number, table = job.number("bits_per_byte"), _stored(job.folder)
    if number is None or table is None:
        return True
    values = np.stack([table[name].to_numpy().astype(np.float64) for name in ("nats", "target_bytes")], axis=1)
    return math.isclose(LIKELIHOOD.of_sentences(values), number, rel_tol=1e-5, abs_tol=LIKELIHOOD.tolerance)


def _left_out_text(unequal: Sequence[str]) -> tuple[str, ...]:
    if not unequal:
        return ()
    return (
        f"Left out: {names_text(list(unequal))}. The stored sentences are of the end of training, not of the equal "
        "budget at which arms are compared.",
    )


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
