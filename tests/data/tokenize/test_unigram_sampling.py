"""Unigram sampling: every segmentation by its probability, the library's best among them, one result in two ways."""

import json
import math
import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from mtx.data.tokenize.counter_rng import ONE, rng_key
from mtx.data.tokenize.subword_sampling import compiled_sampling_kernels
from mtx.data.tokenize.tokenization import Tokenization, encode_texts, prepare_tokenizer
from mtx.data.tokenize.unigram import UnigramTokenization, unigram_tokenizer
from mtx.data.tokenize.unigram_sampling import UNKNOWN_PENALTY, Lattice, LatticeSampler, lattice_of
from mtx.data.tokenize.word_index import WordIndex
from mtx.errors import ConfigError, TokenizerError

AsWords = Callable[[Tokenizer, list[str]], WordIndex]
BOTH_WAYS = pytest.mark.parametrize("compiled", [None, False], ids=["compiled", "numpy"])
FIRST_PIECE, FIRST_BYTE = 260, 4


def small() -> Tokenizer:
    """Knows " " at 1/2, "a" at 1/4, "b" at 1/8, "ab" at 1/16, " ab" at 1/64, with these ids from 260 on."""
    pieces = [(" ", 1 / 2), ("a", 1 / 4), ("b", 1 / 8), ("ab", 1 / 16), (" ab", 1 / 64)]
    return prepare_tokenizer(unigram_tokenizer([(piece, math.log(chance)) for piece, chance in pieces], None))


def rows_of(sampler: LatticeSampler, num_rows: int, key: int = 0) -> list[list[int]]:
    ids, lengths = sampler.sample(0, num_rows, key)
    return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]


def ways(lattice: Lattice, word: int) -> dict[tuple[int, ...], float]:
    """All segmentations of a word and the chance that each is drawn, by following the shares back from its end."""
    found: dict[tuple[int, ...], float] = {}

    def follow(node: int, ids: tuple[int, ...], chance: float) -> None:
        if node == lattice.nodes[word]:
            found[ids] = chance
            return
        before = node * ONE
        for edge in range(lattice.edge_offsets[node], lattice.edge_offsets[node + 1]):
            until = int(lattice.edge_until[edge])
            follow(int(lattice.edge_start[edge]), (int(lattice.edge_id[edge]), *ids), chance * (until - before) / ONE)
            before = until

    follow(int(lattice.nodes[word + 1]) - 1, (), 1.0)
    return found


def best(lattice: Lattice, word: int, scores: list[float]) -> list[int]:
    """The most probable segmentation, found as the library finds it: of equal ones, the edge that starts first."""
    unknown = min(scores) - UNKNOWN_PENALTY
    reached: dict[int, tuple[float, list[int]]] = {int(lattice.nodes[word]): (0.0, [])}
    for node in range(int(lattice.nodes[word]) + 1, int(lattice.nodes[word + 1])):
        for edge in range(lattice.edge_offsets[node], lattice.edge_offsets[node + 1]):
            start, id = int(lattice.edge_start[edge]), int(lattice.edge_id[edge])
            score = scores[id]
            if FIRST_BYTE <= id < FIRST_PIECE:  # the first byte of a character stands for it all
                score = 0.0 if 0x80 <= id - FIRST_BYTE < 0xC0 else unknown
            total = reached[start][0] + score
            if node not in reached or total > reached[node][0]:
                reached[node] = total, [*reached[start][1], id]
    return reached[int(lattice.nodes[word + 1]) - 1][1]


@BOTH_WAYS
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_the_best_way_through_the_lattice_is_the_librarys(
    trained: dict[str, Tokenization], as_words: AsWords, nasty: list[str], compiled: bool | None, texts: list[str]
) -> None:
    tokenizer, texts = trained["unigram"].tokenizer, [*texts, *nasty]
    words = as_words(tokenizer, texts)
    scores = [score for _, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
    lattice = lattice_of(tokenizer, words.distinct, 0.3, compiled_sampling_kernels() if compiled is None else None)
    of_word = [best(lattice, word, scores) for word in range(len(words.distinct))]
    found = [
        [id for word in words.numbers[start:end] for id in of_word[word]]
        for start, end in zip(words.offsets[:-1], words.offsets[1:], strict=True)
    ]
    assert found == encode_texts(tokenizer, texts)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, 3])
def test_chances_are_probabilities_to_the_power_of_alpha(as_words: AsWords, alpha: float) -> None:
    """ " ab" is one piece at 1/64, " " and "ab" at 1/2 × 1/16, or " ", "a", "b" at 1/2 × 1/4 × 1/8."""
    words = as_words(small(), ["ab"])
    lattice = lattice_of(small(), words.distinct, alpha, None)
    weights = {(264,): (1 / 64) ** alpha, (260, 263): (1 / 32) ** alpha, (260, 261, 262): (1 / 64) ** alpha}
    total = sum(weights.values())
    found = ways(lattice, 0)
    assert found.keys() == weights.keys()
    for ids, weight in weights.items():
        assert found[ids] == pytest.approx(weight / total, abs=1e-8)


