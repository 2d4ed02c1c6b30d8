"""Beam search for translations by a trained model; greedy search is a beam of 1.

The search calls a function that returns scores of the next token, and needs nothing else of the model.

Shapes: N sentences, H hypotheses in one call, K beam, t positions so far, V target vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtx.errors import ConfigError

# (tokens int64 [H, t], sentences int64 [H]) -> scores of the next token, float [H, V]. `tokens` begin with BOS;
# `sentences` is the index of the source sentence of each row.
NextScores = Callable[[Tensor, Tensor], Tensor]
# int64 [H]: for each row of the next call, the row of the last call that it continues
Reorder = Callable[[Tensor], None]


@dataclass(frozen=True)
class Hypothesis:
    """A translation that the search has found.

    Attributes:
        ids: token ids, without BOS and EOS.
        score: log-probability in nats, divided by (number of tokens, EOS included) to the power of the length penalty.
    """

    ids: list[int]
    score: float


@torch.inference_mode()
def n_best_search(
    next_scores: NextScores,
    *,
    max_tokens: Tensor,
    bos_id: int,
    eos_id: int,
    beam: int = 1,
    n_best: int = 1,
    length_penalty: float = 1.0,
    never: Sequence[int] = (),
    reorder: Reorder | None = None,
    first: Tensor | None = None,
    starts: Tensor | None = None,
) -> list[list[Hypothesis]]:
    """Return the best translations found for each sentence, the best first.

    The score of a hypothesis is its log-probability divided by (number of tokens, EOS included) to the power of
    `length_penalty`.
    The search for a sentence ends when `beam` hypotheses have reached EOS and no unfinished hypothesis has a better
    score so far. The search also ends at the sentence's maximum, where unfinished hypotheses compete without EOS.
    The search is deterministic, and the result for a sentence does not depend on the other sentences.

    Args:
        next_scores: function that returns logits or log-probabilities of the next token; called without gradients.
            The rows of a call are grouped by sentence, `beam` rows for each.
        max_tokens: int64 [N], at least 1: the maximal number of tokens of each translation, without EOS.
        bos_id: first token of each hypothesis.
        eos_id: token that ends a hypothesis.
        beam: number of hypotheses kept per sentence; 1 takes the likeliest token each time.
        n_best: the largest number of translations to return for a sentence, at most `beam`.
        length_penalty: 0 prefers short translations, 1 compares the mean log-probability per token, larger values
            prefer long translations.
        never: ids that are never chosen, such as the ids of padding and BOS.
        reorder: called before each call of `next_scores` but the first, so that a cache can follow the hypotheses.
        first: int64 [N], the first token of each translation, which has probability 1, such as the token of a language;
            None: the search chooses it.
        starts: int64 [N], the token of each sentence that replaces `bos_id`, such as the token of a language; None:
            `bos_id`.

    Raises:
        ConfigError: `beam` is below 1, or `n_best` is below 1 or above `beam`.
    """
    if beam < 1:
        raise ConfigError(f"task.beam must be at least 1, but is {beam}. Set task.beam=1 for greedy search")
    if not 1 <= n_best <= beam:
        raise ConfigError(
            f"task.n_best must be between 1 and task.beam={beam}, but is {n_best}. Set task.beam={max(n_best, 1)}"
        )
    device = max_tokens.device
    best = _BestHypotheses(len(max_tokens), n_best, length_penalty, device)
    num_ended = torch.zeros(len(max_tokens), dtype=torch.long, device=device)
    going = torch.arange(len(max_tokens), device=device)  # indices of the unfinished sentences
    begins = torch.full((len(going),), bos_id, device=device) if starts is None else starts
    tokens = begins[:, None, None].expand(-1, beam, 1)
    totals = torch.full((len(going), beam), -torch.inf, device=device)
    totals[:, 0] = 0  # each sentence starts with one hypothesis; the others have probability 0
    while len(going):
        length = tokens.shape[2]  # tokens of a hypothesis that ends at this step, EOS included
        logits = next_scores(tokens.flatten(0, 1), going.repeat_interleave(beam)).float()
        if first is not None and length == 1:
            logits = _only(logits, first[going].repeat_interleave(beam))
        # 2 * beam candidates: at most beam of them end with EOS, so at least beam unfinished candidates remain
        scores, places, ids = _candidates(logits, totals, 2 * beam, never)
        prefixes = _picked_tokens(tokens, places)

        is_eos = (ids == eos_id) & scores.isfinite()
        ends = is_eos & (torch.arange(scores.shape[1], device=device) < beam)  # only among the best
        best.add(going, ends, scores, prefixes, length)
        num_ended[going] += ends.sum(1)

        # keep the best candidates that do not end with EOS
        order = is_eos.long().sort(dim=1, stable=True).indices[:, :beam]
        totals = scores.masked_fill(is_eos, -torch.inf).gather(1, order)
        tokens = torch.cat([_picked_tokens(prefixes, order), ids.gather(1, order)[:, :, None]], dim=2)

        at_maximum = max_tokens[going] <= length
        best.add(going, at_maximum[:, None] & totals.isfinite(), totals, tokens, length)
        is_done = num_ended[going] >= beam
        if beam > 1:  # no unfinished hypothesis may have a better score so far
            is_done &= best.scores[going] >= totals.amax(1) / length**length_penalty
        left = ~at_maximum & ~is_done & totals.isfinite().any(1)
        if reorder is not None:
            rows = places.gather(1, order) + beam * torch.arange(len(going), device=device)[:, None]
            reorder(rows[left].flatten())
        tokens, totals, going = tokens[left], totals[left], going[left]
    return best.hypotheses


def _only(logits: Tensor, ids: Tensor) -> Tensor:
    """Return logits [H, V] by which each row chooses its own id, int64 [H], with probability 1."""
    return torch.full_like(logits, -torch.inf).scatter_(1, ids[:, None], 0.0)


def _candidates(logits: Tensor, totals: Tensor, number: int, never: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the likeliest continuations of each sentence: log-probabilities, hypotheses and tokens, each [N, n].

    The best of each hypothesis are found first, because sorting is the slow part for a large vocabulary.

    Args:
        logits: scores of the next token, float [N * K, V]; changed in place.
        totals: log-probabilities of the hypotheses, float [N, K].
        number: the number of continuations of a sentence, if the vocabulary has so many.
        never: ids that are never chosen.
    """
    num_sentences, beam = totals.shape
    mass = logits.logsumexp(-1, keepdim=True)
    logits[:, list(never)] = -torch.inf
    top, ids = logits.topk(min(number, logits.shape[1]), dim=1)
    sums = totals[:, :, None] + (top - mass).view(num_sentences, beam, -1)
    scores, places = sums.flatten(1).topk(min(number, sums[0].numel()), dim=1)
    return scores, places // sums.shape[2], ids.view(num_sentences, -1).gather(1, places)


