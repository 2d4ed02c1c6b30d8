"""Language tokens: found in a vocabulary, first in each row of ids, and named in errors."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tokenizers import AddedToken, Tokenizer

from mtx.data.encoded_texts import LanguageTokenIds
from mtx.data.encoding_stage import PairEncoder
from mtx.data.token_rows import SpecialIds
from mtx.data.tokenize.byte import byte_tokenizer
from mtx.data.tokenize.language_token_names import DECODER_START, FORCED_START, TargetStart
from mtx.data.tokenize.language_tokens import check_unsampled, languages_of, leading_ids, target_start_warning
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.errors import ConfigError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

FORCED_GERMAN, FIRST_MBART = ("deu_Latn", FORCED_START), ("de_DE", DECODER_START)
NLLB = ("eng_Latn", "deu_Latn", "zho_Hans", "zho_Hant")


def pair_of(*tokens: str, is_special: bool = True) -> TokenizerPair:
    tokenizer: Tokenizer = byte_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=is_special, normalized=False) for token in tokens])
    return TokenizerPair("t", Path(), True, tokenizer, tokenizer, SpecialIds(), SpecialIds())


@pytest.mark.parametrize(
    ("tokens", "languages"),
    [
        (("en_XX", "de_DE"), ["en", "de_DE"]),
        (("__en__", "__de__"), ["en", "de"]),
        (("<2en>", "<2de>", "<mask>"), ["en", "de"]),
        ((">>en<<", ">>deu<<"), ["en", "deu"]),
        (("en_XX", "<mask>", "qq_QQ"), []),
        (("__bos__", "cls", "<2en>"), []),
        ((">>bos<<", "bos_Latn"), ["bos", "bos_Latn"]),
        ((), []),
    ],
)
def test_language_tokens_are_found_as_models_write_them(tokens: tuple[str, ...], languages: list[str]) -> None:
    assert list(languages_of(pair_of(*tokens).source).values()) == languages


def test_a_direction_has_the_ids_of_its_languages() -> None:
    pair = pair_of(*NLLB)
    ids = {token: pair.source.token_to_id(token) for token in NLLB}
    assert leading_ids("auto", ("en", "de"), pair) == (ids["eng_Latn"], ids["deu_Latn"])
    given = {"en": "eng_Latn", "zh": "zho_Hans"}
    assert leading_ids(given, ("zho", "en_GB"), pair) == (ids["zho_Hans"], ids["eng_Latn"])


@pytest.mark.parametrize(
    ("given", "languages", "told"),
    [
        ("auto", ("en", "zh"), r"for 'zh' the vocabulary has 2: zho_Hans, zho_Hant.*language_tokens\.zh='zho_Hans'"),
        (
            "auto",
            ("en", "fr"),
            r"for 'fr' the vocabulary has none\. Its .*language_tokens\.fr='TOKEN'",
        ),
        ({"en": "eng_Latn"}, ("en", "de"), r"for 'de' datamodule\.language_tokens has none"),
        ({"en": "eng_Latn", "de": "deu"}, ("en", "de"), r"token 'deu' for 'de', which is not in the vocabulary"),
        ({"en": "<EOS>", "de": "deu_Latn"}, ("en", "de"), r"token '<EOS>' for 'en', which is the token for padding"),
        ("auto", ("src", "tgt"), r"needs the languages of the corpus.*downloader\.source_language"),
    ],
)
def test_a_language_without_one_token_is_refused(given: Any, languages: tuple[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        leading_ids(given, languages, pair_of(*NLLB))


def test_sampled_segmentations_are_refused() -> None:
    check_unsampled(is_sampled=False)
    with pytest.raises(ConfigError, match=r"the tokenizer samples segmentations. Set tokenizer\.dropout=0"):
        check_unsampled(is_sampled=True)


def test_a_vocabulary_with_language_tokens_and_texts_without_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encode = PairEncoder(pair_of(*NLLB), tmp_path)
    LanguageTokenIds("auto", encode, [("en", "de")], has_tags=False)
    LanguageTokenIds(None, encode, [("en", "de")], has_tags=True)
    LanguageTokenIds(None, PairEncoder(pair_of(), tmp_path), [("en", "de")], has_tags=False)
    assert not caplog.text
    LanguageTokenIds(None, encode, [("en", "de")], has_tags=False)
    assert "the vocabulary has 4 language tokens, such as eng_Latn, deu_Latn, zho_Hans" in caplog.text
    assert "Set datamodule.language_tokens=auto" in caplog.text


@pytest.mark.parametrize(
    ("start", "given", "position", "told"),
    [
        (FORCED_GERMAN, "auto", "prefix", None),
        (FORCED_GERMAN, None, "prefix", r"with deu_Latn, but .* Set datamodule\.language_tokens=auto$"),
        (FORCED_GERMAN, "auto", "suffix", r"position=prefix, or model\.config\.forced_bos_token_id = None"),
        (FIRST_MBART, "auto", "suffix", None),
        (FIRST_MBART, None, "prefix", r"language_tokens=auto and .*language_token_position=suffix$"),
        (FIRST_MBART, "auto", "prefix", r"Set datamodule\.language_token_position=suffix$"),
        (
            ("eng_Latn", FORCED_START),
            "auto",
            "prefix",
            r"the target language is de, fr\. Set model\.config\.forced",
        ),
        (("<s>", FORCED_START), None, "prefix", r"Set model\.config\.forced_bos_token_id = None in your model$"),
    ],
)
def test_targets_that_begin_otherwise_than_the_model_says_are_told(
    start: tuple[str, str], given: Any, position: str, told: str | None
) -> None:
    found = target_start_warning(TargetStart(*start), given, position, ["de", "fr"])
    assert found is None if told is None else found is not None and re.search(told, found)


def test_a_model_that_forces_a_language_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    encode, start = PairEncoder(pair_of(*NLLB), tmp_path), TargetStart("deu_Latn", "forced_bos_token_id")
    LanguageTokenIds(None, encode, [("en", "de")], has_tags=False, starts=[start])
    assert [record.message.partition(" in ")[0] for record in caplog.records] == ["forced_bos_token_id"]
    caplog.clear()
    both = [TargetStart("<s>", FORCED_START), TargetStart(*FIRST_MBART)]
    LanguageTokenIds(None, encode, [("en", "de")], has_tags=False, starts=both)
    assert [record.message.partition(" in ")[0] for record in caplog.records] == [FORCED_START, DECODER_START]


def test_the_text_to_translate_has_the_only_direction(tmp_path: Path) -> None:
    encode = PairEncoder(pair_of(*NLLB), tmp_path)
    ways = [("en", "de"), ("de", "en")]
    one = LanguageTokenIds("auto", encode, ways[:1], has_tags=False)
    assert one.beside("predict", ("src", "tgt")) == one.beside("news", ("en", "de"))
    both = LanguageTokenIds("auto", encode, ways, has_tags=False)
    assert both.beside("news", ("de", "en"))[0] == one.beside("news", ("en", "de"))[0][::-1]
    with pytest.raises(ConfigError, match=r"predict_from has no direction.*task\.direction"):
        both.beside("predict", ("src", "tgt"))
    assert LanguageTokenIds(None, encode, ways, has_tags=True).beside("predict", ("src", "tgt")) == []


def test_the_token_comes_before_the_ids_of_each_text_and_has_no_bytes(tmp_path: Path) -> None:
    pair = pair_of(*NLLB)
    texts = ["ab", "", "eng_Latn", "c" * 300]
    batch = pa.record_batch([pa.array(texts, pa.large_string())] * 2, schema=PAIR_SCHEMA)
    given = batch.append_column("src_id", pa.array(np.full(4, 300))).append_column("tgt_id", pa.array([7, 8, 9, 10]))
    plain, led = (next(iter(PairEncoder(pair, tmp_path)(iter([each]), 0, {}))) for each in (batch, given))
    own = encode_texts(pair.source, texts)
    assert plain["source_ids"].to_pylist() == own
    assert led["source_ids"].to_pylist() == [[300, *ids] for ids in own]
    assert led["target_ids"].to_pylist() == [[7 + row, *ids] for row, ids in enumerate(own)]
    assert led["num_target_bytes"].to_pylist() == [len(text) for text in texts]
