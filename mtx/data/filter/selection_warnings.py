"""Warnings of a selection that drops most pairs, which is probably a mistake."""

import logging

import numpy as np

from mtx.data.filter.rule_funnel import RuleFunnel
from mtx.data.filter.rule_set import WITHOUT_VALUE

log = logging.getLogger(__name__)

LARGE_SHARE = 0.9  # of the pairs; a selection that drops more warns


def warn_of_all_selections(funnel: RuleFunnel) -> None:
    """Warn of a selection as `warn_of_selection` does, after the selections before it."""
    if funnel.before is not None:
        warn_of_all_selections(funnel.before)
    warn_of_selection(funnel)


def warn_of_selection(funnel: RuleFunnel) -> None:
    """Warn if the rules drop more than 90 % of the pairs, or of the pairs of a source."""
    if not funnel.names:
        return
    if funnel.num_kept < (1 - LARGE_SHARE) * funnel.num_pairs:
        most = int(np.argmax(funnel.alone))
        log.warning(
            "the rules of filter=selection drop %d of %d pairs (%.1f %%). The rule %s drops most, %d pairs alone, "
            "by %s. Relax it, or turn it off with filter.rules.%s=null",
            funnel.num_pairs - funnel.num_kept,
            funnel.num_pairs,
            100 * (1 - funnel.num_kept / funnel.num_pairs),
            *_rule_texts(funnel, most),
        )
        return
    for column, part, share, most in funnel.parts.heavily_cut(LARGE_SHARE):
        log.warning(
            "the rules of filter=selection drop %.1f %% of the pairs with %s=%s. The rule %s drops most of all, %d "
            "pairs alone, by %s. Relax it, or turn it off with filter.rules.%s=null",
            *(100 * share, column, part),
            *_rule_texts(funnel, most),
        )


def _rule_texts(funnel: RuleFunnel, rule: int) -> tuple[str, int, str, str]:
    """Return what a warning says of a rule: its name, the pairs it drops alone, its criteria, and its key."""
    name = funnel.names[rule]
    criteria = ", ".join(f"{key}={value}" for key, value in funnel.criteria[rule].items()) or "its own code"
    return name, int(funnel.alone[rule]), criteria, name.removesuffix(WITHOUT_VALUE)