class _BestHypotheses:
    """The best finished hypotheses of each sentence."""

    def __init__(self, num_sentences: int, n_best: int, length_penalty: float, device: torch.device) -> None:
        self.hypotheses: list[list[Hypothesis]] = [[] for _ in range(num_sentences)]
        self.scores = torch.full((num_sentences,), -torch.inf, device=device)  # of the best of each sentence
        self._n_best = n_best
        self._length_penalty = length_penalty

    def add(self, sentences: Tensor, which: Tensor, totals: Tensor, tokens: Tensor, length: int) -> None:
        """Add the hypotheses that are marked in `which` (bool [N, H]), and keep the best of each sentence.

        `totals` are log-probabilities, float [N, H], and `tokens` the hypotheses, int64 [N, H, t].
        """
        rows, places = which.nonzero(as_tuple=True)
        if not len(rows):
            return
        found = tokens[rows, places, 1:].tolist()
        scores = (totals[rows, places].double() / length**self._length_penalty).tolist()
        for sentence, ids, score in zip(sentences[rows].tolist(), found, scores, strict=True):
            kept = sorted([*self.hypotheses[sentence], Hypothesis(ids, score)], key=lambda each: -each.score)
            self.hypotheses[sentence] = kept[: self._n_best]
            self.scores[sentence] = kept[0].score


def _picked_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the hypotheses with the indices `places` (int64 [N, H]) for each sentence, from tokens int64 [N, K, t]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
