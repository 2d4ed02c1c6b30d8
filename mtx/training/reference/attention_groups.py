"""Groups of pairs with similar lengths, each of which is padded for one call of attention.

Few groups pad much, and many groups make many calls. The groups here have the least sum of both costs.
"""

import math

import numpy as np
from numpy.typing import NDArray

CLASS_RATIO = 1.1  # pairs whose lengths differ by less share a group in any case, which keeps the search short
# Cost of the calls for one more group, in padded products of a query and a key. On a CPU, half and twice as many give
# equal times, for widths of 128 to 512.
GROUP_COST = 1500

Int = NDArray[np.int64]


def attention_groups(num_queries: Int, num_keys: Int) -> list[Int]:
    """Return groups of pairs, as ascending indices of pairs; pairs without queries are left out.

    The cost of a group is its number of pairs times its most queries times its most keys, plus `GROUP_COST`. Pairs are
    sorted by the sum of their lengths, and dynamic programming cuts this order where the sum of the costs is least.

    Args:
        num_queries: int64 [B], queries of each pair.
        num_keys: int64 [B], keys of each pair.
    """
    classes = _length_classes(num_queries, num_keys)
    if not classes:
        return []
    costs = _run_costs(classes, num_queries, num_keys)
    least, begins = np.zeros(len(classes) + 1), []
    for end in range(len(classes)):
        found = least[: end + 1] + costs[: end + 1, end]
        begins.append(int(found.argmin()))
        least[end + 1] = found[begins[-1]]
    groups, end = [], len(classes)
    while end:
        begin = begins[end - 1]
        groups.append(np.sort(np.concatenate(classes[begin:end])))
        end = begin
    return groups[::-1]


def _length_classes(num_queries: Int, num_keys: Int) -> list[Int]:
    """Return pairs of nearly equal lengths, as indices of pairs, short pairs first."""
    lengths = np.floor(np.log(np.maximum(num_queries + num_keys, 1)) / math.log(CLASS_RATIO)).astype(np.int64)
    pairs = np.flatnonzero(num_queries > 0)
    order = pairs[np.argsort(lengths[pairs], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1) if len(order) else []


def _run_costs(classes: list[Int], num_queries: Int, num_keys: Int) -> NDArray[np.float64]:
    """Return the cost of a group of the classes i to j, float64 [classes, classes]; infinite if i is above j."""
    is_run = np.triu(np.ones((len(classes), len(classes)), dtype=bool))
    sizes = np.cumsum(is_run * np.array([len(pairs) for pairs in classes]), axis=1)
    queries, keys = (
        np.maximum.accumulate(is_run * np.array([counts[pairs].max() for pairs in classes]), axis=1)
        for counts in (num_queries, num_keys)
    )
    return np.where(is_run, sizes * queries * keys + float(GROUP_COST), np.inf)
