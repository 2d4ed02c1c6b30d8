"""Compiled kernels of IBM Model 1, with the results of `translation_steps.py` up to rounding.

This module imports numba, an optional dependency, so only `translation_steps.compiled_steps` imports it. All functions
release the interpreter lock. S and T are the numbers of tokens in the source and target vocabularies.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import compiled

Array = NDArray[Any]

_compiled = partial(compiled, error_model="numpy")


@_compiled
def add_expected_counts(
    cells: Array,
    floor: Array,
    given_offsets: Array,
    given: Array,
    given_counts: Array,
    made_offsets: Array,
    made: Array,
    made_counts: Array,
) -> None:
    """Add the expected counts of all pairs; see `translation_steps.add_expected_counts`."""
    weights = np.zeros(floor.size, dtype=np.float32)
    for pair in range(given_offsets.size - 1):
        first, end = given_offsets[pair], given_offsets[pair + 1]
        start, until = made_offsets[pair], made_offsets[pair + 1]
        length = np.float32(0)
        for i in range(first, end):
            length += given_counts[i]
        for j in range(start, until):
            weights[j - start] = length * floor[made[j]]
        for i in range(first, end):
            row, count = cells[given[i]], given_counts[i]
            for j in range(start, until):
                weights[j - start] += count * row[made[j], 0]
        for j in range(start, until):
            weights[j - start] = made_counts[j] / weights[j - start]
        for i in range(first, end):
            row, count = cells[given[i]], given_counts[i]
            for j in range(start, until):
                row[made[j], 1] += count * row[made[j], 0] * weights[j - start]


@_compiled
def normalise(cells: Array, totals: Array) -> None:
    """Replace the probabilities by the relative expected counts; see `translation_steps.normalise`."""
    for given in range(totals.size):
        row = cells[given]
        total = 0.0
        for made in range(row.shape[0]):
            total += row[made, 1]
        totals[given] = total
        scale = np.float32(1 / total) if total > 0 else np.float32(0)
        for made in range(row.shape[0]):
            row[made, 0] = row[made, 1] * scale
            row[made, 1] = 0


@_compiled
def _weights(cells: Array, floor: Array, given: Array, given_counts: Array, made: Array, counts: Array) -> Any:
    """Return the count of each made token divided by the sum of the probabilities that explain it: float32 [made]."""
    found = given_counts.sum() * floor[made]
    for i in range(given.size):
        for j in range(made.size):
            found[j] += given_counts[i] * cells[given[i], made[j]]
    return counts / found


@_compiled
def _own_totals(cells: Array, given: Array, given_counts: Array, made: Array, weights: Array) -> Array:
    """Return the expected count of each given token in the pair itself: float32 [given]."""
    found = np.zeros(given.size, dtype=np.float32)
    for i in range(given.size):
        for j in range(made.size):
            found[i] += given_counts[i] * cells[given[i], made[j]] * weights[j]
    return found


@_compiled
def _places(tokens: Array, own: Array) -> Array:
    """Return the place of each token in `own`, or −1; both are ascending: int64 [tokens]."""
    found = np.full(tokens.size, -1, dtype=np.int64)
    k = 0
    for i in range(tokens.size):
        while k < own.size and own[k] < tokens[i]:
            k += 1
        if k < own.size and own[k] == tokens[i]:
            found[i] = k
    return found


@_compiled
def _explained(
    cells: Array,
    totals: Array,
    floor: Array,
    given: Array,
    given_counts: Array,
    made: Array,
    own_given: Array,
    own_given_counts: Array,
    own_made: Array,
    own_counts: Array,
    prior: Any,
) -> Any:
    """Return the mean probability of each made token, without the counts of the pair itself: float32 [made]."""
    found = np.zeros(made.size, dtype=np.float32)
    weights = _weights(cells, floor, own_given, own_given_counts, own_made, own_counts)
    sums = _own_totals(cells, own_given, own_given_counts, own_made, weights)
    given_places, made_places = _places(given, own_given), _places(made, own_made)
    for i in range(given.size):
        total, own_count = totals[given[i]], np.float32(0)
        left = total + prior
        if given_places[i] >= 0:
            own_count = own_given_counts[given_places[i]]
            left = max(total - sums[given_places[i]], np.float32(0)) + prior
        for j in range(made.size):
            rest = total
            if made_places[j] >= 0:
                rest -= own_count * weights[made_places[j]]
            if rest > 0:
                found[j] += given_counts[i] * cells[given[i], made[j]] * rest / left
    return found / given_counts.sum()


@_compiled
def explained_probabilities(
    cells: Array,
    totals: Array,
    floor: Array,
    given_offsets: Array,
    given: Array,
    given_counts: Array,
    made_offsets: Array,
    made: Array,
    own_given_offsets: Array,
    own_given: Array,
    own_given_counts: Array,
    own_made_offsets: Array,
    own_made: Array,
    own_made_counts: Array,
    prior: Any,
    found: Array,
) -> None:
    """Fill `found` with the mean probability of each made token; see `translation_steps.explained_probabilities`."""
    for pair in range(given_offsets.size - 1):
        first, end = given_offsets[pair], given_offsets[pair + 1]
        start, until = made_offsets[pair], made_offsets[pair + 1]
        own_first, own_end = own_given_offsets[pair], own_given_offsets[pair + 1]
        own_start, own_until = own_made_offsets[pair], own_made_offsets[pair + 1]
        if first < end and start < until:
            found[start:until] = _explained(
                cells,
                totals,
                floor,
                given[first:end],
                given_counts[first:end],
                made[start:until],
                own_given[own_first:own_end],
                own_given_counts[own_first:own_end],
                own_made[own_start:own_until],
                own_made_counts[own_start:own_until],
                prior,
            )
