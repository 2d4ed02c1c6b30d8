"""What each rule of a selection is worth, from the jobs of a sweep over `filter.ablation`.

The gain of a rule is the objective without the rule compared with that of all rules. A control that drops as many pairs
at random tells whether the rule's choice of pairs is better than chance. The control `random_besides_RULE` shows the
gain of a random drop, with which the gain of the rule is compared. The control `random_for_RULE` has as many pairs as
all rules, and is compared with them.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.table import Table

from mtx.data.filter.rule_ablation import ALL, NONE, OPTION, RANDOM_BESIDES, RANDOM_FOR, WITHOUT
from mtx.evaluation.verdict import Difference, contrasts
from mtx.evaluation.verdict_text import difference_text
from mtx.records.report_metrics import Value, metric_heading
from mtx.records.result_types import SEED, Group, Results
from mtx.records.setting_notation import settings_label

NOT_TOLD_APART = "not told apart"
LEVEL = 0.95  # confidence level of the intervals
# What the gain over chance compares, by the kind of its control.
CHANCE_SENTENCES = {
    RANDOM_BESIDES: "“Gain over chance” is this gain less that of as many pairs dropped at random besides all rules.",
    RANDOM_FOR: "With random drops instead of the rule, “gain over chance” compares all rules with such a drop of as "
    "many pairs, which leaves equally many pairs.",
}


@dataclass(frozen=True)
class RuleWorth:
    """What one rule is worth.

    Attributes:
        rule: its name; `all rules` for all of them together.
        num_pairs: pairs that are kept without the rule and not with it, the mean over seeds; None if unknown.
        share: these pairs as a share of those that are kept without the rule; None if unknown.
        gain: how much better the objective is with the rule than without it; positive is better. None without jobs.
        over_chance: the gain less that of a drop of as many pairs at random; None without jobs. If the sweep has no arm
            `random_besides_RULE`, it is the gain over as many pairs dropped at random instead, `random_for_RULE`.
    """

    rule: str
    num_pairs: float | None
    share: float | None
    gain: Difference | None
    over_chance: Difference | None

    @property
    def result(self) -> str:
        """What the intervals tell, in words."""
        if self.num_pairs == 0:
            return "drops no pair that the other rules keep"
        if self.gain is None:
            return "not measured"
        told = _told(self.gain, "gain", "loss")
        if self.over_chance is None:
            return told
        chance = _told(self.over_chance, "better than chance", "worse than chance", " from chance")
        return told if told in chance else f"{told}; {chance}"


@dataclass(frozen=True)
class RuleWorths:
    """What all rules are worth, in jobs whose other settings are equal.

    Attributes:
        label: the other settings that vary in the sweep; empty if none does.
        metric: name of the objective.
        level: confidence level of the intervals.
        is_paired: whether jobs with the same seed are pairs.
        num_seeds: seeds of the arm with all rules.
        rows: all rules together, then each rule, in the order in which they apply.
        controls: the kinds of controls that the gains over chance use, `random_besides_` and `random_for_`.
    """

    label: str
    metric: str
    level: float
    is_paired: bool
    num_seeds: int
    rows: tuple[RuleWorth, ...]
    controls: tuple[str, ...] = ()

    @property
    def chance(self) -> str:
        """What the gain over chance compares, for people; empty without controls."""
        return " ".join(CHANCE_SENTENCES[control] for control in self.controls)

    @property
    def title(self) -> str:
        """The heading of a table."""
        name = metric_heading(self.metric)
        pairs = ", paired" if self.is_paired else ""
        of = f" ({self.label})" if self.label else ""
        return f"worth of each rule{of}: gain in {name} [{self.level:.0%} interval], {self.num_seeds} seeds{pairs}"

    @property
    def summary(self) -> str:
        """One sentence about the rules that are told apart, and one about the others."""
        rules = [row for row in self.rows[1:] if row.gain is not None]
        found = [
            f"{row.rule} has a {_told(row.gain, 'gain', 'loss')} of {difference_text(_positive(row.gain))}"
            for row in rules
            if row.gain is not None and row.gain.is_told_apart and row.num_pairs != 0
        ]
        unused = [row.rule for row in rules if row.num_pairs == 0]
        others = [
            row.rule for row in rules if row.gain is not None and not row.gain.is_told_apart and row.num_pairs != 0
        ]
        told = [f"{'; '.join(found)}."] if found else []
        if others:
            more = "More seeds or a longer training may tell them apart."
            told.append(f"Not told apart from no effect: {', '.join(others)}. {more}")
        if unused:
            told.append(f"Drop no pair that the other rules keep: {', '.join(unused)}.")
        return " ".join(told)


def rule_worths(results: Results) -> tuple[RuleWorths, ...]:
    """Return what the rules are worth, for each combination of the other settings; empty for another sweep.

    All gains are told apart from 0 together, by Holm's method. While jobs run, the result is empty.
    """
    metric = results.objective
    if metric is None or OPTION not in results.varied or results.is_interim or not results.is_comparable:
        return ()
    found: dict[tuple[tuple[str, Value], ...], dict[str, Group]] = {}
    for arm in results.arms.values():
        others = tuple((key, value) for key, value in arm.values.items() if key not in (OPTION, SEED))
        if not arm.jobs[0].confirms:
            found.setdefault(others, {})[str(arm.values.get(OPTION))] = arm
    worths = (_rule_worths(results, dict(others), arms, metric) for others, arms in found.items())
    return tuple(one for one in worths if one is not None)


def _rule_worths(
    results: Results, others: Mapping[str, Value], arms: Mapping[str, Group], metric: str
) -> RuleWorths | None:
    values = {name: numbers for name, arm in arms.items() if (numbers := arm.shown_numbers_by_seed(metric))}
    if ALL not in values or len(values) < 2:
        return None
    sign = 1.0 if results.direction == "minimize" else -1.0
    rules = list(
        dict.fromkeys(
            name.removeprefix(kind)
            for kind in (WITHOUT, RANDOM_BESIDES, RANDOM_FOR)
            for name in arms
            if name.startswith(kind)
        )
    )
    weights: dict[str, dict[str, float]] = {_gain(NONE): {NONE: sign, ALL: -sign}}
    for rule in rules:
        weights[_gain(rule)] = {f"{WITHOUT}{rule}": sign, ALL: -sign}
        weights[_over_chance(rule)] = _chance_weights(rule, values, sign)
    told, is_paired = contrasts(values, weights, paired=results.has_paired_seeds, level=LEVEL)
    rows = [_row("all rules", NONE, told.get(_gain(NONE)), None, arms)]
    used = [RANDOM_BESIDES if f"{RANDOM_BESIDES}{rule}" in values else RANDOM_FOR for rule in rules]
    rows += [
        _row(rule, f"{WITHOUT}{rule}", told.get(_gain(rule)), told.get(_over_chance(rule)), arms) for rule in rules
    ]
    return RuleWorths(
        label=settings_label(others, arms[ALL].jobs[0].choices),
        metric=metric,
        level=LEVEL,
        is_paired=is_paired,
        num_seeds=len(values[ALL]),
        rows=tuple(rows),
        controls=tuple(
            kind for kind in CHANCE_SENTENCES if kind in used and any(name.startswith(kind) for name in values)
        ),
    )


def _gain(rule: str) -> str:
    return f"gain of {rule}"


def _over_chance(rule: str) -> str:
    return f"gain over chance of {rule}"


def _chance_weights(rule: str, arms: Collection[str], sign: float) -> dict[str, float]:
    """Return the weights of the arms in the gain of a rule over chance."""
    if (besides := f"{RANDOM_BESIDES}{rule}") in arms:
        # The gain of the rule, without − all, less the gain of the random drop, all − besides.
        return {f"{WITHOUT}{rule}": sign, besides: sign, ALL: -2 * sign}
    return {f"{RANDOM_FOR}{rule}": sign, ALL: -sign}


def _row(
    rule: str, without: str, gain: Difference | None, over_chance: Difference | None, arms: Mapping[str, Group]
) -> RuleWorth:
    kept, kept_by_all = (_num_kept(arms.get(name)) for name in (without, ALL))
    num_pairs = None if kept is None or kept_by_all is None else kept - kept_by_all
    return RuleWorth(
        rule=rule,
        num_pairs=num_pairs,
        share=num_pairs / kept if num_pairs is not None and kept else None,
        gain=gain,
        over_chance=over_chance,
    )


def _num_kept(arm: Group | None) -> float | None:
    counts = [job.report.num_pairs_kept for job in (arm.jobs if arm else ()) if job.state == "completed"]
    known = [count for count in counts if count is not None]
    return sum(known) / len(known) if known else None


def _positive(difference: Difference) -> Difference:
    if difference.estimate >= 0:
        return difference
    return replace(difference, estimate=-difference.estimate, low=-difference.high, high=-difference.low)


def _told(difference: Difference, more: str, less: str, end: str = "") -> str:
    if not difference.is_told_apart:
        return f"{NOT_TOLD_APART}{end}"
    return more if difference.estimate > 0 else less


def worth_cells(row: RuleWorth) -> list[str]:
    """Return the cells of a row of a table, under `WORTH_HEADINGS`."""
    differences = ("–" if of is None else difference_text(of) for of in (row.gain, row.over_chance))
    pairs = "–" if row.num_pairs is None else f"{row.num_pairs:,.0f}"
    share = "" if row.share is None else f" ({row.share:.2%})"
    return [row.rule, f"{pairs}{share}", *differences, row.result]


WORTH_HEADINGS: Sequence[str] = ("rule", "price in pairs", "gain over no rule", "gain over chance", "result")


def worth_table(worths: RuleWorths) -> Table:
    """Return the table of what each rule is worth."""
    table = Table(title=worths.title, title_justify="left")
    for number, heading in enumerate(WORTH_HEADINGS):
        table.add_column(heading, justify="right" if 0 < number < len(WORTH_HEADINGS) - 1 else "left")
    for row in worths.rows:
        table.add_row(*worth_cells(row))
    return table
