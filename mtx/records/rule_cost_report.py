"""The part of `report.json` about the price of the rules of a selection: pairs that they lose, noise they catch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from rich.table import Table

from mtx.data.filter.column_rule import ColumnRule, resolved_column
from mtx.records.record_file import Number, Record

Floats = NDArray[np.float64]


class RuleCost(Record):
    """What one rule, or all rules together, drop: the share of all pairs, of all noise, and of each kind of noise."""

    column: str | None = None
    threshold: Number | None = None
    lost: Number
    caught: Number
    kinds: dict[str, Number] = Field(default_factory=dict)


class RuleCostReport(Record):
    """The costs of the rules with fixed bounds on scores, by rule, and of all of them together."""

    rules: dict[str, RuleCost] = Field(default_factory=dict)
    together: RuleCost | None = None


def rule_costs(
    rules: Mapping[str, ColumnRule], scores: Mapping[str, Floats], noise: Mapping[str, Mapping[str, Floats]]
) -> RuleCostReport:
    """Return the cost of each rule with a fixed minimum or maximum on a score, over all parts; others are left out.

    A rule on a score that planted noise does not have, such as a given one, catches no noise.

    Args:
        rules: the rules by name.
        scores: the scores of all pairs by column, float64 [n].
        noise: the scores of planted noise by column and kind, float64 [m]; the kinds have equal weights.
    """
    fixed = {
        name: (rule, column)
        for name, rule in rules.items()
        if (rule.min is not None or rule.max is not None)
        and rule.only is None
        and (column := resolved_column(rule.column or name, list(scores))) is not None
    }
    if not fixed:
        return RuleCostReport()
    lost = {name: _dropped(rule, scores[column]) for name, (rule, column) in fixed.items()}
    caught = {
        name: {kind: _dropped(rule, values) for kind, values in noise.get(column, {}).items()}
        for name, (rule, column) in fixed.items()
    }
    kinds = list(dict.fromkeys(kind for of in caught.values() for kind in of))
    together = RuleCost(
        lost=float(np.logical_or.reduce(list(lost.values())).mean()),
        **_shares({kind: np.logical_or.reduce([of[kind] for of in caught.values() if kind in of]) for kind in kinds}),
    )
    found = {
        name: RuleCost(column=column, threshold=rule.min, lost=float(lost[name].mean()), **_shares(caught[name]))
        for name, (rule, column) in fixed.items()
    }
    return RuleCostReport(rules=found, together=together)


def _dropped(rule: ColumnRule, values: Floats) -> NDArray[np.bool_]:
    low = -np.inf if rule.min is None else rule.min
    high = np.inf if rule.max is None else rule.max
    missing = np.isnan(values)
    return np.asarray(np.where(missing, rule.without_value == "drop", ~((values >= low) & (values <= high))))


def _shares(masks: Mapping[str, NDArray[np.bool_]]) -> dict[str, Any]:
    kinds = {kind: float(mask.mean()) for kind, mask in masks.items() if len(mask)}
    return {"kinds": kinds, "caught": float(np.mean(list(kinds.values()))) if kinds else 0.0}


def rule_costs_table(costs: RuleCostReport) -> Table:
    """Return the table of the costs of the rules of a selection."""
    assert costs.together is not None
    table = Table(title="rules of filter=selection: share of all pairs lost, of all noise caught", title_justify="left")
    table.add_column("rule")
    table.add_column("lost", justify="right")
    table.add_column("noise caught", justify="right")
    for name, cost in (*costs.rules.items(), ("all together", costs.together)):
        table.add_row(name, f"{cost.lost:.2%}", f"{cost.caught:.1%}")
    return table
