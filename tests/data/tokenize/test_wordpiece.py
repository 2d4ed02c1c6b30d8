import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.tokenization import Tokenization, encode_texts
from mtx.data.tokenize.wordpiece import WordPieceTokenization, single_pieces, word_splitter
from mtx.errors import ConfigError


def test_pieces_are_those_worked_out_by_hand(make_dataset) -> None:
    """Words: low ×3, lower ×1. First pieces e l o r w, then ##e ##l ##o ##r ##w, ids 4 to 13.

    l-##o and ##o-##w occur 4 times; l (5) is lower than ##o (11), so l-##o goes first: lo; then lo-##w: low. The
    other pairs occur once.
    """
    tokenizer = (
        WordPieceTokenization(vocab_size=50).train(make_dataset([{"src": "low low lower", "tgt": "low"}])).tokenizer
    )
    by_id = [tokenizer.id_to_token(i) for i in range(4, tokenizer.get_vocab_size())]
    assert by_id == ["e", "l", "o", "r", "w", "##e", "##l", "##o", "##r", "##w", "lo", "low"]
    assert tokenizer.encode("lower low").tokens == ["low", "##e", "##r", "low"]


def test_words_end_at_space_punctuation_and_han() -> None:
    def cut(text: str) -> list[str]:
        return [word for word, _ in word_splitter().pre_tokenize_str(text)]

    assert cut("Hello, wörld!\tx") == ["Hello", ",", "wörld", "!", "x"]
    assert cut("元始に神あり。カナ") == ["元", "始", "に", "神", "あり", "。", "カナ"]
    assert cut("<EOS>") == ["<", "EOS", ">"]
    assert [len(word) for word in cut("a" * 250)] == [100, 100, 50]


def test_decoding_joins_words_with_single_spaces(trained: dict[str, Tokenization]) -> None:
    tokenizer = trained["wordpiece"].tokenizer
    assert tokenizer.decode(encode_texts(tokenizer, ["kalo   miren.tu\n神光"])[0]) == "kalo miren . tu 神 光"


def test_words_of_known_characters_are_never_unknown(dataset: TranslationDataset) -> None:
    tokenizer = WordPieceTokenization(vocab_size=400, character_coverage=0.99).train(dataset).tokenizer
    vocab = tokenizer.get_vocab()
    letters = [char for char in "abdeiklmnorstuäß" if char in vocab]
    assert len(letters) > 10
    backwards = "".join(reversed(letters)) * 3
    assert 3 not in encode_texts(tokenizer, [backwards])[0]


def test_a_word_with_a_character_outside_the_alphabet_is_unknown_as_a_whole(trained: dict[str, Tokenization]) -> None:
    tokenizer = trained["wordpiece"].tokenizer
    ids = encode_texts(tokenizer, ["kalo kaжlo kalo"])[0]
    assert ids.count(3) == 1
    assert tokenizer.decode(ids) == "kalo kalo"


def test_only_characters_that_stand_inside_words_get_a_piece_for_it() -> None:
    assert single_pieces(set("ab,神の \t")) == [",", "a", "b", "の", "神", "##a", "##b", "##の"]


def test_a_vocabulary_too_small_for_the_alphabet_is_refused(make_dataset) -> None:
    with pytest.raises(
        ConfigError, match=r"must be at least 14 for this text, but is 13\. It needs 4 fixed tokens, and 10 for the"
    ):
        WordPieceTokenization(vocab_size=13).train(make_dataset([{"src": "low low lower", "tgt": "low"}]))


def test_values_out_of_bounds_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        WordPieceTokenization(vocab_size=4, min_frequency=0, max_train_pairs=0, character_coverage=1.1)
    assert len(str(caught.value).splitlines()) == 4
    assert "tokenizer.character_coverage is a number above 0 and of at most 1, but is 1.1" in str(caught.value)


def test_a_normal_form_makes_variants_one(dataset: TranslationDataset) -> None:
    tokenizer = WordPieceTokenization(vocab_size=400, normalization="NFC").train(dataset).tokenizer
    composed, combining = encode_texts(tokenizer, ["ä", "a\u0308"])
    assert composed == combining != [3]
