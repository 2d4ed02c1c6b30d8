"""What is wrong with a tokenizer.json that the library `tokenizers` refuses, such as one of a newer version."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenizer_json_problem import tokenizer_json_problem
from mtx.errors import TokenizerError

VALID: Mapping[str, Any] = {
    "version": "1.0",
    "added_tokens": [],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
    "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "WordLevel", "vocab": {"<UNK>": 0, "lamp": 1}, "unk_token": "<UNK>"},
}
BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a", "b"]]}
DAMAGED = {"type": "Precompiled", "precompiled_charsmap": "!!"}
OTHER_FORM = r"has keys or values of another form\. Correct tokenizer"
NEWER = "A newer version may have written it: pip install -U tokenizers, or save it with an older version"
PROBLEMS: dict[str, tuple[Any, str]] = {
    "new model": (
        {"model": {"type": "SuperBPE", "vocab": {}}},
        r"its model has the type 'SuperBPE', but tokenizers \d",
    ),
    "new version": ({"version": "2.0"}, rf"format version '2.0', but tokenizers \S+ reads version 1.0. {NEWER}"),
    "new normalizer": ({"normalizer": {"type": "Fold"}}, rf"its normalizer 'Fold' is none that tokeni.+ read. {NEWER}"),
    "new pre_tokenizer": ({"pre_tokenizer": {"type": "Cut", "n": 1}}, "its pre_tokenizer 'Cut' is none that"),
    "new post_processor": ({"post_processor": {"type": "Tags"}}, "its post_processor 'Tags' is none that"),
    "new decoder": ({"decoder": {"type": "Join"}}, "its decoder 'Join' is none that"),
    "new one of a sequence": (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Fold"}]}},
        "its normalizer 'Fold' is none that",
    ),
    "new one of a sequence of pre_tokenizers": (
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "Cut"}]}},
        "its pre_tokenizer 'Cut' is none that",
    ),
    "part of another form": ({"decoder": 3}, "its decoder of the JSON type int is none that"),
    "no merges": ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "its BPE model has no key 'merges'. Correct"),
    "merge beyond the vocabulary": (
        {"model": {**BPE, "merges": [["a", "c"]]}},
        "merges to the token 'c', which is not",
    ),
    "result beyond the vocabulary": ({"model": BPE}, "its BPE model merges to the token 'ab', which is not in its"),
    "merge of an older form": ({"model": {**BPE, "merges": ["a b"]}}, "its BPE model merges to the token 'ab', which"),
    "ids of another form": (
        {"model": {**VALID["model"], "vocab": {"a": -1}}},
        "its WordLevel model has keys or values",
    ),
    "type of another form": ({"model": {"type": ["BPE"]}}, r"its model has the type \['BPE'\], but tokenizers \d"),
    "prefix of another form": (
        {"model": {**BPE, "continuing_subword_prefix": 5}},
        "its BPE model has keys or values of another form",
    ),
    "damaged component": ({"normalizer": DAMAGED}, f"its normalizer 'Precompiled' {OTHER_FORM}"),
    "damaged component of a sequence": (
        {"normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, DAMAGED]}},
        f"its normalizer 'Precompiled' {OTHER_FORM}",
    ),
    "missing key of a component": ({"normalizer": {"type": "Replace"}}, f"its normalizer 'Replace' {OTHER_FORM}"),
    "members of another form": (
        {"decoder": {"type": "Sequence", "decoders": 3}},
        f"its decoder 'Sequence' {OTHER_FORM}",
    ),
    "long type": ({"decoder": {"type": "J" * 200}}, r"its decoder 'J{79}\.\.\. is none that"),
    "long type of a model": ({"model": {"type": "J" * 200}}, r"has the type 'J{79}\.\.\., but tokenizers \d"),
    "long version": ({"version": [1] * 200}, r"has the format version \[(1, ){26}1\.\.\., but tokenizers \d"),
    "long token": ({"model": {**BPE, "merges": [["a", "c" * 200]]}}, r"to the token 'c{79}\.\.\., which is not"),
    "model of another form": ({"model": []}, "its model is JSON of the type list, not an object"),
}


@pytest.mark.parametrize(("change", "told"), PROBLEMS.values(), ids=PROBLEMS)
def test_the_part_of_a_file_that_the_library_refuses_is_named(change: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({**VALID, **change}))
    with pytest.raises(TokenizerError, match=rf"is not a tokenizer file, .*{told}") as caught:
        PretrainedTokenization(filepath=path, unk_token="<UNK>").load()
    assert "reports" not in str(caught.value)


FILES = {
    "vocab.json": (b'{"a": 0, "b": 1}', r"token ids without a model, which tokenizer=vocabulary_file reads$"),
    "tokenizer_config.json": (b'{"tokenizer_class": "T5Tokenizer"}', "it is a tokenizer_config.json of transformers"),
    "other JSON": (b'{"lamps": "many"}', "it has no key 'model'$"),
    "a list": (b"[1]", "it is JSON of the type list, not an object"),
    "cut short": (b'{"version": "1.0", "mod', r"the error is at line 1, column \d+$"),
    "text": (b"lamp", "the error is at line 1, column 1$"),
    "BOM": (b"\xef\xbb\xbf{}", "it begins with a byte order mark, which JSON does not allow$"),
    "UTF-16": ('{"a": 0}'.encode("utf-16"), "its byte 1 is not valid UTF-8"),
    "deep": (b"[" * 100_000, "it is nested too deeply|the error is at line"),
    "SentencePiece": (b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02", "which tokenizer=sentencepiece reads$"),
    "NUL": (b"\x00", "the error is at line 1, column 1$"),
}


@pytest.mark.parametrize(("content", "told"), FILES.values(), ids=FILES)
def test_a_file_of_another_kind_is_named(content: bytes, told: str) -> None:
    with pytest.raises(Exception, match=r"line \d|utf-8") as caught:  # the library raises plain Exception
        Tokenizer.from_str(content.decode())
    assert re.search(told, tokenizer_json_problem(content, caught.value))


def test_a_valid_file_keeps_the_class_of_the_error() -> None:
    assert tokenizer_json_problem(json.dumps(VALID), RuntimeError("x")) == "tokenizers reports RuntimeError"


def test_a_damaged_component_is_told_without_a_further_panic(capfd: pytest.CaptureFixture[str]) -> None:
    told = tokenizer_json_problem(json.dumps({**VALID, "normalizer": DAMAGED}), RuntimeError("the library panics"))
    assert told == "its normalizer 'Precompiled' has keys or values of another form"
    assert capfd.readouterr().err == ""


def test_a_form_that_no_rule_expects_keeps_the_class_of_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    module = "mtx.data.tokenize.tokenizer_json_problem"
    monkeypatch.setattr(f"{module}._components", [].index)  # so that the diagnosis fails
    told = tokenizer_json_problem(json.dumps({**VALID, "decoder": "Join"}), RuntimeError("x"))
    assert told == "tokenizers reports RuntimeError"


@pytest.mark.parametrize("charsmap", [None, 3, "AAAA", "é"])
def test_a_character_map_is_decoded_as_the_library_does(charsmap: Any) -> None:
    normalizer = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    told = tokenizer_json_problem(json.dumps({**VALID, "normalizer": normalizer}), RuntimeError("x"))
    assert told == "its normalizer 'Precompiled' has keys or values of another form"
