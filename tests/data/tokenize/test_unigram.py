import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.tokenization import Tokenization, encode_texts
from mtx.data.tokenize.unigram import UnigramTokenization, canonical_pieces, unigram_tokenizer, word_splitter
from mtx.errors import ConfigError


def test_the_most_probable_pieces_are_found() -> None:
    """ " low" + "er" has log-probability −3 − 2 = −5; " lo" + "we" + "r" has −1 − 2 − 4 = −7."""
    singles = [(char, -4.0) for char in " lower"[:5]] + [("r", -4.0)]
    pieces = [(" lo", -1.0), ("er", -2.0), ("we", -2.0), (" low", -3.0), *singles]
    tokenizer = unigram_tokenizer(pieces, None)
    assert tokenizer.encode("lower").tokens == [" low", "er"]


def test_a_character_outside_the_alphabet_is_spelled_in_bytes(trained: dict[str, Tokenization]) -> None:
    tokenizer = trained["unigram"].tokenizer
    encoding = tokenizer.encode("ka縞", add_special_tokens=False)  # UTF-8: E7 B8 9E
    assert encoding.tokens[-3:] == ["<0xE7>", "<0xB8>", "<0x9E>"]
    assert encoding.ids[-3:] == [4 + 0xE7, 4 + 0xB8, 4 + 0x9E]


def test_words_keep_the_space_before_them_and_every_character() -> None:
    def cut(text: str) -> list[str]:
        return [word for word, _ in word_splitter().pre_tokenize_str(text)]

    assert cut(" Hello, (world)  x 12ab") == [" Hello", ",", " (", "world", ")", " ", " x", " 12", "ab"]
    assert cut("神は、光　x") == ["神は", "、", "光", "　", "x"]
    assert cut("a<EOS>") == ["a", "<", "EOS", ">"]
    assert cut("e\u0301n " * 2) == ["e\u0301n", " e\u0301n", " "]
    assert [len(word) for word in cut("a" * 150)] == [64, 64, 22]


@settings(deadline=None)
@given(st.text())
def test_words_join_to_the_text(text: str) -> None:
    assert "".join(text[a:b] for _, (a, b) in word_splitter().pre_tokenize_str(text)) == text


def test_only_frequent_characters_get_a_piece(make_dataset) -> None:
    """Of " " ×10 in the texts (none), a ×90, b ×9 and c ×1, 99 % of the text is a and b."""
    rows = [{"src": "a" * 90 + "b" * 9 + "c", "tgt": ""}]
    vocab = UnigramTokenization(vocab_size=400, character_coverage=0.99).train(make_dataset(rows)).tokenizer.get_vocab()
    assert {"a", "b", " "} <= vocab.keys()
    assert not any("c" in piece for piece in vocab if not piece.startswith("<"))


def test_a_vocabulary_too_small_for_the_alphabet_is_refused(dataset: TranslationDataset) -> None:
    with pytest.raises(ConfigError) as caught:
        UnigramTokenization(vocab_size=270, character_coverage=1.0).train(dataset)
    characters = {char for row in dataset.data for text in row.values() for char in text}
    assert str(caught.value) == (
        f"tokenizer.vocab_size must be at least {260 + len(characters)} for this text, but is 270. It needs 260 fixed "
        f"tokens, and {len(characters)} for the characters that make up 1.0 of the text. Raise it, lower "
        "tokenizer.character_coverage, or use tokenizer=bpe, which starts from bytes"
    )


def test_a_vocabulary_just_large_enough_holds_the_alphabet(dataset: TranslationDataset) -> None:
    characters = {char for row in dataset.data for text in row.values() for char in text}
    size = 260 + len(characters)
    vocab = UnigramTokenization(vocab_size=size, character_coverage=1.0).train(dataset).tokenizer.get_vocab()
    assert len(vocab) == size
    assert characters <= vocab.keys()


def test_the_arbitrary_order_of_a_run_leaves_no_trace() -> None:
    """The trainer gave x, y and z, which it knew no probability for, the lowest one and a step more for each."""
    one = {"ab": -2.00001, "a": -3.0, "b": -2.0 - 1e-14, "x": -9.0, "y": -8.9999, "z": -8.9998, "cd": -2.5}
    two = {"cd": -2.5, "z": -9.0, "x": -8.9999, "y": -8.9998, "b": -2.0, "a": -3.0 - 1e-12, "ab": -2.00001}
    expected = [("ab", -2.0), ("b", -2.0), ("cd", -2.5), ("a", -3.0), ("x", -9.0), ("y", -9.0), ("z", -9.0)]
    for pieces in (one, two):
        assert canonical_pieces(pieces, set("abxyz"), room=7) == expected
        assert canonical_pieces(pieces, set("abxyz"), room=6) == [pair for pair in expected if pair[0] != "cd"]


def test_scores_in_the_file_are_rounded_and_sorted(trained: dict[str, Tokenization]) -> None:
    model = json.loads(trained["unigram"].tokenizer.to_str())["model"]
    scores = [score for _, score in model["vocab"][260:]]
    assert scores == sorted(scores, reverse=True)
    assert all(score == round(score, 4) for score in scores)
    assert model["byte_fallback"] is True


def test_a_normal_form_makes_variants_one(dataset: TranslationDataset) -> None:
    tokenizer = UnigramTokenization(vocab_size=500, normalization="NFKC").train(dataset).tokenizer
    half_width, plain = encode_texts(tokenizer, ["ｶﾞ①　神", "ガ1 神"])
    assert half_width == plain
    assert tokenizer.decode(half_width) == "ガ1 神"


def test_values_out_of_bounds_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        UnigramTokenization(vocab_size=261, character_coverage=0, shrinking_factor=1, max_train_pairs=0)
    assert str(caught.value).splitlines() == [
        "tokenizer.vocab_size is an integer of at least 262 (256 bytes, 4 special tokens, the space, a character), but "
        "is 261. Set tokenizer.vocab_size=262 or more",
        "tokenizer.character_coverage is a number above 0 and of at most 1, but is 0",
        "tokenizer.shrinking_factor is a number above 0 and below 1, but is 1",
        "tokenizer.max_train_pairs is an integer of at least 1, but is 0. Set tokenizer.max_train_pairs=1 or more",
    ]
