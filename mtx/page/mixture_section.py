"""Compute the page's tables of mixture shares: how many pairs each part has, and how often an epoch draws them."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from mtx.page.data_section import shared
from mtx.records.report_record import SourceLedger
from mtx.records.result_types import JobRecord

MAX_TABLES = 12
MAX_PARTS = 60  # rows of a table


@dataclass(frozen=True)
class PartShare:
    """One part of a mixture, or one group of pairs.

    Attributes:
        name: the part.
        num_pairs: its training pairs.
        share: their share of all training pairs.
        drawn: how often an epoch draws a pair of the part; None if it is not reported.
        drawn_share: the share of the part in all draws of an epoch.
    """

    name: str
    num_pairs: int
    share: float
    drawn: int | None
    drawn_share: float | None


@dataclass(frozen=True)
class MixtureShares:
    """The shares of all parts of some jobs.

    Attributes:
        label: the jobs that share the table.
        kind: `source` for a mixture, `group` for groups of `datamodule.group_by` or `datamodule.weight_by`.
        parts: the parts in the order of the config; at most `MAX_PARTS`.
        left_out: number of parts that are not shown.
    """

    label: str
    kind: str
    parts: tuple[PartShare, ...]
    left_out: int


def mixture_shares(jobs: Sequence[JobRecord], varied: Sequence[str]) -> tuple[MixtureShares, ...]:
    """Return the tables of mixture shares, one for each group of jobs with equal shares; empty without a mixture."""
    found = []
    for kind in ("source", "group"):

        def key_of(job: JobRecord, kind: str = kind) -> Hashable | None:
            counts = _counts(job, kind)
            return repr(counts) if len(counts) > 1 else None

        for label, gathered in shared(jobs, varied, key_of):
            counts = _counts(gathered[0], kind)
            parts = _parts(counts)
            found.append(MixtureShares(label, kind, parts[:MAX_PARTS], max(0, len(parts) - MAX_PARTS)))
    return tuple(found[:MAX_TABLES])


def _counts(job: JobRecord, kind: str) -> dict[str, tuple[int, int | None]]:
    """Return the training pairs and the draws of each part; the draws are None in a report without a ledger."""
    report = job.report
    ledgers: Mapping[str, SourceLedger] = report.ledger_by_source if kind == "source" else report.ledger_by_group
    if ledgers:
        return {name: (of.num_pairs, of.drawn) for name, of in ledgers.items()}
    if kind == "group":
        return {}
    return {name: (of.num_pairs_train or 0, None) for name, of in report.sources.items()}


def _parts(counts: Mapping[str, tuple[int, int | None]]) -> tuple[PartShare, ...]:
    pairs = sum(number for number, _ in counts.values()) or 1
    draws = sum(drawn or 0 for _, drawn in counts.values()) or 1
    return tuple(
        PartShare(name, number, number / pairs, drawn, None if drawn is None else drawn / draws)
        for name, (number, drawn) in counts.items()
    )
