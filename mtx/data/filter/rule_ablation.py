"""Ablations of a selection: all rules, none, all but one, or a control that drops as many pairs at random as one rule.

A comparison of these arms tells what each rule is worth. There are two controls, and both drop as many pairs as only
the rule drops. The arm `random_besides_RULE` applies all rules and drops pairs besides: it shows what a loss of so many
pairs costs. The arm `random_for_RULE` leaves the rule out and drops pairs instead: it has as many pairs as `all`.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import DropCounts, PairFilter, count_dropped
from mtx.errors import ConfigError, choices

ALL, NONE = "all", "none"
WITHOUT, RANDOM_BESIDES, RANDOM_FOR = "without_", "random_besides_", "random_for_"  # precede the name of a rule
OPTION = "filter.ablation"

Batches = Iterator[pa.RecordBatch]
T = TypeVar("T")


@dataclass(frozen=True)
class Ablation:
    """Which rules of a selection apply.

    Attributes:
        kind: `all`, `none`, `without_`, `random_besides_` or `random_for_`.
        rule: the rule that is left out, or as whose drops pairs are drawn; None for `all` and `none`.
    """

    kind: str
    rule: str | None = None

    @property
    def is_random(self) -> bool:
        """Whether pairs are dropped at random."""
        return self.kind in (RANDOM_BESIDES, RANDOM_FOR)

    def applied(self, rules: Mapping[str, T]) -> dict[str, T]:
        """Return the rules that apply, in order."""
        if self.kind == NONE:
            return {}
        return dict(rules) if self.kind == RANDOM_BESIDES else self.others(rules)

    def others(self, rules: Mapping[str, T]) -> dict[str, T]:
        """Return all rules but the named one."""
        return {name: rule for name, rule in rules.items() if name != self.rule}

    def described(self, seed: int) -> dict[str, JSON]:
        """Return the fields of an identity that describe the pairs that are drawn; empty if none are."""
        return {f"{self.kind.removesuffix('_')}": [self.rule, seed]} if self.is_random else {}


def described_ablation(fields: Mapping[str, Any]) -> tuple[str, int]:
    """Return the ablation and its seed, given the fields of an identity."""
    for kind in (RANDOM_BESIDES, RANDOM_FOR):
        if (found := fields.get(kind.removesuffix("_"))) is not None:
            return f"{kind}{found[0]}", found[1]
    return ALL, 0


def parsed_ablation(text: str, rules: Sequence[str]) -> Ablation:
    """Return the ablation that an option describes, given the names of the rules that are on.

    Raises ConfigError if the text is no ablation, or names a rule that is not on.
    """
    if text in (ALL, NONE):
        return Ablation(text)
    kind = next((kind for kind in (WITHOUT, RANDOM_BESIDES, RANDOM_FOR) if text.startswith(kind)), "")
    rule = text.removeprefix(kind)
    if not kind or not rule:
        raise ConfigError(
            f"{OPTION} is all, none, without_RULE, random_besides_RULE or random_for_RULE, but is {text!r}. Set "
            f"{OPTION}=all to apply all rules"
        )
    if rule not in rules:
        there = choices(rule, rules) if rules else "none; choose a scorer, such as 'score=[rules]'"
        raise ConfigError(f"{OPTION}={text} names the rule {rule}, which is not on. Rules that are on: {there}")
    return Ablation(kind, rule)


def ablation_arms(rules: Sequence[str]) -> list[str]:
    """Return the values of `filter.ablation` that tell what each rule is worth, given the rules that are on."""
    return [ALL, NONE, *(f"{kind}{rule}" for rule in rules for kind in (WITHOUT, RANDOM_BESIDES))]


def random_drop(rule: str, kept: PairFilter, num_kept: int, num_dropped: int, *, seed: int) -> "RandomDrop":
    """Return a filter that keeps the pairs of `kept`, less some drawn at random.

    Args:
        rule: name of the rule that drops as many pairs.
        kept: a selection with its bounds.
        num_kept: number of pairs that `kept` keeps.
        num_dropped: number of pairs to draw; not more than `num_kept` are drawn.
        seed: another seed draws other pairs.
    """
    rng = np.random.default_rng([seed, zlib.crc32(rule.encode("utf-8", "surrogatepass"))])
    places = rng.choice(num_kept, min(max(num_dropped, 0), num_kept), replace=False, shuffle=False)
    return RandomDrop(rule, kept, np.sort(places).astype(np.int64))


class RandomDrop(PairFilter):
    """Drops pairs at given places of the stream that another filter keeps.

    Args:
        rule: name of the rule that drops as many pairs.
        kept: the other filter.
        places: the places, int64 [n], ascending.
    """

    def __init__(self, rule: str, kept: PairFilter, places: NDArray[np.int64]) -> None:
        self._reason = f"at_random_for_{rule}"
        self._kept = kept
        self._places = places

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Batches:
        """Stream the pairs of the other filter, and count those that are dropped at random as `at_random_for_RULE`."""
        first = 0
        num_dropped = 0
        for batch in pair_batches(self._kept.apply(pairs, dropped)):
            found = np.zeros(batch.num_rows, dtype=np.bool_)
            low, high = np.searchsorted(self._places, (first, first + batch.num_rows))
            found[self._places[low:high] - first] = True
            first += batch.num_rows
            num_dropped += int(np.count_nonzero(found))
            count_dropped(dropped, self._reason, found, batch)
            yield batch.filter(pa.array(~found))
        if isinstance(dropped, DropCounts) and dropped.funnel is not None:
            dropped.funnel.num_kept -= num_dropped


def active_rules(options: Mapping[str, Any]) -> list[str]:
    """Return the names of the rules of a selection that are on, given the options of `filter.rules`."""
    from mtx.data.filter.column_rule import column_rule

    return [
        name
        for name, rule in options.items()
        if rule is not None and ("_target_" in rule or column_rule(name, rule).criteria)
    ]
