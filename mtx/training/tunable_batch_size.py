"""Read and set a planner's batch budget as one number, so that Lightning's batch-size finder can tune it."""

from dataclasses import replace
from typing import Any, cast

import numpy as np

from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import Lengths, Mask, Planner
from mtx.components.checked_options import Count, problem_of
from mtx.errors import ConfigError

BUDGET_KEYS = (
    "max_tokens",
    "real_tokens",
    "batch_size",
    "num_rows",
)  # attribute names of the budget; each planner has at most one of them


def planner_budget(planner: Planner) -> int:
    """Return a planner's batch budget: `max_tokens` (padded), `real_tokens`, `batch_size` (pairs) or `num_rows`.

    Raises ConfigError if the planner has none of these attributes.
    """
    return int(getattr(planner, _budget_key(planner)))


def is_token_budget(planner: Planner) -> bool:
    """Return True if the planner's budget counts tokens, False if the budget counts pairs or rows."""
    return hasattr(planner, "max_tokens") or hasattr(planner, "real_tokens")


def planner_with_budget(planner: Planner, value: int) -> Planner:
    """Return a copy of the planner with another budget.

    Raises ConfigError if the planner has no budget, or if the value is not a positive integer.
    """
    key = _budget_key(planner)
    if problem := problem_of(f"sampler.{key}", Count, value):
        raise ConfigError(problem)
    return cast(Planner, replace(cast(Any, planner), **{key: value}))  # planners are dataclasses


def min_budget(planner: Planner, lengths: Lengths, excluded: Mask | None) -> int:
    """Return the smallest budget at which every pair fits into a batch; 1 if the budget counts pairs or rows."""
    if not is_token_budget(planner):
        return 1
    multiple = getattr(planner, "length_multiple", 1)
    source, target = (
        -(-(side if excluded is None else side[~excluded]).astype(np.int64) // multiple) * multiple
        for side in (lengths.source, lengths.target)
    )
    is_joint = hasattr(planner, "real_tokens") or getattr(planner, "budget", "side") == "area"
    taken = source + target if is_joint else np.maximum(source, target)
    return int(taken.max(initial=1))


def num_units(planner: Planner, lengths: Lengths, excluded: Mask | None) -> int:
    """Return the budget at which all pairs fit into one batch; a larger budget changes nothing."""
    if isinstance(planner, PackedRowsPlanner):
        return planner.draft(lengths, excluded=excluded).num_packed_rows
    if not is_token_budget(planner):
        return len(lengths)
    return len(lengths) * min_budget(planner, lengths, excluded)


def _budget_key(planner: Planner) -> str:
    for key in BUDGET_KEYS:
        if hasattr(planner, key):
            return key
    raise ConfigError(
        f"datamodule.batch_size sets the sampler's {' or '.join(BUDGET_KEYS)}, but {type(planner).__name__} has "
        "none of these. Remove the batch-size finder, or set sampler=token_budget"
    )
