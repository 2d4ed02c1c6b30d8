"""Cutting texts into pieces that are encoded once changes no id."""

import base64
import json
import sys
import unicodedata
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel

from mtx.data.dataset import TranslationDataset
from mtx.data.tokenize import cached_encoding, joined_pieces, piece_cache, text_pieces
from mtx.data.tokenize.bpe import BPETokenization, byte_level
from mtx.data.tokenize.byte import ByteTokenization, byte_chars
from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.data.tokenize.sentencepiece_file import _fields
from mtx.data.tokenize.separate_normalisation import NORMAL_FORMS, separate_normaliser
from mtx.data.tokenize.text_cuts import byte_ids, cut_rule
from mtx.data.tokenize.text_pieces import class_changes, cut_places
from mtx.data.tokenize.tokenization import Tokenization, encode_texts, prepare_tokenizer
from mtx.data.tokenize.unigram import UnigramTokenization
from mtx.data.tokenize.wordpiece import WordPieceTokenization

PAIRS = [
    ("the cat sat on the mat", "die Katze saß auf der Matte"),
    ("the hat, the cat; 12 rats' tails", "der Hut, die Katze; 12 Rattenschwänze"),
    ("Где кот? Кот на ковре.", "猫はどこ？ 猫はマットの上。"),
]
NASTY = "  ab'ts1,.éж語の😀א\t\n\r\x0b\x1c\x1f\x00\x7f\x80\x85\xa0\xa8\u0301\u0308\u037a"
NASTY += "\u1680\u2003\u2028\u3000\u200b\ufeff\ufdfa"  # more white space, and what has some in its normal form
NASTY += "\u0600\ufffd\x8f\xad\u200d\u2581"  # what SentencePiece's rules remove or make a space, or joins a space
TEXT = st.one_of(st.text(st.sampled_from(NASTY), max_size=12), st.text(max_size=8), st.just("<EOS> the <PAD>"))


def trained() -> Iterator[tuple[str, Tokenization]]:
    dataset = TranslationDataset(
        name="cats", stage="raw", split="train", languages=("en", "de"), data=[{"src": s, "tgt": t} for s, t in PAIRS]
    )
    for form in (None, "NFC", "NFKC"):
        yield f"bpe-{form}", BPETokenization(vocab_size=320, normalization=form).train(dataset)
        yield f"wordpiece-{form}", WordPieceTokenization(vocab_size=150, normalization=form).train(dataset)
        yield f"unigram-{form}", UnigramTokenization(vocab_size=320, normalization=form).train(dataset)
    yield "byte", ByteTokenization()


def elsewhere() -> Iterator[tuple[str, Tokenizer]]:
    """Tokenizers as others train them: BPE and unigram that split at white space, with an unknown token and symbols."""
    letters = sorted({char for pair in PAIRS for text in pair for char in text if char != " "} | set("|~"))
    vocabulary = {token: id for id, token in enumerate(["?", *letters, "th", "the", "ca", "cat"])}
    merges = [("t", "h"), ("th", "e"), ("c", "a"), ("ca", "t")]
    for name in ("Whitespace", "WhitespaceSplit", "BertPreTokenizer"):
        tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="?"))
        tokenizer.pre_tokenizer = getattr(pre_tokenizers, name)()
        yield f"bpe-{name}", tokenizer
    tokenizer = Tokenizer(BPE(vocab=vocabulary, merges=merges, unk_token="?", fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits()])
    yield "bpe-Digits", tokenizer
    symbols = {char: id for id, char in enumerate(byte_chars())}
    tokenizer = Tokenizer(
        BPE(vocab={**symbols, "th": 256, "Ġw": 257, "12": 258}, merges=[("t", "h"), ("Ġ", "w"), ("1", "2")])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    yield "bpe-ByteLevel", tokenizer
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    scores = {"?": 0.0, **dict.fromkeys(fallback, -9.0), "\u2581": -3.0, **dict.fromkeys(letters, -4.0)}
    scores |= {"\u2581the": -2.0, "cat": -2.5, "\u2581c": -3.5}
    tokenizer = Tokenizer(Unigram([*scores.items()], unk_id=0, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    yield "unigram-Metaspace", tokenizer
    described = json.loads(tokenizer.to_str())
    rules = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap("nmt_nfkc")).decode()}
    runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    described["normalizer"] = {"type": "Sequence", "normalizers": [rules, strip, runs]}
    cut = {"type": "Split", "pattern": {"Regex": "t(?=he)"}, "behavior": "Isolated", "invert": False}
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [described["pre_tokenizer"], cut]}
    yield "unigram-Precompiled", Tokenizer.from_str(json.dumps(described))
    described["normalizer"] = rules
    metaspace = described["pre_tokenizer"]["pretokenizers"][0]
    described["pre_tokenizer"]["pretokenizers"] = [{"type": "WhitespaceSplit"}, metaspace]
    yield "unigram-WhitespaceSplit", Tokenizer.from_str(json.dumps(described))


