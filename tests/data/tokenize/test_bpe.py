import doctest
from pathlib import Path

import pytest

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize import bpe
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.tokenization import encode_texts
from mtx.errors import ConfigError


def test_merges_are_those_worked_out_by_hand(make_dataset) -> None:
    """Words: low ×2, " low" ×1, " lower" ×1, so l-o and o-w occur 4 times, Ġ-low twice, w-e and e-r once.

    l-o goes first, since the id of l is lower than that of o; then lo-w; then Ġ-low; the others are too rare.
    """
    tokenizer = BPETokenization(vocab_size=300).train(make_dataset([{"src": "low low lower", "tgt": "low"}])).tokenizer
    assert [tokenizer.id_to_token(i) for i in range(260, tokenizer.get_vocab_size())] == ["lo", "low", "Ġlow"]
    # The alphabet is sorted by character: "!" (33) has id 4, so "e" (101) has 72 and "r" (114) has 85.
    assert encode_texts(tokenizer, ["low lower"]) == [[261, 262, 72, 85]]


def test_min_frequency_keeps_rare_pairs_apart(make_dataset) -> None:
    small = make_dataset([{"src": "low low lower", "tgt": "low"}])
    tokenizer = BPETokenization(vocab_size=300, min_frequency=4).train(small).tokenizer
    assert [tokenizer.id_to_token(i) for i in range(260, tokenizer.get_vocab_size())] == ["lo", "low"]


def test_the_smallest_vocabulary_is_bytes(dataset: TranslationDataset) -> None:
    tokenizer = BPETokenization(vocab_size=260).train(dataset).tokenizer
    assert len(encode_texts(tokenizer, ["Kalo 神"])[0]) == 8


def test_a_vocabulary_below_bytes_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tokenizer.vocab_size is an integer of at least 260 .* but is 259"):
        BPETokenization(vocab_size=259)


def test_a_special_token_frequent_in_the_texts_is_not_learned(make_dataset) -> None:
    rows = [{"src": "x<EOS>y <EOS>", "tgt": "<EOS><EOS>"}] * 50
    tokenizer = BPETokenization(vocab_size=400).train(make_dataset(rows)).tokenizer
    assert 2 not in encode_texts(tokenizer, ["<EOS>"])[0]
    assert tokenizer.decode(encode_texts(tokenizer, ["a <EOS>"])[0]) == "a <EOS>"


def test_a_normal_form_makes_variants_one(dataset: TranslationDataset) -> None:
    tokenizer = BPETokenization(vocab_size=300, normalization="NFKC").train(dataset).tokenizer
    composed, combining, half_width, plain = encode_texts(tokenizer, ["é", "e\u0301", "ｶﾞ①", "ガ1"])
    assert composed == combining
    assert half_width == plain
    assert tokenizer.decode(half_width) == "ガ1"


def test_the_snippet_of_the_documentation_works(dataset: TranslationDataset, tmp_path: Path) -> None:
    path = str(tmp_path / "tokenizer.json")
    BPETokenization(filepath=path).train(dataset).save()
    tokenizer_service = BPETokenization(filepath=path)
    tokenizer_service.load()
    assert tokenizer_service.tokenizer.decode(tokenizer_service.tokenizer.encode("神 kalo").ids) == "神 kalo"


def test_the_examples_of_the_module_run() -> None:
    assert doctest.testmod(bpe) == doctest.TestResults(failed=0, attempted=5)
