"""The size of batches as one number, which Lightning's batch-size finder turns up and down."""

from dataclasses import replace
from typing import Any, cast

import numpy as np

from mtx.errors import ConfigError
from mtx.infra.dataset.plan.base import Lengths, Mask, Planner, check_at_least

KEYS = ("max_tokens", "batch_size")  # what planners call their budget; one has the first or the second


def budget(planner: Planner) -> int:
    """Return a planner's budget: padded positions, or pairs of a batch. Raises ConfigError where it has none."""
    return int(getattr(planner, _key(planner)))


def counts_tokens(planner: Planner) -> bool:
    """Tell whether the budget is one of padded positions."""
    return hasattr(planner, "max_tokens")


def with_budget(planner: Planner, value: int) -> Planner:
    """Return the planner with another budget. Raises ConfigError where the value or the planner will not do."""
    key = _key(planner)
    check_at_least(f"sampler.{key}", value, 1)
    return cast(Planner, replace(cast(Any, planner), **{key: int(value)}))  # planners are dataclasses


def longest_pair(planner: Planner, lengths: Lengths, excluded: Mask | None) -> int:
    """Return the least budget that holds any one of the pairs; 1 where it counts pairs."""
    if not counts_tokens(planner):
        return 1
    multiple = getattr(planner, "length_multiple", 1)
    source, target = (
        -(-(side if excluded is None else side[~excluded]).astype(np.int64) // multiple) * multiple
        for side in (lengths.source, lengths.target)
    )
    taken = source + target if getattr(planner, "budget", "side") == "area" else np.maximum(source, target)
    return int(taken.max(initial=1))


def num_units(planner: Planner, lengths: Lengths, excluded: Mask | None) -> int:
    """Return what all pairs together count in the planner's unit: no budget above that changes anything."""
    if not counts_tokens(planner):
        return len(lengths)
    return len(lengths) * longest_pair(planner, lengths, excluded)


def _key(planner: Planner) -> str:
    for key in KEYS:
        if hasattr(planner, key):
            return key
    raise ConfigError(
        f"datamodule.batch_size stands for the budget of the sampler, its {' or its '.join(KEYS)}, but "
        f"{type(planner).__name__} has neither. Leave the batch-size finder out, or use sampler=token_budget"
    )
