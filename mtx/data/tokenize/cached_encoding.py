"""Encodes many texts into one flat array of token ids, and encodes each distinct piece of text only once.

Words repeat in texts, but the `tokenizers` library encodes each occurrence again. `FlatEncoder` therefore splits texts
before spaces, encodes the distinct pieces, and concatenates their ids. It does so only if `cut_rule` proves that no
token of the tokenizer crosses such a split, so that the ids are equal. Other tokenizers, and texts whose pieces rarely
repeat, such as those of languages without spaces, are encoded as whole texts.
"""

import json
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import unigram, wordpiece
from mtx.data.tokenize.tokenization import encode_texts, prepare_tokenizer

TEXTS_PER_CALL = 8192  # texts per call of the library, which encodes them in threads; results take 100 bytes per token
MAX_DISTINCT_SHARE = 0.6  # maximum share of the bytes in distinct pieces; above it, encoding whole texts is as fast
SPACE = 0x20
NORMAL_FORMS = ("NFC", "NFKC", "NFD", "NFKD")
# White space outside ASCII, and two characters that are sometimes treated as white space. Their UTF-8 is compared as a
# number of two or three bytes. Text is not split at a space after one of these characters or after an ASCII control
# character.
WIDE_SPACES = [*"\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff", *map(chr, range(0x2000, 0x200C))]
WIDE_SPACES_UTF8 = np.array([int.from_bytes(char.encode()) for char in WIDE_SPACES], dtype=np.uint32)
TWO_BYTES, THREE_BYTES = WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 < 1 << 16], WIDE_SPACES_UTF8[WIDE_SPACES_UTF8 >= 1 << 16]

Ids = NDArray[np.uint16 | np.uint32]
CutRule = Literal[
    "keep", "drop"
]  # "keep": a piece keeps its leading space; "drop": the tokenizer prepends a space itself
Bounds = NDArray[np.int64]  # positions in an array of bytes


@dataclass(frozen=True)
class FlatEncoder:
    """Encodes texts like `encode_texts`, but into one flat array.

    Attributes:
        tokenizer: the tokenizer; must not be changed afterwards.
        dtype: type of the token ids, uint16 or uint32.
        rule: the result of `cut_rule` for the tokenizer; None: texts are encoded as a whole.
    """

    tokenizer: Tokenizer
    dtype: type[np.uint16] | type[np.uint32]
    rule: CutRule | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "FlatEncoder":
        """Return an encoder for a tokenizer, with the dtype and the split rule that suit the tokenizer."""
        prepare_tokenizer(tokenizer)
        size = max(tokenizer.get_vocab().values(), default=0) + 1
        return cls(tokenizer, np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32, cut_rule(tokenizer))

    def encode(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        """Return the number of token ids of each text, int64 [n], and the concatenated ids of all texts.

        Takes about 10 times the memory of the texts. Runs in parallel unless `TOKENIZERS_PARALLELISM=false`.
        """
        if self.rule is None:
            return self._encode_each(texts)
        data, ends = _buffers(texts)
        cuts = cut_places(data)
        is_bound = np.zeros(len(data) + 1, dtype=np.bool_)
        is_bound[ends] = True
        if self.rule == "drop":
            cuts = cuts[
                ~is_bound[cuts] & ~is_bound[cuts + 1]
            ]  # do not remove a space at the start or the end of a text
            is_bound[cuts + 1] = True
        is_bound[cuts] = True
        bounds = np.flatnonzero(is_bound)
        pieces = pa.LargeStringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data))
        coded = pieces.dictionary_encode()
        if int(pc.sum(pc.binary_length(coded.dictionary)).as_py() or 0) > MAX_DISTINCT_SHARE * len(data):
            return self._encode_each(texts)
        lengths, ids = self._encode_each(coded.dictionary)
        which = coded.indices.to_numpy()
        taken = lengths[which]
        if self.rule == "drop":
            taken[np.searchsorted(bounds, cuts)] = 0
        until = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(taken)])
        starts = np.cumsum(lengths) - lengths
        places = np.repeat(starts[which] - until[:-1], taken)
        places += np.arange(len(places))
        return np.diff(until[np.searchsorted(bounds, ends)]), ids[places]

    def _encode_each(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        lengths, ids = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=self.dtype)]
        for start in range(0, len(texts), TEXTS_PER_CALL):
            rows = encode_texts(self.tokenizer, texts.slice(start, TEXTS_PER_CALL).to_pylist())
            lengths.append(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
            count = int(lengths[-1].sum())
            ids.append(np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=count))
        return np.concatenate(lengths), np.concatenate(ids)


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


def cut_rule(tokenizer: Tokenizer) -> CutRule | None:
    """Return how texts may be split at `cut_places` for this tokenizer; None: not at all, or not known to be safe.

    `keep`: no token crosses such a position. `drop`: the same, but the tokenizer also prepends a space to each text.
    """
    described = json.loads(tokenizer.to_str())
    model, steps = described["model"], _normalizer_steps(described["normalizer"])
    if any(not token["special"] for token in described["added_tokens"]) or model.get("dropout"):
        return None
    if encode_texts(tokenizer, [""]) != [[]]:
        return None
    prepends = steps[-1:] == [{"type": "Prepend", "prepend": " "}]
    if any(step["type"] not in NORMAL_FORMS for step in (steps[:-1] if prepends else steps)):
        return None
    words = described["pre_tokenizer"]
    if prepends:
        return "drop" if words == _pre_tokenizer_state(unigram.word_splitter()) else None
    if words in (_pre_tokenizer_state(wordpiece.word_splitter()), {"type": "BertPreTokenizer"}):
        return "keep"
    if words is None or words["type"] != "ByteLevel":
        return None
    only_bytes = model["type"] == "BPE" and not model["merges"] and not model["ignore_merges"]
    return "keep" if words["use_regex"] or only_bytes else None


def _normalizer_steps(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    return [*described["normalizers"]] if described["type"] == "Sequence" else [described]


def _pre_tokenizer_state(pre_tokenizer: Any) -> Any:
    return json.loads(pre_tokenizer.__getstate__())


def _buffers(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], Bounds]:
    """Return the bytes of all texts, and the n + 1 bounds of the texts in them, int64; both without a copy."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return held[ends[0] : ends[-1]], ends - ends[0]
