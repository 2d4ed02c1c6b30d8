"""BPE-dropout: the library's ids without dropout, the paper's frequencies with it, and one result in two ways."""

import json
import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE

from mtx.data.tokenize.bpe import BPETokenization, byte_level
from mtx.data.tokenize.bpe_dropout import MergeSampler
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.counter_rng import rng_key
from mtx.data.tokenize.tokenization import Tokenization, encode_texts
from mtx.data.tokenize.word_index import WordIndex
from mtx.errors import ConfigError, TokenizerError

AsWords = Callable[[Tokenizer, list[str]], WordIndex]
BOTH_WAYS = pytest.mark.parametrize("compiled", [None, False], ids=["compiled", "python"])


def small() -> Tokenizer:
    """Knows a, b, c and, in this order, the merges a+b, b+c, a+bc, ab+c."""
    vocab = {token: id for id, token in enumerate(["a", "b", "c", "ab", "bc", "abc"])}
    return byte_level(BPE(vocab, [("a", "b"), ("b", "c"), ("a", "bc"), ("ab", "c")]), use_regex=True)


def rows_of(sampler: MergeSampler, num_rows: int, key: int = 0) -> list[list[int]]:
    ids, lengths = sampler.sample(0, num_rows, key)
    return [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]


@BOTH_WAYS
@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_without_dropout_ids_are_the_librarys(
    trained: dict[str, Tokenization], as_words: AsWords, nasty: list[str], compiled: bool | None, texts: list[str]
) -> None:
    tokenizer, texts = trained["bpe"].tokenizer, [*texts, *nasty]
    sampler = MergeSampler(tokenizer, as_words(tokenizer, texts), dropout=0.0, compiled=compiled)
    assert rows_of(sampler, len(texts)) == encode_texts(tokenizer, texts)


@BOTH_WAYS
def test_with_dropout_of_one_every_token_is_a_byte(
    trained: dict[str, Tokenization], as_words: AsWords, nasty: list[str], compiled: bool | None
) -> None:
    tokenizer = trained["bpe"].tokenizer
    sampler = MergeSampler(tokenizer, as_words(tokenizer, nasty), dropout=1.0, compiled=compiled)
    made = rows_of(sampler, len(nasty))
    assert [len(row) for row in made] == [len(text.encode()) for text in nasty]
    assert tokenizer.decode_batch(made) == nasty


@BOTH_WAYS
@pytest.mark.parametrize("p", [0.1, 0.5])
def test_segmentations_are_as_frequent_as_the_paper_has_it(as_words: AsWords, compiled: bool | None, p: float) -> None:
    """Of a b c: a+b is taken unless dropped, then b+c; what is joined is joined to the third, unless dropped again."""
    count = 20_000 if compiled is None else 4000
    sampler = MergeSampler(small(), as_words(small(), ["abc"] * count), dropout=p, compiled=compiled)
    found = Counter(map(tuple, rows_of(sampler, count, rng_key(0, 0, 1))))
    q = 1 - p
    expected = {(5,): q * q + p * q * q, (3, 2): q * p, (0, 4): p * q * p, (0, 1, 2): p * p}
    assert sum(expected.values()) == pytest.approx(1)
    for ids, chance in expected.items():
        deviation = (chance * (1 - chance) / count) ** 0.5
        assert found[ids] / count == pytest.approx(chance, abs=4 * deviation), ids
    assert set(found) <= set(expected)


def test_a_little_dropout_makes_texts_a_little_longer(trained: dict[str, Tokenization], as_words: AsWords) -> None:
    tokenizer = trained["bpe"].tokenizer
    words = as_words(tokenizer, ["Katulo renba mikasho elun." * 3, "神は光を見た。"] * 200)
    totals = [len(MergeSampler(tokenizer, words, dropout=p).sample(0, 400, 0)[0]) for p in (0, 0.05, 0.1, 0.3, 0.6, 1)]
    assert totals == sorted(totals)
    assert totals[0] < totals[2] < 1.7 * totals[0]
    assert totals[-1] == sum(map(len, ["Katulo renba mikasho elun." * 3, *"神は光を見た。" * 3])) * 200


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text("kalominu äß。神は ", max_size=40), min_size=1, max_size=6),
    p=st.sampled_from([0.0, 0.02, 0.1, 0.5, 0.9, 1.0]),
    key=st.integers(0, 2**64 - 1),
    data=st.data(),
)
def test_compiled_or_not_in_parts_or_whole_the_ids_are_the_same_and_decode_to_the_text(
    trained: dict[str, Tokenization], as_words: AsWords, texts: list[str], p: float, key: int, data: st.DataObject
) -> None:
    tokenizer = trained["bpe"].tokenizer
    words = as_words(tokenizer, texts)
    plain, compiled = (MergeSampler(tokenizer, words, dropout=p, compiled=how) for how in (False, None))
    ids, lengths = plain.sample(0, len(texts), key)
    assert ids.dtype == np.uint16
    assert tokenizer.decode_batch([row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]) == texts
    cut = data.draw(st.integers(0, len(texts)))
    for sampler in (compiled, plain):
        parts = [sampler.sample(0, cut, key), sampler.sample(cut, len(texts), key)]
        assert np.concatenate([part for part, _ in parts]).tolist() == ids.tolist()
        assert np.concatenate([part for _, part in parts]).tolist() == lengths.tolist()


