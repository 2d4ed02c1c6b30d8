"""Contrastive accuracy: how often a model prefers the right target of a source over nine others of similar length.

A model that has learned nothing is right in one of ten cases. The measure rises long before translations are readable,
and needs no decoding. It ranks given translations as contrastive test sets do (Sennrich 2017, "How Grammatical is
Character-level Neural Machine Translation?", EACL); the wrong targets are those of other held-out pairs.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # torch takes a second to import, and pages use the interval of this module
    from torch import Tensor

NUM_CANDIDATES = 10  # targets to choose from, the right one included
NUM_NEAREST = 60  # held-out pairs of the nearest lengths from which the wrong targets are drawn
SEED = 2017  # constant, so that all runs on the same held-out pairs get the same candidates
LEVEL = 0.95

Int = NDArray[np.int64]


@runtime_checkable
class TargetScorer(Protocol):
    """A model that tells how likely each target of a batch is. `task=fit` measures contrastive accuracy with it."""

    def target_nats(self, batch: "dict[str, Tensor]") -> "Tensor":
        """Return the negative log-likelihood of each target of a batch, EOS included, in nats, float64 [B]."""


def contrastive_candidates(
    rows: Int, num_bytes: Int, sources: Int, texts: Int, asked: Int, rng: np.random.Generator
) -> Int:
    """Draw the targets between which a model chooses.

    Args:
        rows: The rows of the held-out pairs, distinct, int64 [n].
        num_bytes: The UTF-8 bytes of their targets, int64 [n].
        sources: A number for each source; equal sources have equal numbers, int64 [n].
        texts: A number for each target; equal targets have equal numbers, int64 [n].
        asked: The rows whose targets are judged, int64 [Q].
        rng: Source of the draws.

    Returns:
        The rows of the candidates, the right one first, int64 [Q', 10]. The targets of a line differ from each other,
        and the wrong ones from each target of an equal source. A row without nine other targets among those of the
        nearest lengths is left out.
    """
    order = np.lexsort((rows, num_bytes))
    place = {row: position for position, row in enumerate(rows[order].tolist())}
    found = []
    for row in asked.tolist():
        position = place[row]
        first = max(0, min(position - NUM_NEAREST // 2, len(rows) - NUM_NEAREST - 1))
        near = order[first : first + NUM_NEAREST + 1]
        _, distinct = np.unique(texts[near], return_index=True)
        others = near[np.sort(distinct)]
        own = texts[sources == sources[order[position]]]
        others = others[~np.isin(texts[others], own)]
        if len(others) >= NUM_CANDIDATES - 1:
            found.append([row, *rows[rng.choice(others, NUM_CANDIDATES - 1, replace=False)].tolist()])
    return np.array(found, dtype=np.int64).reshape(-1, NUM_CANDIDATES)


def is_right_first(nats: NDArray[np.float64], num_bytes: Int) -> NDArray[np.bool_]:
    """Return for each source whether its own target has the fewest nats per byte; a tie or NaN counts as wrong.

    Args:
        nats: The nats of each candidate, the right one first, float64 [Q, 10].
        num_bytes: The bytes of each candidate, int64 [Q, 10].
    """
    per_byte = nats / np.maximum(num_bytes, 1)
    right: NDArray[np.bool_] = np.all(per_byte[:, :1] < per_byte[:, 1:], axis=1)
    return right


def wilson_interval(num_right: float, num_asked: int, level: float = LEVEL) -> tuple[float, float]:
    """Return the interval of a share by Wilson (1927), "Probable Inference, the Law of Succession", JASA 22."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = num_right / num_asked, z * z / num_asked
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / num_asked + spread / (4 * num_asked))
    return max(0.0, middle - half), min(1.0, middle + half)


def candidate_nats(
    candidates: Int,
    lengths: tuple[Int, Int],
    nats_of: Callable[[Int, Int], NDArray[np.float64]],
    *,
    max_tokens: int,
) -> NDArray[np.float64]:
    """Return the nats of all candidates, float64 [Q, 10], in batches of pairs of similar lengths.

    Args:
        candidates: The rows of the candidates, the right one first, int64 [Q, 10].
        lengths: The tokens of the source and of the target of each row, int64 [n] each.
        nats_of: Returns the nats of targets for sources, from the rows of both, int64 [B] each.
        max_tokens: The largest number of padded tokens per side of a batch; a longer pair is a batch of its own.
    """
    sources, targets = np.repeat(candidates[:, 0], candidates.shape[1]), candidates.ravel()
    of_source, of_target = lengths[0][sources], lengths[1][targets]
    order = np.lexsort((of_target, of_source))
    found = np.zeros(len(targets))
    start = widest = 0
    for end, longest in enumerate([*np.maximum(of_source, of_target)[order].tolist(), None]):
        if longest is None or (end > start and max(widest, longest) * (end - start + 1) > max_tokens):
            batch = order[start:end]
            if len(batch):
                found[batch] = nats_of(sources[batch], targets[batch])
            start, widest = end, 0
        widest = max(widest, longest or 0)
    return found.reshape(candidates.shape)
