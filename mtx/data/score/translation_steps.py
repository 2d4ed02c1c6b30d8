"""Steps of IBM Model 1 (Brown et al. 1993) in one direction, in numpy, as `translation_kernels.py` compiles them.

The model explains each token that is *made* in one language by the tokens that are *given* in the other. G and M are
the sizes of the two vocabularies. A share of the probability, `floor`, is left to a unigram model, which takes the part
of the null word. It explains tokens that no given token explains.
"""

from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mtx.data.compiled_kernels import numba_kernels
from mtx.data.score.subword_bags import Bags

Floats32 = NDArray[np.float32]
SLOW_PATH_NOTE = "the scorer alignment takes many times as long"


class Steps(NamedTuple):
    """The steps of the model, compiled or in numpy; see the functions of this module with these names."""

    add_expected_counts: Callable[[Floats32, Floats32, Bags, Bags], None]
    normalise: Callable[[Floats32, Floats32], None]
    explained_probabilities: Callable[..., Floats32]


def add_expected_counts(cells: Floats32, floor: Floats32, given: Bags, made: Bags) -> None:
    """Add the expected counts of pairs to the table (the E step).

    Args:
        cells: float32 [G, M, 2], the probability of each made token by given token, and its expected count.
        floor: float32 [M], the part of the probability of each made token that no given token explains.
        given: the given tokens of n pairs.
        made: the made tokens of the same pairs.
    """
    for pair in range(len(given)):
        tokens, counts = _bag(given, pair)
        made_tokens, made_counts = _bag(made, pair)
        place = np.ix_(tokens, made_tokens)
        shares = counts[:, None] * cells[..., 0][place]
        cells[..., 1][place] += shares * (made_counts / (counts.sum() * floor[made_tokens] + shares.sum(axis=0)))


def normalise(cells: Floats32, totals: Floats32) -> None:
    """Replace the probabilities by the relative expected counts (the M step), and the counts by 0.

    Args:
        cells: float32 [G, M, 2], as in `add_expected_counts`.
        totals: float32 [G], is filled with the expected count of each given token.
    """
    for token in range(len(totals)):
        total = cells[token, :, 1].sum(dtype=np.float64)
        totals[token] = total
        cells[token, :, 0] = cells[token, :, 1] * np.float32(1 / total if total > 0 else 0)
        cells[token, :, 1] = 0


def explained_probabilities(
    cells: Floats32,
    totals: Floats32,
    floor: Floats32,
    pairs: tuple[Bags, Bags],
    own: tuple[Bags, Bags],
    prior: float,
) -> Floats32:
    """Return the mean probability of each made token over the given tokens of its pair: float32 [entries of made].

    Args:
        cells: float32 [G, M], the probabilities.
        totals: float32 [G], the expected count of each given token in the sample.
        floor: float32 [M], as in training.
        pairs: the given and the made tokens of n pairs.
        own: for each pair, the given and the made tokens of the pair of the sample whose expected counts are taken off;
            empty for a pair that was not in the sample.
        prior: is added to each total, so that a rare given token explains less.
    """
    found = np.zeros(len(pairs[1].tokens), dtype=np.float32)
    for pair in range(len(pairs[0])):
        tokens, counts = _bag(pairs[0], pair)
        made, _ = _bag(pairs[1], pair)
        if not len(tokens) or not len(made):
            continue
        taken = np.zeros((len(tokens), len(made)), dtype=np.float32)
        left = totals[tokens].copy()
        own_tokens, own_counts = _bag(own[0], pair)
        own_made, own_made_counts = _bag(own[1], pair)
        if len(own_tokens) and len(own_made):
            shares = own_counts[:, None] * cells[np.ix_(own_tokens, own_made)]
            weights = own_made_counts / (own_counts.sum() * floor[own_made] + shares.sum(axis=0))
            _, here, there = np.intersect1d(tokens, own_tokens, return_indices=True)
            left[here] = np.maximum(left[here] - (shares * weights).sum(axis=1)[there], 0)
            _, made_here, made_there = np.intersect1d(made, own_made, return_indices=True)
            taken[np.ix_(here, made_here)] = own_counts[there][:, None] * weights[made_there]
        rest = np.maximum(totals[tokens][:, None] - taken, 0)
        chances = cells[np.ix_(tokens, made)] * rest / (left + np.float32(prior))[:, None]
        start, end = pairs[1].offsets[pair : pair + 2]
        found[start:end] = counts @ chances / counts.sum()
    return found


def _bag(bags: Bags, pair: int) -> tuple[NDArray[np.uint16], Floats32]:
    start, end = bags.offsets[pair : pair + 2]
    return bags.tokens[start:end], bags.counts[start:end]


NUMPY_STEPS = Steps(add_expected_counts, normalise, explained_probabilities)


@cache
def available_steps() -> Steps:
    """Return the compiled steps if numba is installed, else those in numpy, which take many times as long."""
    kernels = numba_kernels("mtx.data.score.translation_kernels", SLOW_PATH_NOTE, tell_missing=True)
    return NUMPY_STEPS if kernels is None else compiled_steps(kernels)


def compiled_steps(kernels: ModuleType) -> Steps:
    """Return the steps of the module `translation_kernels`."""

    def explained(
        cells: Floats32,
        totals: Floats32,
        floor: Floats32,
        pairs: tuple[Bags, Bags],
        own: tuple[Bags, Bags],
        prior: float,
    ) -> Floats32:
        found = np.zeros(len(pairs[1].tokens), dtype=np.float32)
        (given, made), arrays = pairs, [*_arrays(own[0]), *_arrays(own[1])]
        kernels.explained_probabilities(
            *(cells, totals, floor, *_arrays(given), made.offsets, made.tokens, *arrays, np.float32(prior), found)
        )
        return found

    def add(cells: Floats32, floor: Floats32, given: Bags, made: Bags) -> None:
        kernels.add_expected_counts(cells, floor, *_arrays(given), *_arrays(made))

    return Steps(add, kernels.normalise, explained)


def _arrays(bags: Bags) -> tuple[Any, Any, Any]:
    return bags.offsets, bags.tokens, bags.counts
