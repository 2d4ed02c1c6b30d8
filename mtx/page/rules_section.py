"""Compute the page's tables about rules: the funnel of a selection, and its overlaps."""

from dataclasses import dataclass

from mtx.records.plot_data_record import NearSample, RuleSamples, RunProfile, Sample
from mtx.records.report_record import Report
from mtx.records.score_report import criteria_text


@dataclass(frozen=True)
class RuleRow:
    """One row of the table of rules, with samples; the shares are of all pairs that the rules have judged."""

    name: str
    criteria: str
    in_order: int
    alone: int
    only_here: int
    share_alone: float
    share_only_here: float
    samples: tuple[Sample, ...]
    samples_only_here: tuple[Sample, ...]
    samples_near: tuple[NearSample, ...]


@dataclass(frozen=True)
class Overlap:
    """The shares of a rule's pairs that the other rules drop, too; None on the diagonal."""

    name: str
    shares: tuple[float | None, ...]


@dataclass(frozen=True)
class RulesTable:
    """The funnel of a selection, and the overlap of its rules."""

    num_pairs: int
    num_kept: int
    rows: tuple[RuleRow, ...]
    overlaps: tuple[Overlap, ...]


def rules_table(report: Report, profile: RunProfile) -> RulesTable | None:
    """Return the table of the rules of a selection; None for another filter."""
    selection = report.selection
    if selection is None or not selection.rules:
        return None
    total = max(selection.num_pairs, 1)
    rows = []
    for name, rule in selection.in_order:
        samples = profile.rules.get(name, RuleSamples())
        rows.append(
            RuleRow(
                name=name,
                criteria=criteria_text(rule.criteria),
                in_order=rule.dropped_in_order,
                alone=rule.dropped_alone,
                only_here=rule.dropped_only_here,
                share_alone=rule.dropped_alone / total,
                share_only_here=rule.dropped_only_here / total,
                samples=samples.samples,
                samples_only_here=samples.samples_only_here,
                samples_near=samples.samples_near,
            )
        )
    dropping = [row for row in rows if row.alone]
    overlaps = tuple(
        Overlap(
            row.name,
            tuple(
                None
                if other.name == row.name
                else profile.rules.get(row.name, RuleSamples()).overlap.get(other.name, 0) / row.alone
                for other in dropping
            ),
        )
        for row in dropping
    )
    return RulesTable(selection.num_pairs, selection.num_kept, tuple(rows), overlaps if len(dropping) > 1 else ())
