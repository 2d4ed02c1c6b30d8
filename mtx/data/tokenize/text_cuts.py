"""Positions at which texts may be split so that a tokenizer returns the same token ids for the parts.

`cut_places` finds the positions, and `cut_rule` decides from a tokenizer's parts whether no token crosses them.
"""

import json
import string
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import unigram
from mtx.data.tokenize.byte import byte_chars
from mtx.data.tokenize.separate_normalisation import NORMAL_FORMS, SeparateNormaliser, separate_normaliser
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter

SPACE = 0x20
# White space outside ASCII, and characters that are sometimes treated as white space, such as SentencePiece's mark of a
# space. Their UTF-8 is compared as a number of two or three bytes. Text is not split at a space after one of these
# characters or after an ASCII control character.
WIDE_SPACES = [*"\u2581\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff", *map(chr, range(0x2000, 0x200C))]
WIDE_SPACES_UTF8 = np.array([int.from_bytes(char.encode()) for char in WIDE_SPACES], dtype=np.uint32)
TWO_BYTES, THREE_BYTES = WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 < 1 << 16], WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 >= 1 << 16]

# "keep": a piece keeps its leading space; "classes": the same, and texts are also cut at `class_changes`; "drop": the
# tokenizer prepends a space itself
CutRule = Literal["keep", "classes", "drop"]
Bounds = NDArray[np.int64]  # positions in an array of bytes
# Pre-tokenizers that end a word at each space, and then split each word independently of the others.
SPACE_SPLITTERS = ("BertPreTokenizer", "Whitespace", "WhitespaceSplit")
WORD_SPLITTERS = (*SPACE_SPLITTERS, "Digits", "Punctuation", "Split")
ASCII_CLASSES = np.zeros(256, dtype=np.uint8)  # 0: none
ASCII_CLASSES[np.frombuffer(string.ascii_letters.encode(), dtype=np.uint8)] = 1
ASCII_CLASSES[np.frombuffer(string.digits.encode(), dtype=np.uint8)] = 2
ASCII_CLASSES[np.frombuffer(string.punctuation.replace("'", "").encode(), dtype=np.uint8)] = 3


def cut_places(data: NDArray[np.uint8]) -> Bounds:
    """Return where UTF-8 text may be split: before each space that follows a visible character, int64 positions.

    At such a position, every tokenizer that `cut_rule` accepts begins a token. Its words contain a space only at their
    start or among other white space. Unicode normalisation does not cross such a position, and leaves no white space
    before it. If `data` contains several texts, the first byte of a text may be such a position.
    """
    places: Bounds = np.flatnonzero(data[1:] == SPACE) + 1
    before = data[places - 1]
    plain = (before > SPACE) & (before != 0x7F)
    wide = np.flatnonzero(before >= 0x80)
    last = places[wide] - 1
    two = data[last].astype(np.uint32) | data[last - 1].astype(np.uint32) << 8
    three = two | data[np.maximum(last - 2, 0)].astype(np.uint32) << 16
    plain[wide] = ~(np.isin(two, TWO_BYTES) | np.isin(three, THREE_BYTES))
    kept: Bounds = places[plain]
    return kept


def class_changes(data: NDArray[np.uint8]) -> Bounds:
    """Return the positions between ASCII characters of two of these classes: letters, digits, punctuation.

    GPT-2's pattern ends a word at each of them. The apostrophe belongs to no class, because the pattern joins it with
    some letters.
    """
    of_byte = ASCII_CLASSES[data]
    before, after = of_byte[:-1], of_byte[1:]
    changes: Bounds = np.flatnonzero((before != after) & (before > 0) & (after > 0)) + 1
    return changes


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
