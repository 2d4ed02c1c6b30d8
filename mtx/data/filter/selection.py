"""`SelectionFilter`: named rules over columns, such as stored scores, after another filter if one is chained."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, ClassVar, cast

import numpy as np
import pyarrow as pa

from mtx.components.checked_options import Natural, component
from mtx.components.identity import JSON, identity, plain_value
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.column_rule import ColumnRule, column_rule
from mtx.data.filter.filter_protocol import DropCounts, PairFilter, count_dropped
from mtx.data.filter.rule_ablation import ALL, RANDOM, Ablation, parsed_ablation, random_drop
from mtx.data.filter.rule_funnel import RuleFunnel
from mtx.data.filter.rule_set import WITHOUT_VALUE, RuleSet, numbered
from mtx.errors import ConfigError

log = logging.getLogger(__name__)

LARGE_SHARE = 0.9  # of the pairs; a selection that drops more is probably a mistake, and warns

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
        ablation: which rules apply: `all`, `none`, `without_RULE`, or `random_for_RULE`; see `rule_ablation`.
        ablation_seed: seed of the pairs that `random_for_RULE` drops.
    """

    kind: ClassVar[str] = "filter/selection"
    version: ClassVar[int] = 1
    nested_options: ClassVar[Mapping[str, type]] = {"rules": ColumnRule}

    before: PairFilter | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    ablation: str = ALL
    ablation_seed: Natural = 0

    def __post_init__(self) -> None:
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

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output: the filter before, and the rules that are on."""
        rules: list[JSON] = []
        is_random = self._ablation.kind == RANDOM
        for name, rule in (self._all_active if is_random else self._active).items():
            described = identity(rule) if isinstance(rule, PairFilter) else cast(dict[str, JSON], plain_value(rule))
            rules.append([name, {key: value for key, value in described.items() if value is not None}])
        found: dict[str, JSON] = {"before": None if self.before is None else identity(self.before), "rules": rules}
        return found | ({"random_for": [self._ablation.rule, self.ablation_seed]} if is_random else {})

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
    def columns(self) -> tuple[str, ...] | None:
        """The columns that the active rules name; None if a filter of one's own may read any column."""
        active = self._all_active if self._ablation.kind == RANDOM else self._active
        own = [rule for rule in (*active.values(), self.before) if isinstance(rule, PairFilter)]
        if any(each.columns is None for each in own):
            return None
        named = [rule.column or name for name, rule in active.items() if isinstance(rule, ColumnRule)]
        return tuple(dict.fromkeys([*named, *(column for each in own for column in each.columns or ())]))

    def check_columns(self, columns: Sequence[str]) -> None:
        """Raise ConfigError if an active rule compares a column that does not exist."""
        RuleSet(self._all_active).check_columns(columns)

    def fitted(self, read: Callable[[], Batches]) -> PairFilter:
        """Return the selection with the bounds that follow from quantiles and ranks, after a pass over all pairs.

        With `ablation=random_for_RULE`, the result also has the pairs to drop at random.
        """
        if (rule := self._ablation.rule) is not None and self._ablation.kind == RANDOM:
            whole, kept = (self._bound(RuleSet(rules), read) for rules in (self._all_active, self._active))
            return random_drop(rule, kept, whole, read, seed=self.ablation_seed)
        return self._bound(RuleSet(self._active), read)

    def _bound(self, rules: RuleSet, read: Callable[[], Batches]) -> "BoundSelection":
        if not rules.needs_all_pairs:
            return BoundSelection(self.before, rules)
        return BoundSelection(self.before, rules.fitted(_after(self.before, read(), {})))

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Batches:
        """Stream the pairs that all rules keep, and count the others in `dropped` by rule.

        If a rule uses quantiles or ranks, the pairs are read twice; an iterator of batches is then kept in memory.
        """
        is_repeated = RuleSet(self._active).needs_all_pairs or self._ablation.kind == RANDOM
        if is_repeated and not isinstance(pairs, pa.Table):
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

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Batches:
        """Stream the pairs that all rules keep; warn if the rules drop more than 90 % of the pairs."""
        funnel = RuleFunnel(self._rules.names)
        if isinstance(dropped, DropCounts):
            dropped.funnel = funnel
        for batch, rows in numbered(_after(self._before, pairs, dropped)):
            judged = self._rules.judge(batch, rows)
            in_order = funnel.add(batch, judged.masks)
            for number, name in enumerate(funnel.names):
                count_dropped(dropped, name, in_order[number], batch)
                if (threshold := judged.thresholds[number]) is not None:
                    values = judged.values[number]
                    assert values is not None
                    funnel.add_nearest(number, batch, rows, values, threshold, judged.masks[number])
            yield batch.filter(pa.array(~judged.masks.any(axis=0)))
        funnel.criteria = self._rules.criteria
        self._warn(funnel)

    @staticmethod
    def _warn(funnel: RuleFunnel) -> None:
        if not funnel.names or funnel.num_kept >= (1 - LARGE_SHARE) * funnel.num_pairs:
            return
        most = int(np.argmax(funnel.alone))
        name = funnel.names[most]
        log.warning(
            "the rules of filter=selection drop %d of %d pairs (%.1f %%). The rule %s drops most, %d pairs alone, by "
            "%s. Relax it, or turn it off with filter.rules.%s=null",
            funnel.num_pairs - funnel.num_kept,
            funnel.num_pairs,
            100 * (1 - funnel.num_kept / funnel.num_pairs),
            name,
            funnel.alone[most],
            ", ".join(f"{key}={value}" for key, value in funnel.criteria[most].items()) or "its own code",
            name.removesuffix(WITHOUT_VALUE),
        )


def _after(before: PairFilter | None, pairs: Pairs, dropped: dict[str, int]) -> Batches:
    return pair_batches(pairs) if before is None else pair_batches(before.apply(pairs, dropped))