@BOTH_WAYS
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_segmentations_are_drawn_as_often_as_their_chances_say(
    as_words: AsWords, compiled: bool | None, alpha: float
) -> None:
    count = 20_000
    words = as_words(small(), ["abab"] * count)
    sampler = LatticeSampler(small(), words, alpha=alpha, compiled=compiled)
    found = Counter(map(tuple, rows_of(sampler, count, rng_key(0, 0, 1))))
    expected = ways(sampler.lattice, 0)
    assert len(expected) == 6
    for ids, chance in expected.items():
        assert found[ids] / count == pytest.approx(chance, abs=4 * (chance * (1 - chance) / count) ** 0.5), ids


def test_a_character_that_is_no_piece_is_one_way_of_bytes(as_words: AsWords) -> None:
    """ü is C3 BC in UTF-8; at the score of b less 10 it is as improbable in each segmentation."""
    words = as_words(small(), ["aü"])
    byte_ids = (FIRST_BYTE + 0xC3, FIRST_BYTE + 0xBC)
    assert ways(lattice_of(small(), words.distinct, 1.0, None), 0) == {(260, 261, *byte_ids): 1.0}


def test_no_word_is_too_long_and_no_alpha_too_large_for_the_sums(as_words: AsWords) -> None:
    texts = ["ab" * 31, "ü" * 60]
    for alpha in (0.0, 0.1, 30.0, 1000.0):
        compiled = LatticeSampler(small(), as_words(small(), texts), alpha=alpha)
        plain = LatticeSampler(small(), as_words(small(), texts), alpha=alpha, compiled=False)
        assert compiled.lattice.edge_until.tolist() == plain.lattice.edge_until.tolist()
        assert small().decode_batch(rows_of(plain, 2)) == texts
    assert rows_of(plain, 1) == [[260] + [263] * 31]  # 1/2 × 1/16 and so on, twice as probable as any other way


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text("kalominu äß。神は縞👩", max_size=40), min_size=1, max_size=6),
    alpha=st.sampled_from([0.0, 0.1, 0.5, 2.0, 1000.0]),
    key=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_compiled_or_not_in_parts_or_whole_the_ids_are_the_same_and_decode_to_the_text(
    trained: dict[str, Tokenization], as_words: AsWords, texts: list[str], alpha: float, key: int, data: st.DataObject
) -> None:
    tokenizer = trained["unigram"].tokenizer
    words = as_words(tokenizer, texts)
    plain, compiled = (LatticeSampler(tokenizer, words, alpha=alpha, compiled=how) for how in (False, None))
    ids, lengths = plain.sample(0, len(texts), key)
    assert ids.dtype == np.uint16
    assert tokenizer.decode_batch([row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]) == texts
    cut = data.draw(st.integers(0, len(texts)))
    for sampler in (compiled, plain):
        parts = [sampler.sample(0, cut, key), sampler.sample(cut, len(texts), key)]
        assert np.concatenate([part for part, _ in parts]).tolist() == ids.tolist()
        assert np.concatenate([part for _, part in parts]).tolist() == lengths.tolist()


def test_any_text_comes_back(trained: dict[str, Tokenization], as_words: AsWords, nasty: list[str]) -> None:
    tokenizer = trained["unigram"].tokenizer
    sampler = LatticeSampler(tokenizer, as_words(tokenizer, nasty), alpha=0.1)
    made = [rows_of(sampler, len(nasty), key) for key in range(5)]
    assert all(tokenizer.decode_batch(rows) == nasty for rows in made)


@BOTH_WAYS
def test_no_text_gives_no_id(as_words: AsWords, compiled: bool | None) -> None:
    sampler = LatticeSampler(small(), as_words(small(), []), alpha=1.0, compiled=compiled)
    assert [part.tolist() for part in sampler.sample(0, 0, 0)] == [[], []]


def test_a_sampler_pickles(as_words: AsWords) -> None:
    for compiled in (None, False):
        sampler = LatticeSampler(small(), as_words(small(), ["abab ab"] * 9), alpha=0.5, compiled=compiled)
        assert rows_of(pickle.loads(pickle.dumps(sampler)), 9) == rows_of(sampler, 9)


def test_a_vocabulary_without_bytes_is_refused(as_words: AsWords) -> None:
    odd = json.loads(small().to_str())
    odd["model"]["byte_fallback"] = False
    tokenizer = Tokenizer.from_str(json.dumps(odd))
    with pytest.raises(TokenizerError, match=r"tokenizer\.alpha needs .* byte_fallback .* set tokenizer\.alpha=null"):
        LatticeSampler(tokenizer, as_words(tokenizer, ["ab"]), alpha=1.0)


@pytest.mark.parametrize("alpha", [-0.1, 1001, True, "low"])
def test_an_alpha_out_of_range_is_refused(alpha: float) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.alpha is a number from 0 to 1000, or null, but is "):
        UnigramTokenization(alpha=alpha)


def test_alpha_is_no_part_of_the_vocabulary() -> None:
    without, some = UnigramTokenization(), UnigramTokenization(alpha=0)
    assert without.identity() == some.identity()
    assert (without.is_sampled, some.is_sampled) == (False, True)
    assert (without.sampling(), some.sampling()) == ({"alpha": None}, {"alpha": 0})
