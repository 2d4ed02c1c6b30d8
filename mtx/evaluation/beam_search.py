"""Beam search for translations by a trained model; greedy search is a beam of 1.

The search calls a function that returns scores of the next token, and needs nothing else of the model.

Shapes: N sentences, H hypotheses in one call, K beam, t positions so far, V target vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtx.errors import ConfigError

# (tokens int64 [H, t], sentences int64 [H]) -> scores of the next token, float [H, V]. `tokens` begin with BOS;
# `sentences` is the index of the source sentence of each row.
NextScores = Callable[[Tensor, Tensor], Tensor]


@torch.inference_mode()
def beam_search(
    next_scores: NextScores,
    *,
    max_tokens: Tensor,
    bos_id: int,
    eos_id: int,
    beam: int = 1,
    length_penalty: float = 1.0,
    never: Sequence[int] = (),
) -> list[list[int]]:
    """Return the best translation found for each sentence, without BOS and EOS.

    The score of a hypothesis is its log-probability divided by (number of tokens, EOS included) to the power of
    `length_penalty`.
    The search for a sentence ends when `beam` hypotheses have reached EOS and no unfinished hypothesis has a better
    score so far. The search also ends at the sentence's maximum, where unfinished hypotheses compete without EOS.
    The search is deterministic, and the result for a sentence does not depend on the other sentences. The decoder
    recomputes all positions at each step, without a cache, because sentences are short.

    Args:
        next_scores: function that returns logits or log-probabilities of the next token; called without gradients.
        max_tokens: int64 [N], at least 1: the maximal number of tokens of each translation, without EOS.
        bos_id: first token of each hypothesis.
        eos_id: token that ends a hypothesis.
        beam: number of hypotheses kept per sentence; 1 takes the likeliest token each time.
        length_penalty: 0 prefers short translations, 1 compares the mean log-probability per token, larger values
            prefer long translations.
        never: ids that are never chosen, such as the ids of padding and BOS.

    Raises:
        ConfigError: `beam` is below 1.
    """
    if beam < 1:
        raise ConfigError(f"task.beam must be at least 1, but is {beam}. Set task.beam=1 for greedy search")
    device = max_tokens.device
    best = _BestHypotheses(len(max_tokens), length_penalty, device)
    num_ended = torch.zeros(len(max_tokens), dtype=torch.long, device=device)
    going = torch.arange(len(max_tokens), device=device)  # indices of the unfinished sentences
    tokens = torch.full((len(going), beam, 1), bos_id, device=device)
    totals = torch.full((len(going), beam), -torch.inf, device=device)
    totals[:, 0] = 0  # each sentence starts with one hypothesis; the others have probability 0
    while len(going):
        length = tokens.shape[2]  # tokens of a hypothesis that ends at this step, EOS included
        log_p = next_scores(tokens.flatten(0, 1), going.repeat_interleave(beam)).float().log_softmax(-1)
        log_p[:, list(never)] = -torch.inf
        sums = totals[:, :, None] + log_p.view(len(going), beam, -1)
        vocabulary = sums.shape[2]
        # 2 * beam candidates: at most beam of them end with EOS, so at least beam unfinished candidates remain
        scores, places = sums.flatten(1).topk(min(2 * beam, beam * vocabulary), dim=1)
        ids = places % vocabulary
        prefixes = _picked_tokens(tokens, places // vocabulary)

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
        tokens, totals, going = tokens[left], totals[left], going[left]
    return best.ids


class _BestHypotheses:
    """The best finished hypothesis of each sentence."""

    def __init__(self, num_sentences: int, length_penalty: float, device: torch.device) -> None:
        self.ids: list[list[int]] = [[] for _ in range(num_sentences)]
        self.scores = torch.full((num_sentences,), -torch.inf, device=device)
        self._length_penalty = length_penalty

    def add(self, sentences: Tensor, which: Tensor, totals: Tensor, tokens: Tensor, length: int) -> None:
        """Replace the best hypothesis of a sentence by each better one among those marked in `which` (bool [N, H]).

        `totals` are log-probabilities, float [N, H], and `tokens` the hypotheses, int64 [N, H, t].
        """
        for row, place in which.nonzero().tolist():
            sentence, score = int(sentences[row]), float(totals[row, place]) / length**self._length_penalty
            if score > self.scores[sentence]:
                self.scores[sentence], self.ids[sentence] = score, tokens[row, place, 1:].tolist()


def _picked_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the hypotheses with the indices `places` (int64 [N, H]) for each sentence, from tokens int64 [N, K, t]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