def charsmap(name: str) -> bytes:
    """Return the compiled rules of a normaliser of SentencePiece."""
    sentencepiece = pytest.importorskip("sentencepiece")
    proto = sentencepiece.SentencePieceNormalizer(rule_name=name).serialized_model_proto()
    normaliser = dict(_fields(memoryview(proto)))[3]
    return bytes(dict(_fields(normaliser))[2])


TOKENIZERS = {name: tokenization.tokenizer for name, tokenization in trained()}
ELSEWHERE = {name: prepare_tokenizer(tokenizer) for name, tokenizer in elsewhere()}


def column(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


def same(tokenizer: Tokenizer, texts: list[str], encoder: FlatEncoder | None = None) -> None:
    lengths, ids = (encoder or FlatEncoder.of(tokenizer)).encode(column(texts))
    expected = encode_texts(tokenizer, texts)
    assert lengths.tolist() == [len(row) for row in expected]
    assert ids.tolist() == [id for row in expected for id in row]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_tokenizer_of_mtx_is_known(name: str) -> None:
    rules = {"unigram": "drop", "bpe": "classes", "byte": "keep", "wordpiece": "keep"}
    assert cut_rule(TOKENIZERS[name]) == rules[name.partition("-")[0]]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tokenizers_that_split_at_spaces_are_known(name: str) -> None:
    encoder = FlatEncoder.of(ELSEWHERE[name])
    assert encoder.rule == "keep"
    assert (encoder.joiner is None) == (name == "bpe-ByteLevel"), "which adds a space to some pieces"


@pytest.mark.parametrize("name", [*TOKENIZERS, *ELSEWHERE])
def test_ids_are_those_of_whole_texts_for_any_text(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = {**TOKENIZERS, **ELSEWHERE}[name]
    encoder = FlatEncoder.of(tokenizer)  # its cache keeps the pieces of all examples
    monkeypatch.setattr(cached_encoding, "MAX_NEW_SHARE", 2)  # pieces, however little they repeat

    @settings(max_examples=70, deadline=None)
    @given(texts=st.lists(TEXT, max_size=6))
    @example(texts=["", "a b", "a  b", " a ", "a ", " ", "", "b a\u00a0 b", "a \u0301b a\u00a8 b"])
    @example(texts=["the cat  sat", "a\u3000  b", "a\x85  b", "a \n b", "it's 'tis", "a \u00a8b", "x" * 300 + " y"])
    @example(texts=["Hello, world. It's 12ab (x)", " (th) w"])
    @example(texts=["a \x8f b", "a\ufffd b", "a \xad b", "a\u0600 \u0308b", "the \u200d the", "a\u2581 b", "1 \x851"])
    def check(texts: list[str]) -> None:
        same(tokenizer, texts, encoder)

    check()


def test_texts_worked_out_by_hand() -> None:
    encoder = FlatEncoder.of(TOKENIZERS["byte"])
    lengths, ids = encoder.encode(column(["a b", "", "b a b b b b"])[0:3])
    assert lengths.tolist() == [3, 0, 11]
    assert ids.tolist() == [byte + 4 for byte in b"a bb a b b b b"]
    assert ids.dtype == np.uint16


def test_part_of_a_column_is_encoded_as_it_stands() -> None:
    texts = ["no a b", "a b a b", "é a b a b", "not"]
    lengths, ids = FlatEncoder.of(TOKENIZERS["byte"]).encode(column(texts)[1:3])
    assert lengths.tolist() == [7, 10]
    assert bytes(id - 4 for id in ids).decode() == "a b a bé a b a b"


def test_each_distinct_piece_is_encoded_once_in_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counting(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
        asked.extend(texts)
        return encode_texts(tokenizer, texts)

    encoders = {name: FlatEncoder.of(TOKENIZERS[f"{name}-None"]) for name in ("bpe", "unigram", "wordpiece")}
    for module in (cached_encoding, joined_pieces):
        monkeypatch.setattr(module, "encode_texts", counting)
    asked_for = {}
    for name, encoder in encoders.items():
        encoder.encode(column(["the cat the cat the cat", "the cat the cat"]))
        encoder.encode(column(["the rat the cat the cat"]))
        asked_for[name], asked[:] = "/".join(asked), []
        assert (encoder.counts.pieces, encoder.counts.encoded_pieces) == ((29, 4) if name == "unigram" else (16, 4))
        assert encoder.counts.hit_rate == pytest.approx(25 / 29 if name == "unigram" else 12 / 16)
    assert asked_for["bpe"] == "the\n cat\n the\n/ rat\n"
    assert asked_for["unigram"] == "the \n cat \n/ /rat \n"  # a lone space is not joined
    assert asked_for["wordpiece"] == "the/ cat/ the/ rat", "no symbol is in the alphabet that could separate pieces"


def test_a_full_cache_keeps_what_most_blocks_contain(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = FlatEncoder.of(TOKENIZERS["bpe-None"])
    encoder.cache.max_pieces = 4
    monkeypatch.setattr(cached_encoding, "MAX_NEW_SHARE", 2)
    blocks = [["a b c"], ["a x"], ["a b d"], ["a e f g h i"], ["a b x " + "long" * 30]]
    for texts in blocks:
        lengths, ids = encoder.encode(column(texts))
        expected = encode_texts(TOKENIZERS["bpe-None"], texts)
        assert (lengths.tolist(), ids.tolist()) == ([len(expected[0])], expected[0])
        assert len(encoder.cache.pieces) <= 4
    assert {"a", " b"} <= set(encoder.cache.pieces.to_pylist())
    assert " " + "long" * 30 not in encoder.cache.pieces.to_pylist()


def test_byte_tokenizers_need_no_library() -> None:
    assert byte_ids(TOKENIZERS["byte"]).tolist() == list(range(4, 260))  # type: ignore[union-attr]
    assert all(byte_ids(tokenizer) is None for name, tokenizer in TOKENIZERS.items() if name != "byte")


def test_texts_that_repeat_nothing_are_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    encoder = FlatEncoder.of(TOKENIZERS["bpe-None"])
    monkeypatch.setattr(
        cached_encoding, "encode_texts", lambda tokenizer, texts: asked.extend(texts) or [[7]] * len(texts)
    )
    texts = ["猫はどこ", "every word is different"]
    lengths, ids = encoder.encode(column(texts))
    assert asked == texts
    assert (lengths.tolist(), ids.tolist()) == ([1, 1], [7, 7])


def test_text_is_cut_before_spaces_but_not_behind_other_white_space() -> None:
    text = "ab c  d\u00a0 e\u3000 f\t gé h語 i\u2028 j\x00 k"
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    cuts = cut_places(data).tolist()
    parts = [bytes(data[a:b]).decode() for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert parts == ["ab", " c", "  d\u00a0 e\u3000 f\t gé", " h語", " i\u2028 j\x00 k"]


def test_text_is_cut_between_ascii_letters_digits_and_punctuation_but_not_at_apostrophes() -> None:
    data = np.frombuffer("it's (a1) x_2'3é.b 'd".encode(), dtype=np.uint8)
    cuts = class_changes(data).tolist()
    parts = [bytes(data[a:b]).decode() for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    assert parts == ["it's (", "a", "1", ") x", "_", "2'3é.", "b 'd"]


def test_no_character_but_those_known_is_white_space_or_ends_in_it_in_any_normal_form() -> None:
    known = {*text_pieces.WIDE_SPACES, *map(chr, range(0x21)), "\x7f"}
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        if char in known or 0xD800 <= code < 0xE000:
            continue
        for form in NORMAL_FORMS:
            assert not unicodedata.normalize(form, char)[-1:].isspace(), hex(code)  # type: ignore[arg-type]


def custom(**parts: object) -> Tokenizer:
    tokenizer = byte_level(BPE(vocab={"a": 0}, merges=[]), use_regex=True)
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return prepare_tokenizer(tokenizer)


def test_tokenizers_that_may_look_across_a_cut_encode_whole_texts() -> None:
    words = Tokenizer(WordLevel({"a b": 0, "?": 1}, unk_token="?"))  # no pre-tokenizer: the text is one word
    added = custom()
    added.add_tokens([AddedToken("a b")])
    merging = byte_level(BPE(vocab={"a": 0, "Ġ": 1, "aĠ": 2}, merges=[("a", "Ġ")]), use_regex=False)
    others = {
        "words": words,
        "added": added,
        "merging": merging,
        "dropout": custom(model=BPE(vocab={"a": 0}, merges=[], dropout=0.1)),
        "replaces": custom(normalizer=normalizers.Replace(" ", "")),
        "merges spaces": custom(normalizer=normalizers.Replace("  ", " ")),  # its words begin with a space or without
        "prepends": custom(normalizer=normalizers.Prepend("a")),
        "prepends a space": custom(normalizer=normalizers.Prepend(" ")),
        "splits": custom(pre_tokenizer=pre_tokenizers.Split("x", "isolated")),
        "sequence": custom(normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])),
    }
    assert {name: cut_rule(tokenizer) for name, tokenizer in others.items()} == dict.fromkeys(others)
    same(words, ["a b", "a", "b", "a b"])
    same(added, ["a b", "a b", "a b"])
    same(merging, ["a a", "a a", "a a"])


def test_pieces_whose_edges_a_normaliser_changes_are_found() -> None:
    rules = {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap("nmt_nfkc")).decode()}
    check = separate_normaliser([rules])
    assert check is not None
    pieces = {
        " it's": True,
        "  a": True,
        "a\u0308 \u00fc": True,
        "a\u3000": False,
        " ": False,
        "": False,
        " \x8f": False,
    }
    pieces |= {
        " \x85a": False,
        "a\ufffd": False,
        "a\u2581": False,
        "a\u0600": False,
        "\uff21\u00b2": True,
        "\u732b": True,
    }
    assert dict(zip(pieces, check.are_separate(pieces), strict=True)) == pieces
    assert separate_normaliser([rules, {"type": "Lowercase"}]) is None
    assert separate_normaliser([{"type": "Strip", "strip_left": True, "strip_right": True}, rules]) is None


def test_only_texts_with_such_pieces_are_encoded_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_encoding, "MAX_NEW_SHARE", 2)
    encoder = FlatEncoder.of(ELSEWHERE["unigram-Precompiled"])
    texts = ["the cat the cat", "a \x8f cat", "", "the caf\u00e9"]
    same(encoder.tokenizer, texts, encoder)
    assert (encoder.counts.whole_texts, encoder.counts.pieces) == (1, 6)


def test_what_is_known_to_be_cut_at_spaces_may_be_cut() -> None:
    assert cut_rule(custom()) == "classes"
    assert cut_rule(custom(normalizer=normalizers.Sequence([normalizers.NFD()]))) == "classes"
    assert cut_rule(custom(pre_tokenizer=pre_tokenizers.BertPreTokenizer())) == "keep"


def test_pieces_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(piece_cache, "xxh3_64_intdigest", len)
    encoder = FlatEncoder.of(TOKENIZERS["bpe-None"])
    for texts in (["the cat sat", "a cat"], ["the dog sat the", "big cat"], ["one dog", "a fig"]):
        expected = encode_texts(TOKENIZERS["bpe-None"], texts)
        assert encoder.encode(column(texts))[1].tolist() == list(chain.from_iterable(expected))
