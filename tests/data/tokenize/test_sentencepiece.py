"""SentencePiece models of three kinds, trained once on made-up words."""

import builtins
import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sentencepiece

from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.data.tokenize.sentencepiece import SentencePieceTokenization
from mtx.data.tokenize.stored_tokenizer import tokenizer_from_str
from mtx.data.tokenize.tokenization import encode_texts, special_ids
from mtx.data.tokenize.tokenizer_artifact import SEPARATE, load_pair
from mtx.errors import ConfigError, TokenizerError

WORDS = [f"{a}{b}{c}" for a in ("ka", "lo", "mi", "Tu") for b in ("ren", "sho", "ba") for c in ("", "el", "dri", "un")]
TEXTS = [" ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 9)) + "." for i in range(1, 300)]
UNUSUAL = [
    *(
        "",
        " ",
        "  kaba  loren ",
        "e\u0301 Z\u0327aby",
        "\u0915\u094d\u0937\u093f",
        "が",
        "a\x00b",
        "kaba \u2581",
        "\u2581",
    ),
    *(
        "kaba\u2581 loren",
        "<s>kaba</s>",
        "<unk>",
        ">>de<< kaba",
        "ka>>de<<ba",
        "日本語",
        "\r\n kaba",
        "0000",
        "--- ---",
        "ﬁ ½",
    ),
]
KINDS: dict[str, dict[str, Any]] = {
    "bpe": {"model_type": "bpe", "vocab_size": 120, "user_defined_symbols": [">>de<<"]},
    "unigram": {"model_type": "unigram", "vocab_size": 120, "user_defined_symbols": [">>de<<"], "pad_id": 3},
    "bytes": {
        "model_type": "bpe",
        "vocab_size": 400,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    for name, options in KINDS.items():
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS), model_writer=made, minloglevel=2, hard_vocab_limit=False, **options
        )
        (folder / f"{name}.model").write_bytes(made.getvalue())
    return {name: folder / f"{name}.model" for name in KINDS}


def loaded(path: Path) -> SentencePieceTokenization:
    return SentencePieceTokenization(filepath=path, pad_token="<pad>").load()


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_library(models: dict[str, Path], kind: str) -> None:
    library = sentencepiece.SentencePieceProcessor(model_file=str(models[kind]))
    texts = UNUSUAL + TEXTS
    expected = library.encode(texts)
    tokenizer = loaded(models[kind]).tokenizer
    assert encode_texts(tokenizer, texts) == expected
    lengths, ids = FlatEncoder.of(tokenizer).encode(pa.array(texts * 2, pa.large_string()))
    assert lengths.tolist() == [len(row) for row in expected] * 2
    assert ids.tolist() == [id for row in expected for id in row] * 2


def test_only_bpe_with_the_usual_settings_is_encoded_word_by_word(models: dict[str, Path]) -> None:
    rules = {kind: FlatEncoder.of(loaded(path).tokenizer).rule for kind, path in models.items()}
    assert rules == {"bpe": "keep", "unigram": None, "bytes": None}


def test_the_model_names_its_special_tokens(models: dict[str, Path]) -> None:
    found = SentencePieceTokenization(filepath=models["unigram"]).load()
    assert special_ids(found.tokenizer, found.special) == (3, 1, 2, 0)


def test_a_missing_padding_token_is_added_after_the_last_id(models: dict[str, Path]) -> None:
    with pytest.raises(TokenizerError, match=r"has no pad token.*\"tokenizer.pad_token='<s>'\""):
        SentencePieceTokenization(filepath=models["bpe"]).load()
    found = loaded(models["bpe"]).tokenizer
    assert found.token_to_id("<pad>") == found.get_vocab_size() - 1
    named = SentencePieceTokenization(filepath=models["bpe"], pad_token="<s>").load()
    assert special_ids(named.tokenizer, named.special).pad == 1
    with pytest.raises(ConfigError, match="must differ"):
        SentencePieceTokenization(filepath=models["bpe"], pad_token="</s>").load()


def test_stored_copies_and_pickles_give_the_same_ids(models: dict[str, Path], tmp_path: Path) -> None:
    made = loaded(models["bpe"])
    expected = encode_texts(made.tokenizer, TEXTS[:20])
    copy = made.at(tmp_path / "tokenizer.json").save()
    stored = SentencePieceTokenization(filepath=models["bpe"], pad_token="<pad>").at(tmp_path / "tokenizer.json").load()
    for tokenizer in (
        copy.tokenizer,
        stored.tokenizer,
        pickle.loads(pickle.dumps(made)).tokenizer,
        tokenizer_from_str(made.tokenizer.to_str()),
    ):
        assert encode_texts(tokenizer, TEXTS[:20]) == expected
    assert (
        stored.identity()
        == made.identity()
        == SentencePieceTokenization(filepath=models["bpe"], pad_token="<pad>").identity()
    )
    assert made.tokenizer.decode([*expected[0], 2, made.tokenizer.token_to_id("<pad>")]) == TEXTS[0]


def test_damaged_files_are_refused_in_one_line(models: dict[str, Path], tmp_path: Path) -> None:
    content = models["bpe"].read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "bad.model"
    flipped = [bytearray(content) for _ in range(20)]
    for each in flipped:
        each[int(rng.integers(len(each)))] ^= 0xFF
    for bad in [b"\x00" * 50, b"no model at all", content[: len(content) // 2], content[:-1], b'{"a": 1}', *flipped]:
        path.write_bytes(bad)
        try:
            encode_texts(loaded(path).tokenizer, UNUSUAL)
        except TokenizerError as error:
            assert "\n" not in str(error)  # noqa: PT017  # a flipped byte may leave a valid model
    for bad in (b"no model at all", content[: len(content) // 2]):
        path.write_bytes(bad)
        with pytest.raises(TokenizerError, match="is no SentencePiece model"):
            loaded(path)


def test_without_the_library_the_message_names_the_extra(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **options: Any) -> Any:
        if name == "sentencepiece":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(TokenizerError, match=r'pip install "mtx\[sentencepiece\]"'):
        loaded(models["bpe"])


def test_a_folder_may_be_named(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(models["bpe"].read_bytes())
    assert loaded(tmp_path).tokenizer.get_vocab_size() == loaded(models["bpe"]).tokenizer.get_vocab_size()
    (tmp_path / "spiece.model").rename(tmp_path / "other.txt")
    with pytest.raises(TokenizerError, match=r"has no SentencePiece model, only other.txt"):
        loaded(tmp_path)


def test_each_side_may_have_its_own_model(models: dict[str, Path], tmp_path: Path) -> None:
    options: dict[str, Any] = {"filepath": models["bpe"], "target_filepath": models["bytes"], "pad_token": "<s>"}
    with pytest.raises(ConfigError, match=r"tokenizer\.joint=false"):
        SentencePieceTokenization(**options)
    config = SentencePieceTokenization(**options, joint=False)
    for side, name in SEPARATE.items():
        config.for_side(side).load().at(tmp_path / name).save()
    pair = load_pair(config, tmp_path)
    assert encode_texts(pair.source, TEXTS[:9]) == encode_texts(loaded(models["bpe"]).tokenizer, TEXTS[:9])
    assert encode_texts(pair.target, TEXTS[:9]) == encode_texts(loaded(models["bytes"]).tokenizer, TEXTS[:9])
    alone = SentencePieceTokenization(filepath=models["bpe"], pad_token="<s>", joint=False)
    assert config.identity() != alone.identity()


def test_a_model_without_eos_names_only_control_symbols_that_it_has(tmp_path: Path) -> None:
    options = {"model_type": "bpe", "vocab_size": 120, "eos_id": -1, "minloglevel": 2, "hard_vocab_limit": False}
    for name, symbols in (("none", []), ("some", ["<end>"])):
        made = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(TEXTS), model_writer=made, control_symbols=symbols, **options
        )
        (tmp_path / f"{name}.model").write_bytes(made.getvalue())
    with pytest.raises(TokenizerError, match=r"no eos token.*no other control symbol, so set tokenizer\.filepath"):
        loaded(tmp_path / "none.model")
    with pytest.raises(TokenizerError, match=r"no eos token.*Name one: \"tokenizer\.eos_token='<end>'\"$"):
        loaded(tmp_path / "some.model")
    named = SentencePieceTokenization(filepath=tmp_path / "some.model", pad_token="<pad>", eos_token="<end>").load()
    assert named.special.eos == "<end>"
    with pytest.raises(TokenizerError, match=r"Set them with tokenizer=sentencepiece \"tokenizer\.eos_token"):
        SentencePieceTokenization(filepath=tmp_path / "some.model", pad_token="<pad>", eos_token="</s>").load()
