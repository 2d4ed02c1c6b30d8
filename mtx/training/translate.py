"""Translations by a trained model: beam search, and greedy search, which is a beam of one.

The search asks for scores of next tokens and knows nothing else of the model.

N sentences, H hypotheses at hand, K beam, t positions so far, V target vocabulary.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mtx.errors import ConfigError

# (tokens int64 [H, t], sentences int64 [H]) -> scores of the next token, float [H, V]. `tokens` begin with BOS;
# `sentences` say which source each row is for.
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
    """Return the best translation found of each sentence, without BOS and EOS.

    Hypotheses are compared by log-probability over (tokens, EOS included) to the power of `length_penalty`. A sentence
    is done once `beam` hypotheses have come to EOS and none that goes on scores better so far, or at its maximum, where
    those without EOS count as they are. The same scores give the same translations; sentences do not change each
    other's. All positions are computed anew at each step: no cache to keep right, and sentences are short.

    Args:
        next_scores: logits or log-probabilities of the next token; called without gradients.
        max_tokens: int64 [N], at least 1: the tokens that a translation may have, EOS not counted.
        bos_id: opens each hypothesis.
        eos_id: ends it.
        beam: hypotheses that are kept of each sentence; 1 takes the likeliest token each time.
        length_penalty: 0 favours short translations, 1 is the mean by token, more favours long ones.
        never: ids that are never chosen, such as those of padding and BOS.

    Raises:
        ConfigError: `beam` is below 1.
    """
    if beam < 1:
        raise ConfigError(f"task.beam is at least 1, which is greedy search, but is {beam}")
    device = max_tokens.device
    best = _Best(len(max_tokens), length_penalty, device)
    num_ended = torch.zeros(len(max_tokens), dtype=torch.long, device=device)
    going = torch.arange(len(max_tokens), device=device)  # the sentences that are not done
    tokens = torch.full((len(going), beam, 1), bos_id, device=device)
    totals = torch.full((len(going), beam), -torch.inf, device=device)
    totals[:, 0] = 0  # all hypotheses of a sentence begin as one
    while len(going):
        length = tokens.shape[2]  # of what ends now, EOS counted
        log_p = next_scores(tokens.flatten(0, 1), going.repeat_interleave(beam)).float().log_softmax(-1)
        log_p[:, list(never)] = -torch.inf
        sums = totals[:, :, None] + log_p.view(len(going), beam, -1)
        vocabulary = sums.shape[2]
        # twice as many as are kept, so that enough are left when some end
        scores, places = sums.flatten(1).topk(min(2 * beam, beam * vocabulary), dim=1)
        ids = places % vocabulary
        prefixes = _rows(tokens, places // vocabulary)

        is_eos = (ids == eos_id) & scores.isfinite()
        ends = is_eos & (torch.arange(scores.shape[1], device=device) < beam)  # the others are worse than what goes on
        best.add(going, ends, scores, prefixes, length)
        num_ended[going] += ends.sum(1)

        # the best without EOS go on
        order = is_eos.long().sort(dim=1, stable=True).indices[:, :beam]
        totals = scores.masked_fill(is_eos, -torch.inf).gather(1, order)
        tokens = torch.cat([_rows(prefixes, order), ids.gather(1, order)[:, :, None]], dim=2)

        at_maximum = max_tokens[going] <= length
        best.add(going, at_maximum[:, None] & totals.isfinite(), totals, tokens, length)
        is_done = num_ended[going] >= beam
        if beam > 1:  # and nothing that goes on looks better
            is_done &= best.scores[going] >= totals.amax(1) / length**length_penalty
        left = ~at_maximum & ~is_done & totals.isfinite().any(1)
        tokens, totals, going = tokens[left], totals[left], going[left]
    return best.ids


class _Best:
    """The best hypothesis of each sentence among those that ended."""

    def __init__(self, num_sentences: int, length_penalty: float, device: torch.device) -> None:
        self.ids: list[list[int]] = [[] for _ in range(num_sentences)]
        self.scores = torch.full((num_sentences,), -torch.inf, device=device)
        self._length_penalty = length_penalty

    def add(self, sentences: Tensor, which: Tensor, totals: Tensor, tokens: Tensor, length: int) -> None:
        """Compare those of the hypotheses `tokens` (int64 [N, H, t]) that `which` (bool [N, H]) picks."""
        for row, place in which.nonzero().tolist():
            sentence, score = int(sentences[row]), float(totals[row, place]) / length**self._length_penalty
            if score > self.scores[sentence]:
                self.scores[sentence], self.ids[sentence] = score, tokens[row, place, 1:].tolist()


def _rows(tokens: Tensor, places: Tensor) -> Tensor:
    """Pick hypotheses `places` (int64 [N, H]) of each sentence from tokens [N, K, t]."""
    return tokens.gather(1, places[:, :, None].expand(-1, -1, tokens.shape[2]))
