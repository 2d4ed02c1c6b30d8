"""How texts may be cut so that a tokenizer returns the same token ids for the pieces, decided from its parts."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import unigram
from mtx.data.tokenize.byte import byte_chars
from mtx.data.tokenize.separate_normalisation import NORMAL_FORMS, SeparateNormaliser, separate_normaliser
from mtx.data.tokenize.text_pieces import CutRule
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter

# Pre-tokenizers that end a word at each space, and then split each word independently of the others.
SPACE_SPLITTERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
WORD_SPLITTERS = (*SPACE_SPLITTERS, "Digits", "Punctuation", "Split")


def cut_rule(tokenizer: Tokenizer) -> CutRule | None:
    """Return how texts may be split at `cut_places` for this tokenizer; None: not at all, or not known to be safe.

    `keep`: no token crosses such a position. `classes`: nor does one cross a position of `class_changes`. `drop`: as
    `keep`, but the tokenizer also prepends a space to each text. If `piece_check` returns a check, this holds only for
    pieces that the check accepts.
    """
    if isinstance(tokenizer, TokenizerAdapter):
        return "keep" if tokenizer.splits_words else None
    described = json.loads(tokenizer.to_str())
    model, steps = described["model"], normalizer_steps(described["normalizer"])
    if any(not token["special"] for token in described["added_tokens"]) or model.get("dropout"):
        return None
    if encode_texts(tokenizer, [""]) != [[]]:
        return None
    prepends = steps[-1:] == [{"type": "Prepend", "prepend": " "}]
    words = described["pre_tokenizer"]
    if _needs_check(steps[:-1] if prepends else steps):
        begins_with_space = words is not None and (drops_spaces(words) or is_split_metaspace(words))
        return "keep" if begins_with_space and separate_normaliser(steps) is not None else None
    if prepends:
        return "drop" if words == _state(unigram.word_splitter()) else None
    if words is None:
        return None
    if drops_spaces(words) or is_split_metaspace(words):
        return "keep"
    if words["type"] != "ByteLevel":
        return None
    only_bytes = model["type"] == "BPE" and not model["merges"] and not model["ignore_merges"]
    if words["use_regex"]:
        # with add_prefix_space, a piece that begins at a class change would get a space before it
        return "keep" if words["add_prefix_space"] else "classes"
    return "keep" if only_bytes else None


def piece_check(tokenizer: Tokenizer) -> SeparateNormaliser | None:
    """Return the check for pieces that may be encoded alone with this tokenizer; None: all may, or no text is cut."""
    if isinstance(tokenizer, TokenizerAdapter) or tokenizer.normalizer is None:
        return None
    steps = normalizer_steps(_state(tokenizer.normalizer))  # the vocabulary, which may be large, is not parsed
    return separate_normaliser(steps) if _needs_check(steps) else None


def _needs_check(steps: list[dict[str, Any]]) -> bool:
    return any(step["type"] not in NORMAL_FORMS for step in steps)


def drops_spaces(described: dict[str, Any]) -> bool:
    """Return whether a pre-tokenizer, described as in its JSON, ends words at spaces, and no word contains a space."""
    first, *others = _steps(described)
    return first["type"] in SPACE_SPLITTERS and all(map(_splits_words, others))


def is_split_metaspace(described: dict[str, Any]) -> bool:
    """Return whether a pre-tokenizer is that of SentencePiece, splits at spaces, and begins every text with a space."""
    first, *others = _steps(described)
    return _is_metaspace(first) and all(map(_splits_words, others))


def _splits_words(step: dict[str, Any]) -> bool:
    return step["type"] in WORD_SPLITTERS or _is_metaspace(step)


def _is_metaspace(step: dict[str, Any]) -> bool:
    return step["type"] == "Metaspace" and step.get("prepend_scheme") == "always" and step.get("split") is True


def _steps(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of a pre-tokenizer, at least one."""
    return (described["pretokenizers"] if described["type"] == "Sequence" else [described]) or [{"type": ""}]


def normalizer_steps(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the steps of a normaliser, described as in its JSON."""
    if described is None:
        return []
    return [*described["normalizers"]] if described["type"] == "Sequence" else [described]


def byte_ids(tokenizer: Tokenizer) -> NDArray[np.int64] | None:
    """Return the token id of each byte, int64 [256], if each byte of a text is one token; else None."""
    if isinstance(tokenizer, TokenizerAdapter):
        return None
    described = json.loads(tokenizer.to_str())
    model, words = described["model"], described["pre_tokenizer"]
    if model["type"] != "BPE" or described["normalizer"] is not None:
        return None
    if any(model.get(key) for key in ("merges", "ignore_merges", "continuing_subword_prefix", "end_of_word_suffix")):
        return None
    if words is None or words["type"] != "ByteLevel" or words["add_prefix_space"]:
        return None
    if any(not token["special"] for token in described["added_tokens"]) or model.get("dropout"):
        return None
    ids = [model["vocab"].get(char) for char in byte_chars()]
    return None if None in ids else np.array(ids, dtype=np.int64)


def _state(part: Any) -> Any:
    """Return a part of a tokenizer, such as its normaliser, described as in its JSON."""
    return json.loads(part.__getstate__())
