"""A training split as words: what subword sampling draws anew in each epoch, without touching the text again.

A word is what the tokenizer's normaliser and pre-tokenizer make of a text, and what no token reaches across. Each
distinct word of a side is kept once, and a row is an array of word numbers. The `tokenizers` library finds them on all
cores: a word-level model behind the same normaliser and pre-tokenizer gives the words of a text as ids.

Kept in the store, in `words/ID/`: three files a side, which processes map into memory. The folder is a bundle
(`mtx.infra.dal.bundle`): it appears whole or not at all, and is checked when it is opened.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer

from mtx.data.progress import working
from mtx.data.store import Store
from mtx.data.tokenize.base import encode_texts
from mtx.data.tokenize.pair import TokenizerPair
from mtx.identity import JSON, digest
from mtx.infra.dal.base import atomic_file

VERSION = 1  # goes up when the same texts and tokenizer would give other files
ROWS_AT_ONCE = 8192  # texts given to the library's threads together
ANY_NUMBER = 2**31 - 1  # of distinct words
COLUMNS = {"source": "src", "target": "tgt"}


@dataclass(frozen=True)
class Words:
    """One side of a split as words.

    Attributes:
        distinct: each distinct word once; word k is `distinct[k]`.
        numbers: uint32 [words of all rows]; may be memory-mapped.
        offsets: int64 [n + 1]; row i has `numbers[offsets[i]:offsets[i + 1]]`.
    """

    distinct: list[str]
    numbers: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def get_or_cut(store: Store, filtered_id: str, tokenizers: TokenizerPair, built: list[str]) -> str:
    """Return the id of the words of a filtered dataset, cut now if they are not in the store.

    Adds the id to `built` where it cuts.
    """
    described: dict[str, JSON] = {
        "stage": "words",
        "version": VERSION,
        "filtered": filtered_id,
        "tokenizer": tokenizers.id,
    }
    words_id = f"words-{digest(described)}"

    def build(folder: Path) -> None:
        built.append(words_id)
        with working("cutting the training texts into words"):
            table = store.repo.get(filtered_id).rows.table
            for side, tokenizer in (("source", tokenizers.source), ("target", tokenizers.target)):
                _write(folder, side, tokenizer, table[COLUMNS[side]])

    store.words.get_or_build(words_id, build, described)
    return words_id


def load_words(store: Store, words_id: str) -> dict[str, Words]:
    """Map the words of both sides, `source` and `target`, into memory."""
    at = store.words.open(words_id)
    return {side: _read(at, side) for side in COLUMNS}


def word_level(tokenizer: Tokenizer) -> Tokenizer:
    """Return a tokenizer, to be trained, whose tokens are the words of `tokenizer`."""
    words = Tokenizer(WordLevel(unk_token=""))  # which no word is
    if tokenizer.normalizer is not None:
        words.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        words.pre_tokenizer = tokenizer.pre_tokenizer
    return words


def cut_words(tokenizer: Tokenizer, texts: pa.ChunkedArray | pa.Array) -> tuple[list[str], Iterator[list[list[int]]]]:
    """Return the distinct words of `texts`, and a stream of the word numbers of some rows at a time."""
    cutter = word_level(tokenizer)
    trainer = WordLevelTrainer(vocab_size=ANY_NUMBER, min_frequency=0, show_progress=False, special_tokens=[])
    cutter.train_from_iterator(_some(texts), trainer)
    vocab = cutter.get_vocab()
    return sorted(vocab, key=vocab.__getitem__), (encode_texts(cutter, some) for some in _some(texts))


def _some(texts: pa.ChunkedArray | pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(texts), ROWS_AT_ONCE):
        yield texts.slice(start, ROWS_AT_ONCE).to_pylist()


def _write(at: Path, side: str, tokenizer: Tokenizer, texts: pa.ChunkedArray) -> None:
    distinct, stream = cut_words(tokenizer, texts)
    lengths = [np.zeros(1, dtype=np.int64)]
    with atomic_file(at / f"{side}.words") as file:
        for rows in stream:
            lengths.append(np.fromiter(map(len, rows), dtype=np.int64, count=len(rows)))
            file.write(np.fromiter(chain.from_iterable(rows), dtype=np.uint32).data)
    with atomic_file(at / f"{side}.offsets") as file:
        file.write(np.cumsum(np.concatenate(lengths)).data)
    with atomic_file(at / f"{side}.json") as file:
        file.write(json.dumps(distinct, ensure_ascii=False).encode())


def _read(at: Path, side: str) -> Words:
    return Words(
        json.loads((at / f"{side}.json").read_bytes()),
        _mapped(at / f"{side}.words", np.uint32),
        _mapped(at / f"{side}.offsets", np.int64),
    )


def _mapped(path: Path, dtype: Any) -> NDArray[Any]:
    if not path.stat().st_size:  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
