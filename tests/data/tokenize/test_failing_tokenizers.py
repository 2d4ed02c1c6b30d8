"""A tokenizer file whose parts contradict each other is refused by name, also where the library panics."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenization import encode_texts
from mtx.errors import TokenizerError

BPE: dict[str, Any] = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": []}
TEXTS = ["ab c", "", "日本 a", "aaa" * 50]

FAILING: dict[str, dict[str, Any]] = {
    "words without the unknown token": {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "[UNK]"}},
    "pieces without the unknown token": {
        "model": {
            "type": "WordPiece",
            "vocab": {"a": 0},
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
        }
    },
    "an unknown token outside of the vocabulary": {"model": BPE | {"unk_token": "nope"}},
    "a unigram model without an unknown token": {"model": {"type": "Unigram", "unk_id": None, "vocab": [["a", -1.0]]}},
    "chunks of no length": {"model": BPE, "pre_tokenizer": {"type": "FixedLength", "length": 0}},
}
UNREADABLE: dict[str, dict[str, Any]] = {
    "a character map that is none": {
        "model": BPE,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"},
    },
    "a prefix longer than its pieces": {
        "model": BPE | {"continuing_subword_prefix": "######", "merges": [["a", "b"]]},
    },
    "an unknown model": {"model": {"type": "Nope"}},
}


def content_of(parts: dict[str, Any]) -> str:
    names = ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    return json.dumps(dict.fromkeys(names) | {"version": "1.0", "added_tokens": []} | parts)


@pytest.mark.parametrize("parts", FAILING.values(), ids=FAILING)
def test_a_tokenizer_that_fails_at_a_text_is_refused(parts: dict[str, Any]) -> None:
    tokenizer = Tokenizer.from_str(content_of(parts))
    with pytest.raises(TokenizerError, match=r"^the tokenizer cannot encode a text, because .+ fails \(.+\)\. "):
        encode_texts(tokenizer, TEXTS)


@pytest.mark.parametrize("parts", UNREADABLE.values(), ids=UNREADABLE)
def test_a_tokenizer_file_at_which_the_library_panics_is_refused(tmp_path: Path, parts: dict[str, Any]) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(content_of(parts))
    with pytest.raises(TokenizerError, match=r"is not a tokenizer file, .* Correct tokenizer\.filepath$"):
        PretrainedTokenization(filepath=str(path)).load()


def test_a_text_that_is_none_stays_an_error_of_the_type() -> None:
    with pytest.raises(TypeError):
        encode_texts(Tokenizer.from_str(content_of({"model": BPE})), [None])  # type: ignore[list-item]
