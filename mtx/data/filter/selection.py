"""`SelectionFilter`: named rules over columns, such as stored scores, after another filter if one is chained."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import pyarrow as pa

from mtx.components.checked_options import Natural, component
from mtx.components.identity import JSON, identity, plain_value
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.column_rule import ColumnRule, column_rule
from mtx.data.filter.filter_protocol import DividedPairs, DropCounts, PairFilter
from mtx.data.filter.pairwise_rule import count_reasons
from mtx.data.filter.rule_ablation import ALL, RANDOM_FOR, Ablation, parsed_ablation, random_drop
from mtx.data.filter.rule_funnel import RuleFunnel
from mtx.data.filter.rule_set import RuleSet, numbered
from mtx.data.filter.selection_warnings import warn_of_selection
from mtx.data.filter.two_pass_filter import AppliedFilter
from mtx.errors import ConfigError
from mtx.infra.dal.row_views import SOURCE_COLUMN

Batches = Iterator[pa.RecordBatch]


@component("filter")
class SelectionFilter(PairFilter):
    """Drops training pairs by named rules over columns: scores, lengths, and columns that came with the corpus.

    The rules apply in their order, and each dropped pair counts under the first rule that drops it. Each rule judges
    all pairs that `before` keeps, so the report also says what a rule drops alone, and what only this rule drops.

    Args:
        before: a filter that is applied first, such as the default filter; None: no filter.
        rules: the rules by name. A rule is a mapping of criteria (see `ColumnRule`), or a function of one's own that is
            marked with `@mtx.rule`. A rule without criteria, or null, is off.
        ablation: which rules apply: `all`, `none`, `without_RULE`, `random_besides_RULE` or `random_for_RULE`; see
            `rule_ablation`.
        ablation_seed: seed of the pairs that `random_besides_RULE` and `random_for_RULE` drop.
    """

    kind: ClassVar[str] = "filter/selection"
    version: ClassVar[int] = 1
    nested_options: ClassVar[Mapping[str, type]] = {"rules": ColumnRule}
    _source_names: ClassVar[tuple[str, ...]] = ()  # `for_mixture` sets it for an instance

    before: PairFilter | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    ablation: str = ALL
    ablation_seed: Natural = 0

    def __post_init__(self) -> None:
        self._check_rules()
        self._check_names()

    def _check_rules(self) -> None:
        for name, rule in self.rules.items():
            if isinstance(rule, PairFilter):
                if not rule.is_pairwise:
                    raise ConfigError(
                        f"filter.rules.{name} is {type(rule).__name__}, which may depend on other pairs. A rule is a "
                        "function marked with @mtx.rule; apply another filter first, with filter.before"
                    )
            elif isinstance(rule, Mapping):
                column_rule(name, rule)
            elif rule is not None:
                raise ConfigError(
                    f"filter.rules.{name} must be a mapping of criteria, such as {{min: 0.5}}, but is {rule!r}. Set "
                    f"filter.rules.{name}.min=NUMBER, or remove it with ~filter.rules.{name}"
                )
        _ = self._ablation

    def _check_names(self) -> None:
        """Raise ConfigError if two rules, or a rule and a reason of the filter before, have one name in reports."""
        known = dict.fromkeys(() if self.before is None else self.before.reasons, "filter.before")
        for name, rule in self._active.items():
            for reason in RuleSet({name: rule}).names:
                if reason in known:
                    raise ConfigError(
                        f"filter.rules.{name} and {known[reason]} both count dropped pairs as {reason}, but each rule "
                        f"needs a name of its own. Turn one of them off with filter.rules.{name}=null, or rename it"
                    )
                known[reason] = f"filter.rules.{name}"

    @property
    def reasons(self) -> tuple[str, ...]:
        """The reasons of the filter before, and of the active rules."""
        return (*(() if self.before is None else self.before.reasons), *RuleSet(self._active).names)

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output: the filter before, and the rules that are on."""
        rules: list[JSON] = []
        for name, rule in (self._all_active if self._ablation.is_random else self._active).items():
            described = identity(rule) if isinstance(rule, PairFilter) else cast(dict[str, JSON], plain_value(rule))
            rules.append([name, {key: value for key, value in described.items() if value is not None}])
        found: dict[str, JSON] = {"before": None if self.before is None else identity(self.before), "rules": rules}
        return found | self._ablation.described(self.ablation_seed)

    @cached_property
    def _ablation(self) -> Ablation:
        return parsed_ablation(self.ablation, list(self._all_active))

    @property
    def _active(self) -> dict[str, ColumnRule | PairFilter]:
        """The rules that are on and that the ablation does not leave out."""
        return self._ablation.applied(self._all_active)

    @cached_property
    def _all_active(self) -> dict[str, ColumnRule | PairFilter]:
        parsed = {
            name: rule if isinstance(rule, PairFilter) else column_rule(name, rule)
            for name, rule in self.rules.items()
            if rule is not None
        }
        return {name: rule for name, rule in parsed.items() if isinstance(rule, PairFilter) or rule.criteria}

    @property
    def column_rules(self) -> dict[str, ColumnRule]:
        """The rules over columns that apply, by name."""
        return {name: rule for name, rule in self._active.items() if isinstance(rule, ColumnRule)}

    @property
    def _needs_all_pairs(self) -> bool:
        has_more = isinstance(self.before, SelectionFilter) and self.before._needs_all_pairs
        return has_more or self._ablation.is_random or RuleSet(self._active).needs_all_pairs

    @property
    def columns(self) -> tuple[str, ...] | None:
        """The columns that the active rules name; None if a filter of one's own may read any column.

        The parts of a mixture, `within: source`, are none of them: they are no scores.
        """
        active = self._all_active if self._ablation.is_random else self._active
        own = [rule for rule in (*active.values(), self.before) if isinstance(rule, PairFilter)]
        if any(each.columns is None for each in own):
            return None
        named = [
            column
            for name, rule in active.items()
            if isinstance(rule, ColumnRule)
            for column in (
                rule.column or name,
                *(part for part in (rule.best_of, rule.within) if part != SOURCE_COLUMN),
            )
            if column is not None
        ]
        return tuple(dict.fromkeys([*named, *(column for each in own for column in each.columns or ())]))

    @property
    def settings_over_pairs(self) -> Mapping[str, str]:
        """The rules with quantiles or ranks, the random ablations, and such settings of the filter before."""
        found = {} if self.before is None else dict(self.before.settings_over_pairs)
        found = {_before_key(setting): _before_key(fix) for setting, fix in found.items()}
        if self._ablation.is_random:
            found[f"filter.ablation={self.ablation}"] = f"filter.ablation={ALL}"
        for name, rule in self.column_rules.items():
            if rule.needs_all_pairs:
                found[f"filter.rules.{name}, which has quantiles or ranks"] = f"filter.rules.{name}=null"
        return found

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise ConfigError if an active rule names a column, or a part of the mixture, that does not exist."""
        if self.before is not None:
            self.before.check_columns(columns)
        RuleSet(self._all_active, self._source_names).check_columns(columns)

    def for_mixture(self, source_names: Sequence[str]) -> "SelectionFilter":
        """Return the selection for a mixture of sources with these names, which `within: source` uses."""
        found = copy.copy(self)
        object.__setattr__(found, "_source_names", tuple(source_names))  # the class is frozen
        if self.before is not None:
            object.__setattr__(found, "before", self.before.for_mixture(source_names))
        return found

    def with_scratch(self, folder: Path) -> "SelectionFilter":
        """Return the selection whose filter before may write temporary files into a folder."""
        found = copy.copy(self)
        if self.before is not None:
            object.__setattr__(found, "before", self.before.with_scratch(folder))
        return found

    def fitted(self, read: Callable[[], Batches]) -> PairFilter:
        """Return the selection with the bounds that follow from quantiles and ranks, after a pass over all pairs.

        With `random_besides_RULE` and `random_for_RULE`, the result also has the pairs to drop at random.
        """
        if (rule := self._ablation.rule) is None or not self._ablation.is_random:
            return self._bound(RuleSet(self._active, self._source_names), read)
        both = (self._all_active, self._ablation.others(self._all_active))
        whole, without = (self._bound(RuleSet(rules, self._source_names), read) for rules in both)
        num_whole, num_without = whole.num_kept(read()), without.num_kept(read())
        kept, num_kept = (without, num_without) if self._ablation.kind == RANDOM_FOR else (whole, num_whole)
        return random_drop(rule, kept, num_kept, num_without - num_whole, seed=self.ablation_seed)

    def _bound(self, rules: RuleSet, read: Callable[[], Batches]) -> "BoundSelection":
        before = None if self.before is None else self.before.fitted(read)
        if rules.needs_all_pairs and (before is None or _can_be_divided(before, read)):
            rules = rules.fitted(_kept_silently(before, read()))
        elif rules.needs_all_pairs:
            assert before is not None
            before = applied = AppliedFilter(before, len(self._source_names))
            rules = rules.fitted(applied.first_pass(read()))
        return BoundSelection(before, rules)

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Batches:
        """Stream the pairs that all rules keep, and count the others in `dropped` by rule.

        If a rule uses quantiles or ranks, the pairs are read twice; an iterator of batches is then kept in memory.
        """
        if self._needs_all_pairs and not isinstance(pairs, pa.Table):
            pairs = list(pairs)
        return self.fitted(lambda: pair_batches(pairs)).apply(pairs, dropped)


class BoundSelection(PairFilter):
    """A selection whose bounds are numbers.

    Args:
        before: a filter that is applied first; None: no filter.
        rules: the rules with their bounds.
    """

    def __init__(self, before: PairFilter | None, rules: RuleSet) -> None:
        self._before = before
        self._rules = rules

    @property
    def is_divisible(self) -> bool:
        """Whether the filter before is, and all bounds are few numbers, which each task gets."""
        return (self._before is None or self._before.is_divisible) and not self._rules.has_many_bounds

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Batches:
        """Stream the pairs that all rules keep; warn if the rules drop more than 90 % of the pairs."""
        is_part = isinstance(dropped, DropCounts) and dropped.is_part
        funnel = RuleFunnel(self._rules.names, self._rules.source_names, is_part=is_part)
        for batch, rows in numbered(_after(self._before, pairs, dropped)):
            judged = self._rules.judge(batch, rows)
            in_order = funnel.add(batch, judged.masks)
            funnel.add_judgements(batch, rows, judged)
            for number, name in enumerate(funnel.names):
                count_reasons(dropped, name, in_order[number], judged.reasons[number], batch)
            yield batch.filter(pa.array(~judged.masks.any(axis=0)))
        funnel.criteria = self._rules.criteria
        if isinstance(dropped, DropCounts):
            funnel.before = dropped.funnel  # of a selection that is applied before
            dropped.funnel = funnel
        if not is_part:
            warn_of_selection(funnel)

    def num_kept(self, pairs: Pairs) -> int:
        """Return the number of pairs that all rules keep, without a report or a warning."""
        return sum(batch.num_rows for batch in self.kept_silently(pairs))

    def kept_silently(self, pairs: Pairs) -> Batches:
        """Stream the pairs that all rules keep, without a report or a warning."""
        for batch, rows in numbered(_kept_silently(self._before, pairs)):
            yield batch.filter(pa.array(~self._rules.judge(batch, rows).masks.any(axis=0)))


def _before_key(setting: str) -> str:
    """Return a setting of a filter as that of the filter before a selection: `filter.before.…`."""
    name, separator, value = setting.partition(".")
    return (
        f"filter.before.{value}" if separator else "filter.before=null" if "=" in name else f"{name} in filter.before"
    )


def _after(before: PairFilter | None, pairs: Pairs, dropped: dict[str, int]) -> Batches:
    return pair_batches(pairs) if before is None else pair_batches(before.apply(pairs, dropped))


def _kept_silently(before: PairFilter | None, pairs: Pairs) -> Batches:
    return before.kept_silently(pairs) if isinstance(before, BoundSelection) else _after(before, pairs, {})


def _can_be_divided(before: PairFilter, read: Callable[[], Batches]) -> bool:
    """Return whether ranges are judged twice by the filter before, instead of remembering what it keeps."""
    return isinstance(read, DividedPairs) and before.is_divisible