def test_rows_words_and_keys_are_drawn_apart(trained: dict[str, Tokenization], as_words: AsWords) -> None:
    tokenizer = trained["bpe"].tokenizer
    sampler = MergeSampler(tokenizer, as_words(tokenizer, [" katulo" * 8] * 20), dropout=0.5)
    rows = rows_of(sampler, 20)
    assert len(set(map(tuple, rows))) == 20
    assert max(Counter(tokenizer.id_to_token(row[-1]) for row in rows).values()) < 20
    words = [tuple(word.split("|")) for row in rows for word in "|".join(map(tokenizer.id_to_token, row)).split("|Ġ")]
    assert len(set(words)) > 10
    assert rows_of(sampler, 20) == rows != rows_of(sampler, 20, key=1)


def test_a_long_word_is_no_matter(trained: dict[str, Tokenization], as_words: AsWords) -> None:
    tokenizer = trained["bpe"].tokenizer
    sampler = MergeSampler(tokenizer, as_words(tokenizer, ["kalo" * 25_000]), dropout=0.1)
    ids, lengths = sampler.sample(0, 1, 7)
    assert len(ids) == lengths[0] > 1000
    assert tokenizer.decode(ids.tolist()) == "kalo" * 25_000


@BOTH_WAYS
def test_no_text_gives_no_id(trained: dict[str, Tokenization], as_words: AsWords, compiled: bool | None) -> None:
    tokenizer = trained["bpe"].tokenizer
    for texts in ([], ["", ""]):
        sampler = MergeSampler(tokenizer, as_words(tokenizer, texts), dropout=0.5, compiled=compiled)
        ids, lengths = sampler.sample(0, len(texts), 0)
        assert (len(ids), lengths.tolist()) == (0, [0] * len(texts))


def test_a_sampler_pickles(as_words: AsWords) -> None:
    for compiled in (None, False):
        sampler = MergeSampler(small(), as_words(small(), ["abcabc"] * 9), dropout=0.5, compiled=compiled)
        assert rows_of(pickle.loads(pickle.dumps(sampler)), 9) == rows_of(sampler, 9)


def test_another_kind_of_bpe_is_refused(as_words: AsWords) -> None:
    odd = json.loads(small().to_str())
    odd["model"]["end_of_word_suffix"] = "</w>"
    unknown = as_words(small(), ["abd"])
    for tokenizer, words in ((Tokenizer.from_str(json.dumps(odd)), as_words(small(), ["ab"])), (small(), unknown)):
        with pytest.raises(TokenizerError, match=r"dropout needs a byte-level BPE .* set tokenizer\.dropout=0"):
            MergeSampler(tokenizer, words, dropout=0.5)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, True, "much", float("nan")])
def test_a_dropout_out_of_range_is_refused(dropout: float) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.dropout is a number from 0 to 1, but is "):
        BPETokenization(dropout=dropout)


def test_dropout_is_no_part_of_the_vocabulary() -> None:
    without, some = BPETokenization(), BPETokenization(dropout=0.1)
    assert without.identity() == some.identity()
    assert (without.is_sampled, some.is_sampled) == (False, True)
    assert (without.sampling(), some.sampling()) == ({"dropout": 0.0}, {"dropout": 0.1})


def test_a_tokenizer_that_samples_nothing_says_so(as_words: AsWords) -> None:
    byte = ByteTokenization()
    assert not byte.is_sampled
    with pytest.raises(TokenizerError, match="ByteTokenization does not sample: its texts have the same ids in every"):
        byte.sampler(byte.tokenizer, as_words(small(), ["ab"]))
