"""Ids of many texts as one flat array, where each distinct piece of them is encoded once.

Texts repeat their words, and the library takes its time for each of them again. So texts are cut before spaces, the
distinct pieces are encoded, and the ids of the texts are put together from those of their pieces. That is done only for
tokenizers of which it is certain that no token depends on what lies across such a cut (`rule_of`), so the ids are the
same; other texts, and those whose pieces hardly repeat, as in languages without spaces, are encoded whole.
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
from mtx.data.tokenize.base import encode_texts, ready

AT_ONCE = 8192  # texts given to the library's threads together; what they return takes some 100 bytes a token
MOST_DISTINCT = 0.6  # of the bytes; above it, encoding whole texts is as fast
SPACE = 0x20
NORMAL_FORMS = ("NFC", "NFKC", "NFD", "NFKD")
# White space beyond ASCII, and two that some have counted as such. Their UTF-8 ends in one of these, in two or three
# bytes read as a number. A space behind one of them is no place to cut; nor is one behind an ASCII control.
WIDE_SPACES = [*"\x85\xa0\u1680\u180e\u2028\u2029\u202f\u205f\u3000\ufeff", *map(chr, range(0x2000, 0x200C))]
IN_UTF8 = np.array([int.from_bytes(char.encode()) for char in WIDE_SPACES], dtype=np.uint32)
TWO_BYTES, THREE_BYTES = IN_UTF8[IN_UTF8 < 1 << 16], IN_UTF8[IN_UTF8 >= 1 << 16]

Ids = NDArray[np.uint16 | np.uint32]
Rule = Literal["keep", "drop"]  # whether a piece keeps the space it begins with, or the tokenizer puts one there
Bounds = NDArray[np.int64]  # places in an array of bytes


@dataclass(frozen=True)
class FlatEncoder:
    """Encodes texts as `encode_texts` does, into one flat array.

    Attributes:
        tokenizer: must not be changed any more.
        dtype: uint16 or uint32, of the ids.
        rule: what `rule_of` says of the tokenizer; None: texts are encoded whole.
    """

    tokenizer: Tokenizer
    dtype: type[np.uint16] | type[np.uint32]
    rule: Rule | None

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "FlatEncoder":
        """Look at what `tokenizer` does."""
        ready(tokenizer)
        size = max(tokenizer.get_vocab().values(), default=0) + 1
        return cls(tokenizer, np.uint16 if size <= np.iinfo(np.uint16).max + 1 else np.uint32, rule_of(tokenizer))

    def encode(self, texts: pa.LargeStringArray) -> tuple[NDArray[np.int64], Ids]:
        """Return the number of ids of each text, int64 [n], and all ids, one text after the other.

        Needs memory of some 10 times the texts. Parallel unless `TOKENIZERS_PARALLELISM=false`.
        """
        if self.rule is None:
            return self._encode_each(texts)
        data, ends = _buffers(texts)
        cuts = cut_places(data)
        is_bound = np.zeros(len(data) + 1, dtype=np.bool_)
        is_bound[ends] = True
        if self.rule == "drop":
            cuts = cuts[~is_bound[cuts] & ~is_bound[cuts + 1]]  # a text's first space gets one more, its last one none
            is_bound[cuts + 1] = True
        is_bound[cuts] = True
        bounds = np.flatnonzero(is_bound)
        pieces = pa.LargeStringArray.from_buffers(len(bounds) - 1, pa.py_buffer(bounds), pa.py_buffer(data))
        coded = pieces.dictionary_encode()
        if int(pc.sum(pc.binary_length(coded.dictionary)).as_py() or 0) > MOST_DISTINCT * len(data):
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
        for start in range(0, len(texts), AT_ONCE):
            rows = encode_texts(self.tokenizer, texts.slice(start, AT_ONCE).to_pylist())
            lengths.append(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
            count = int(lengths[-1].sum())
            ids.append(np.fromiter(chain.from_iterable(rows), dtype=self.dtype, count=count))
        return np.concatenate(lengths), np.concatenate(ids)


def cut_places(data: NDArray[np.uint8]) -> Bounds:
    """Return where UTF-8 text may be cut: before each space behind a character that is neither white space nor control.

    At such a place a token of the tokenizers that `rule_of` knows begins, whatever lies around it: their words hold a
    space only at their beginning or among other white space. Normal forms do not reach across it either, and leave no
    white space before it. Where `data` is several texts, the first byte of one may be among the places.
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


def rule_of(tokenizer: Tokenizer) -> Rule | None:
    """Return how texts of this tokenizer may be cut at `cut_places`; None: not at all, or not known.

    `keep`: its tokens never reach across such a place. `drop`: nor do they, but it puts a space before each text.
    """
    described = json.loads(tokenizer.to_str())
    model, steps = described["model"], _steps(described["normalizer"])
    if any(not token["special"] for token in described["added_tokens"]) or model.get("dropout"):
        return None
    if encode_texts(tokenizer, [""]) != [[]]:
        return None
    prepends = steps[-1:] == [{"type": "Prepend", "prepend": " "}]
    if any(step["type"] not in NORMAL_FORMS for step in (steps[:-1] if prepends else steps)):
        return None
    words = described["pre_tokenizer"]
    if prepends:
        return "drop" if words == _described(unigram.words()) else None
    if words in (_described(wordpiece.words()), {"type": "BertPreTokenizer"}):
        return "keep"
    if words is None or words["type"] != "ByteLevel":
        return None
    only_bytes = model["type"] == "BPE" and not model["merges"] and not model["ignore_merges"]
    return "keep" if words["use_regex"] or only_bytes else None


def _steps(described: dict[str, Any] | None) -> list[dict[str, Any]]:
    if described is None:
        return []
    return [*described["normalizers"]] if described["type"] == "Sequence" else [described]


def _described(pre_tokenizer: Any) -> Any:
    return json.loads(pre_tokenizer.__getstate__())


def _buffers(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], Bounds]:
    """Return the bytes of all texts, and where each begins and the last ends, int64 [n + 1]; both without a copy."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    held = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    return held[ends[0] : ends[-1]], ends - ends[0]
