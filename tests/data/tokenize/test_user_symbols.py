"""User-defined symbols: one token wherever they occur, also with subword sampling, in files and after decoding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import Tokenizer

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.bpe_dropout import MergeSampler
from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.data.tokenize.tokenization import encode_texts, vocabulary_size
from mtx.data.tokenize.unigram import UnigramTokenization, unigram_tokenizer
from mtx.data.tokenize.unigram_sampling import LatticeSampler
from mtx.data.tokenize.word_index import WordIndex
from mtx.data.tokenize.wordpiece import WordPieceTokenization
from mtx.errors import ConfigError

SYMBOLS = (">>de<<", "%s")
TEXTS = [">>de<< kalo renmi", "ka%slo %s", ">>de<<>>de<<", "kalo", "", "%%s"]


@pytest.fixture(scope="module")
def bpe(dataset: TranslationDataset) -> Tokenizer:
    return BPETokenization(vocab_size=300, symbols=SYMBOLS).train(dataset).tokenizer


def test_symbols_are_one_token_with_the_ids_after_the_last(bpe: Tokenizer, dataset: TranslationDataset) -> None:
    plain = BPETokenization(vocab_size=300).train(dataset).tokenizer
    first = vocabulary_size(plain)
    assert [bpe.token_to_id(symbol) for symbol in SYMBOLS] == [first, first + 1]
    ka, lo = (plain.encode(text).ids for text in ("ka", "lo"))
    assert encode_texts(bpe, ["ka%slo>>de<<"]) == [[*ka, first + 1, *lo, first]]
    assert [bpe.decode(ids) for ids in encode_texts(bpe, TEXTS)] == TEXTS
    lengths, ids = FlatEncoder.of(bpe).encode(pa.array(TEXTS, pa.large_string()))
    assert np.split(ids, np.cumsum(lengths)[:-1])[1].tolist() == encode_texts(bpe, TEXTS)[1]


@pytest.mark.parametrize("dropout", [0.0, 0.5, 1.0])
def test_sampling_never_splits_them(
    bpe: Tokenizer, as_words: Callable[[Tokenizer, list[str]], WordIndex], dropout: float
) -> None:
    sampler = MergeSampler(bpe, as_words(bpe, TEXTS), dropout=dropout, compiled=False)
    ids, lengths = sampler.sample(0, len(TEXTS), 7)
    rows = [row.tolist() for row in np.split(ids, np.cumsum(lengths)[:-1])]
    assert [bpe.decode(row) for row in rows] == TEXTS
    for row, text in zip(rows, TEXTS, strict=True):
        assert [row.count(bpe.token_to_id(symbol)) for symbol in SYMBOLS] == [text.count(each) for each in SYMBOLS]
    if dropout == 0:
        assert rows == encode_texts(bpe, TEXTS)


def test_a_stored_tokenizer_keeps_them(dataset: TranslationDataset, tmp_path: Path) -> None:
    made = WordPieceTokenization(vocab_size=300, symbols=list(SYMBOLS), filepath=tmp_path / "t.json").train(dataset)
    made.save()
    read = WordPieceTokenization(filepath=tmp_path / "t.json").load().tokenizer
    assert encode_texts(read, [">>de<<%s"]) == [[read.token_to_id(symbol) for symbol in SYMBOLS]]
    assert "symbols" not in BPETokenization().identity()  # so that ids of older vocabularies stay valid
    assert BPETokenization(symbols=SYMBOLS).identity()["symbols"] == list(SYMBOLS)


@pytest.mark.parametrize("symbols", [("",), ("a", "a"), ("<PAD>",), ("\ud800",), (" ",)])
def test_other_symbols_are_refused(symbols: Any) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.symbols has different texts"):
        BPETokenization(symbols=symbols)


@pytest.fixture(scope="module")
def unigram(dataset: TranslationDataset) -> Tokenizer:
    return UnigramTokenization(vocab_size=500, symbols=SYMBOLS).train(dataset).tokenizer


@pytest.mark.parametrize("alpha", [0.0, 0.2, 100.0])
def test_a_unigram_vocabulary_keeps_them_whole_in_all_segmentations(
    unigram: Tokenizer, as_words: Callable[[Tokenizer, list[str]], WordIndex], alpha: float
) -> None:
    texts = [*TEXTS, " >>de<<  kalo ", ">>de<< >>de<<", "  %s", "\0%s\0"]
    ids = encode_texts(unigram, texts)
    assert [unigram.decode(row) for row in ids] == texts
    sampler = LatticeSampler(unigram, as_words(unigram, texts), alpha=alpha, compiled=False)
    found, lengths = sampler.sample(0, len(texts), 7)
    rows = [row.tolist() for row in np.split(found, np.cumsum(lengths)[:-1])]
    assert [unigram.decode(row) for row in rows] == texts
    for row, text in zip([*rows, *ids], [*texts, *texts], strict=True):
        assert [row.count(unigram.token_to_id(symbol)) for symbol in SYMBOLS] == [text.count(each) for each in SYMBOLS]


def test_unigram_symbols_follow_the_learned_pieces(unigram: Tokenizer, dataset: TranslationDataset) -> None:
    plain = UnigramTokenization(vocab_size=500).train(dataset).tokenizer
    first = vocabulary_size(plain)
    assert [unigram.token_to_id(symbol) for symbol in SYMBOLS] == [first, first + 1]
    assert encode_texts(unigram, ["kalo"]) == encode_texts(plain, ["kalo"])
    assert "symbols" not in UnigramTokenization().identity()
    with pytest.raises(ConfigError, match=r"a symbol of tokenizer=unigram begins with no space"):
        UnigramTokenization(symbols=(" x",))


def test_a_symbol_that_ends_another_keeps_the_space_after_it() -> None:
    pieces = [(" ", -1.0), ("x", -1.0), (" x", -1.0)]
    tokenizer = unigram_tokenizer(pieces, None, ("<de>", "de>", "[.*"))
    texts = ["<de> x", "de> x", "de>x", "[.* x", "<de>  x de> [.*"]
    assert [tokenizer.decode(tokenizer.encode(text).ids) for text in texts] == texts
