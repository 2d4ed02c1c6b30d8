"""The size of a vocabulary is its largest id + 1, and an id beyond all models is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer

from mtx.data.tokenize.pretrained import PretrainedTokenization
from mtx.data.tokenize.tokenization import MAX_TOKEN_ID, vocabulary_size
from mtx.errors import TokenizerError

SPECIAL = {"<PAD>": 0, "<BOS>": 1, "<EOS>": 2, "<UNK>": 3}


def written(folder: Path, vocabulary: dict[str, int], model: str = "WordLevel", **added: int) -> Path:
    """Write a tokenizer with a vocabulary, and with added tokens that have ids of their own."""
    described: dict[str, Any] = {"type": model, "vocab": {**SPECIAL, **vocabulary}, "unk_token": "<UNK>"}
    described |= {"merges": []} if model == "BPE" else {}
    described |= {"continuing_subword_prefix": "##", "max_input_chars_per_word": 9} if model == "WordPiece" else {}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokens = [{"id": number, "content": name, **flags} for name, number in added.items()]
    parts = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
    content = {"version": "1.0", **parts, "pre_tokenizer": {"type": "Whitespace"}, "added_tokens": tokens}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**content, "model": described}))
    return path


@pytest.mark.parametrize("model", ["WordLevel", "BPE", "WordPiece"])
@pytest.mark.parametrize(
    "vocabulary", [{"a": 4}, {"a": 700, "b": 900}, {"a": 65535}, {"a": 65536}, {"a": MAX_TOKEN_ID}]
)
def test_the_size_is_the_largest_id_and_one(tmp_path: Path, model: str, vocabulary: dict[str, int]) -> None:
    loaded = PretrainedTokenization(filepath=written(tmp_path, vocabulary, model)).load()
    assert vocabulary_size(loaded.tokenizer) == max(vocabulary.values()) + 1


@pytest.mark.parametrize("model", ["WordLevel", "BPE", "WordPiece"])
@pytest.mark.parametrize("number", [MAX_TOKEN_ID + 1, 2**31, 2**32 - 1])
def test_an_id_beyond_the_bound_is_refused(tmp_path: Path, model: str, number: int) -> None:
    with pytest.raises(TokenizerError) as error:
        PretrainedTokenization(filepath=written(tmp_path, {"river": number}, model)).load()
    assert f"the token 'river' has the id {number}, but ids are at most {MAX_TOKEN_ID}" in str(error.value)
    assert "tokenizer.filepath" in str(error.value)


def test_added_tokens_count() -> None:
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}))
    assert vocabulary_size(tokenizer) == 0
    tokenizer.add_tokens([AddedToken("one"), AddedToken("two")])
    assert vocabulary_size(tokenizer) == 2


def test_the_id_of_an_added_token_may_lie_beyond_the_vocabulary(tmp_path: Path) -> None:
    loaded = PretrainedTokenization(filepath=written(tmp_path, {"a": 4}, extra=5)).load()
    assert vocabulary_size(loaded.tokenizer) == 6
