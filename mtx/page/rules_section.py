"""Compute the page's tables about rules: the funnel of a selection, and its overlaps."""

from dataclasses import dataclass

from mtx.records.plot_data_record import NearSample, RuleSamples, RunProfile, Sample
from mtx.records.report_record import Report
from mtx.records.score_report import SelectionReport, criteria_text


@dataclass(frozen=True)
class RuleRow:
    """One row of the table of rules, with samples; the shares are of all pairs that the rules have judged."""

    name: str
    criteria: str
    reasons: tuple[tuple[str, int], ...]
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
class PartRow:
    """The pairs of one source of a mixture, or of one language, and what each rule drops of them, with the share."""

    name: str
    num_pairs: int
    num_kept: int
    dropped: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class PartsTable:
    """What each rule drops in order of the parts of the pairs; `rules` are the columns of the table."""

    column: str
    rules: tuple[str, ...]
    rows: tuple[PartRow, ...]


@dataclass(frozen=True)
class RulesTable:
    """The funnel of a selection, the overlap of its rules, and the funnels of the selections before, first to last."""

    num_pairs: int
    num_kept: int
    rows: tuple[RuleRow, ...]
    overlaps: tuple[Overlap, ...]
    parts: tuple[PartsTable, ...] = ()
    before: tuple["RulesTable", ...] = ()


def rules_table(report: Report, profile: RunProfile) -> RulesTable | None:
    """Return the table of the rules of a selection; None for another filter."""
    return None if report.selection is None else _table(report.selection, profile)


def _table(selection: SelectionReport, profile: RunProfile) -> RulesTable | None:
    before = None if selection.before is None else _table(selection.before, profile)
    if not selection.rules:
        return before
    total = max(selection.num_pairs, 1)
    rows = []
    for name, rule in selection.in_order:
        samples = profile.rules.get(name, RuleSamples())
        rows.append(
            RuleRow(
                name=name,
                criteria=criteria_text(rule.criteria),
                reasons=tuple(sorted(rule.reasons.items(), key=lambda item: (-item[1], item[0]))),
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
    parts = tuple(_parts_table(selection, column) for column, values in selection.parts.items() if len(values) > 1)
    return RulesTable(
        *(selection.num_pairs, selection.num_kept, tuple(rows), overlaps if len(dropping) > 1 else (), parts),
        before=() if before is None else (*before.before, before),
    )


def _parts_table(selection: SelectionReport, column: str) -> PartsTable:
    rules = tuple(name for name, rule in selection.in_order if rule.dropped_in_order)
    rows = tuple(
        PartRow(
            name=name,
            num_pairs=of.num_pairs,
            num_kept=of.num_kept,
            dropped=tuple(
                (count, count / max(of.num_pairs, 1)) for rule in rules for count in [of.dropped.get(rule, 0)]
            ),
        )
        for name, of in selection.parts[column].items()
    )
    return PartsTable(column, rules, rows)
