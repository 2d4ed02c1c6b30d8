"""`OpusFilter`: the rules of a config of OpusFilter or OpusCleaner, read from its file."""

import copy
import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, cast

import numpy as np
import pyarrow as pa

from mtx.components.checked_options import Natural, component
from mtx.components.identity import JSON, plain_value
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.filter_protocol import DropCounts, PairFilter, count_dropped
from mtx.data.filter.opus_config_file import OpusConfig, read_opus_config
from mtx.data.filter.opus_rule import OpusRule, Sides
from mtx.data.filter.rule_funnel import RuleFunnel
from mtx.errors import ConfigError

log = logging.getLogger(__name__)


@component("filter")
class OpusFilter(PairFilter):
    """Drops training pairs by the rules of a config of OpusFilter or OpusCleaner, with the same definitions.

    The rules apply in their order, and each dropped pair counts under the first rule that drops it. The constructor
    reads the file, so that an invalid one is refused before any work. The id of the filtered pairs depends on the rules
    and their parameters, and not on the path.

    Args:
        path: a YAML config of OpusFilter, or a pipeline of OpusCleaner whose name ends in `.json`.
        steps: numbers of the steps of OpusFilter to apply, from 1; None: all steps that drop pairs.
        unsupported: what happens to rules and steps that mtx does not have: `refuse` the config, or `skip` them with a
            warning that lists them.
    """

    kind: ClassVar[str] = "filter/opusfilter"
    version: ClassVar[int] = 1
    _source_names: ClassVar[tuple[str, ...]] = ()  # `for_mixture` sets it for an instance

    path: str
    steps: list[Natural] | None = None
    unsupported: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        found = self._config.left_out
        if not found:
            return
        what = "rule or step" if len(found) == 1 else "rules or steps"
        such = f"{self.path} has {len(found)} {what} that mtx does not apply"
        listed = "\n".join(f"  {each}" for each in found)
        if self.unsupported == "refuse":
            raise ConfigError(f"{such}:\n{listed}\nTo leave them out, set filter.unsupported=skip")
        log.warning("%s, and %d that it applies:\n%s", such, len(self._config.rules), listed)

    @cached_property
    def _config(self) -> OpusConfig:
        return read_opus_config(self.path, self.steps)

    def identity_fields(self) -> dict[str, JSON]:
        """Return the rules with all parameters, which decide the output."""
        return {"rules": [[type(rule).__name__, _plain_fields(rule)] for rule in self._config.rules.values()]}

    @property
    def columns(self) -> tuple[str, ...]:
        """The empty tuple: the filter reads only the texts."""
        return ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """The names of the rules."""
        return tuple(self._config.rules)

    @property
    def settings_over_pairs(self) -> Mapping[str, str]:
        """The steps that remove duplicates, by their names."""
        named = [name for name, rule in self._config.rules.items() if not isinstance(rule, OpusRule)]
        return {f"filter.path, whose step {name} removes duplicates": "'filter.steps=[NUMBERS]'" for name in named}

    def for_mixture(self, source_names: Sequence[str]) -> "OpusFilter":
        """Return the filter with the names of the sources, under which it counts dropped pairs."""
        found = copy.copy(self)
        object.__setattr__(found, "_source_names", tuple(source_names))  # the class is frozen
        return found

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        """Stream the pairs that all rules keep, and count the others in `dropped` by rule."""
        rules = self._config.rules
        new = {name: rule.marker() for name, rule in rules.items() if not isinstance(rule, OpusRule)}
        funnel = RuleFunnel(list(rules), self._source_names)
        if isinstance(dropped, DropCounts):
            dropped.funnel = funnel
        for batch in pair_batches(pairs):
            sides = Sides(*batch.columns[:2])
            masks = np.zeros((len(rules), batch.num_rows), dtype=np.bool_)
            for number, (name, rule) in enumerate(rules.items()):
                if isinstance(rule, OpusRule):
                    masks[number] = ~rule.keeps(sides)
                else:
                    left = ~masks[:number].any(axis=0)
                    chosen = pa.array(left)
                    masks[number, left] = ~new[name](Sides(*(texts.filter(chosen) for texts in sides.texts)))
            in_order = funnel.add(batch, masks)
            for number, name in enumerate(rules):
                count_dropped(dropped, name, in_order[number], batch)
            yield batch.filter(pa.array(~masks.any(axis=0)))
        funnel.criteria = [_plain_fields(rule) for rule in rules.values()]


def _plain_fields(rule: Any) -> dict[str, JSON]:
    """Return the parameters of a rule as plain values; infinite numbers are texts, because JSON has none."""

    def finite(value: Any) -> Any:
        if isinstance(value, list):
            return [finite(item) for item in value]
        return str(value) if isinstance(value, float) and not math.isfinite(value) else value

    found = {each.name: finite(getattr(rule, each.name)) for each in dataclasses.fields(rule)}
    return cast(dict[str, JSON], plain_value(found))
