"""Beam search on a model of two words, whose best translations are found by hand."""

from typing import Any

import pytest
import torch
from torch import Tensor

from mtx.errors import ConfigError
from mtx.evaluation.beam_search import NextScores, n_best_search

PAD, BOS, EOS, A, B = range(5)
NEVER = [PAD, BOS]


class Scripted:
    """Probabilities of (EOS, A, B) after each prefix of a sentence; what is not written ends."""

    def __init__(self, *sentences: dict[tuple[int, ...], tuple[float, float, float]]) -> None:
        self.sentences = sentences
        self.asked = 0

    def __call__(self, tokens: Tensor, sentences: Tensor) -> Tensor:
        self.asked += 1
        assert (tokens[:, 0] == BOS).all()
        scores = torch.full((len(tokens), 5), -torch.inf)
        for row, (prefix, sentence) in enumerate(zip(tokens[:, 1:].tolist(), sentences.tolist(), strict=True)):
            p = self.sentences[sentence].get(tuple(prefix), (1.0, 0.0, 0.0))
            scores[row, EOS:] = torch.tensor(p).log()
        return scores


# A looks best, but what follows it is unlikely: A A 0.6 × 0.5 × 1 = 0.30, and B at once 0.4 × 0.9 = 0.36.
TRAP = {(): (0.0, 0.6, 0.4), (A,): (0.1, 0.5, 0.4), (B,): (0.9, 0.05, 0.05)}
PLAIN = {(): (0.05, 0.05, 0.9), (B,): (0.1, 0.8, 0.1), (B, A): (0.9, 0.05, 0.05)}
ENDLESS = dict.fromkeys([(), *[(A,) * n for n in range(1, 60)]], (0.0, 1.0, 0.0))
SHORT = {(): (0.4, 0.6, 0.0), (A,): (0.0, 0.6, 0.4), (A, A): (0.9, 0.1, 0.0)}


def beam_search(next_scores: NextScores, **options: Any) -> list[list[int]]:
    """The ids of the best translation of each sentence."""
    return [hypotheses[0].ids if hypotheses else [] for hypotheses in n_best_search(next_scores, **options)]


def search(
    *sentences: dict[tuple[int, ...], tuple[float, float, float]], at_most: int = 9, **options
) -> list[list[int]]:  # type: ignore[no-untyped-def]
    limits = torch.full((len(sentences),), at_most)
    return beam_search(Scripted(*sentences), max_tokens=limits, bos_id=BOS, eos_id=EOS, never=NEVER, **options)


def test_greedy_takes_the_likeliest_token_each_time() -> None:
    assert search(TRAP) == [[A, A]]
    assert search(PLAIN) == [[B, A]]


@pytest.mark.parametrize("beam", [2, 3, 4])
def test_a_beam_finds_what_greedy_misses(beam: int) -> None:
    assert search(TRAP, beam=beam, length_penalty=0.0) == [[B]]


def test_the_length_penalty_decides_between_short_and_long() -> None:
    # nothing 0.4; A A 0.6 × 0.6 × 0.9 = 0.324, by token 0.324 ** (1 / 3) = 0.687
    assert search(SHORT, beam=2, length_penalty=0.0) == [[]]
    assert search(SHORT, beam=2, length_penalty=1.0) == [[A, A]]


def test_sentences_of_a_batch_do_not_change_each_other() -> None:
    together = search(TRAP, PLAIN, ENDLESS, SHORT, beam=2)
    assert together == [search(sentence, beam=2)[0] for sentence in (TRAP, PLAIN, ENDLESS, SHORT)]
    assert together == search(TRAP, PLAIN, ENDLESS, SHORT, beam=2)


@pytest.mark.parametrize("beam", [1, 2, 5])
def test_what_never_ends_is_cut_at_its_maximum(beam: int) -> None:
    model = Scripted(ENDLESS, PLAIN, ENDLESS)
    limits = torch.tensor([7, 9, 1])
    found = beam_search(model, max_tokens=limits, bos_id=BOS, eos_id=EOS, beam=beam, never=NEVER)
    assert found == [[A] * 7, [B, A], [A]]
    assert model.asked == 7


def test_a_search_stops_when_all_sentences_are_done() -> None:
    model = Scripted(PLAIN, TRAP)
    beam_search(model, max_tokens=torch.tensor([50, 50]), bos_id=BOS, eos_id=EOS, never=NEVER)
    assert model.asked == 3


def test_padding_and_bos_are_never_chosen() -> None:
    def scores(tokens: Tensor, sentences: Tensor) -> Tensor:
        return torch.tensor([[9.0, 8.0, 1.0, 2.0, 0.0]]).repeat(len(tokens), 1)

    for beam in (1, 3):
        (found,) = beam_search(scores, max_tokens=torch.tensor([4]), bos_id=BOS, eos_id=EOS, beam=beam, never=NEVER)
        assert set(found) <= {A, B}


def test_no_sentences_are_no_error() -> None:
    assert search() == []


def test_a_beam_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task.beam must be at least 1, but is 0. Set task.beam=1 for greedy search"):
        search(TRAP, beam=0)


def test_a_beam_does_not_stop_at_poor_endings_while_a_better_hypothesis_goes_on() -> None:
    # nothing 0.05 and B 0.9 × 0.1 end first; B A 0.9 × 0.8 × 0.9 = 0.648 is the best by any penalty
    assert search(PLAIN, beam=2, length_penalty=0.0) == search(PLAIN, beam=2) == [[B, A]]
