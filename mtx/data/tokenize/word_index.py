"""The words of a training split as arrays, from which subword sampling encodes each epoch without reading the text.

A word is a unit of the tokenizer's normaliser and pre-tokenizer, and no token crosses its bounds. Each distinct word of
a side is stored once, and a row is an array of word numbers. A word-level model of the `tokenizers` library, with the
same normaliser and pre-tokenizer, finds the words on all cores.

The words are stored in `words/ID/`, in three files per side, which processes memory-map. The folder is an artifact
(`mtx.infra.dal.artifact`): it is written atomically and verified when opened.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.trainers import WordLevelTrainer

from mtx.components.identity import JSON, digest
from mtx.data.stage_runner import StageRunner, say_reused
from mtx.data.store import Store
from mtx.data.tokenize.tokenization import encode_texts
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.data.tokenize.user_symbols import add_symbols, symbol_ids, texts_between_symbols
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.atomic_file import atomic_file
from mtx.progress.tracking import Phases, Waiting

VERSION = 1  # increase this when the same texts and tokenizer give other files; it is part of all ids
ROWS_PER_CALL = 8192  # texts per call of the library, which processes them in threads
MAX_DISTINCT_WORDS = 2**31 - 1  # maximum number of distinct words
COLUMNS = {"source": "src", "target": "tgt"}


@dataclass(frozen=True)
class WordIndex:
    """The words of one side of a split.

    Attributes:
        distinct: all distinct words; word number k is `distinct[k]`.
        numbers: uint32 [words of all rows], the word numbers; may be memory-mapped.
        offsets: int64 [n + 1]; row i has the words `numbers[offsets[i]:offsets[i + 1]]`.
    """

    distinct: list[str]
    numbers: NDArray[np.uint32]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1


def get_or_build_words(runner: StageRunner, filtered_id: str, tokenizers: TokenizerPair) -> str:
    """Return the id of the words of a filtered dataset, after building them if they are not stored."""
    described: dict[str, JSON] = {
        "stage": "words",
        "version": VERSION,
        "filtered": filtered_id,
        "tokenizer": tokenizers.id,
    }
    words_id = f"words-{digest(described)}"

    def build(folder: Path) -> None:
        waiting.over()
        runner.built.append(words_id)
        with Phases("splitting the training texts into words", "words") as phases:
            rows = runner.repo.get_checked(filtered_id).rows
            for side, tokenizer in (("source", tokenizers.source), ("target", tokenizers.target)):
                _write_words(folder, side, tokenizer, rows, phases)

    with Waiting(words_id) as waiting:
        runner.store.words.get_or_build(words_id, build, described)
    if words_id not in runner.built:
        say_reused("words")
    return words_id


def load_words(store: Store, words_id: str) -> dict[str, WordIndex]:
    """Return the stored words of both sides, memory-mapped, by `source` and `target`."""
    at = store.words.open(words_id)
    return {side: _read_words(at, side) for side in COLUMNS}


def word_level_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Return an untrained word-level tokenizer, whose tokens are the words into which `tokenizer` splits texts."""
    words = Tokenizer(WordLevel(unk_token=""))  # no word is the empty string
    if tokenizer.normalizer is not None:
        words.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        words.pre_tokenizer = tokenizer.pre_tokenizer
    return words


def cut_words(
    tokenizer: Tokenizer,
    texts: Callable[[], Iterator[list[str]]],
    num_texts: int = 0,
    phases: Phases | None = None,
    side: str = "",
) -> tuple[list[str], Iterator[list[list[int]]]]:
    """Return the distinct words of `texts`, and a stream of batches of rows of word numbers.

    Args:
        tokenizer: the tokenizer whose normaliser and pre-tokenizer split texts into words.
        texts: returns a stream of all texts in batches; called twice.
        num_texts: number of texts.
        phases: shows the progress of both passes over the texts.
        side: name of the side in the progress display.
    """

    def rows(doing: str) -> Iterator[list[str]]:
        return texts() if phases is None else phases.through(texts(), f"{doing} in the {side}", num_texts)

    cutter = word_level_tokenizer(tokenizer)
    trainer = WordLevelTrainer(vocab_size=MAX_DISTINCT_WORDS, min_frequency=0, show_progress=False, special_tokens=[])
    symbols = [*symbol_ids(tokenizer)]
    cutter.train_from_iterator(texts_between_symbols(rows("finding words"), symbols), trainer)
    add_symbols(cutter, symbols)
    vocab = cutter.get_vocab()
    return sorted(vocab, key=vocab.__getitem__), (encode_texts(cutter, some) for some in rows("numbering words"))


def _texts(rows: Rows, column: str) -> Iterator[list[str]]:
    for batch in rows.batches([column]):
        for start in range(0, batch.num_rows, ROWS_PER_CALL):
            yield batch.column(0).slice(start, ROWS_PER_CALL).to_pylist()


def _write_words(at: Path, side: str, tokenizer: Tokenizer, rows: Rows, phases: Phases) -> None:
    distinct, stream = cut_words(tokenizer, partial(_texts, rows, COLUMNS[side]), len(rows), phases, side)
    lengths = [np.zeros(1, dtype=np.int64)]
    with atomic_file(at / f"{side}.words") as file:
        for words in stream:
            lengths.append(np.fromiter(map(len, words), dtype=np.int64, count=len(words)))
            file.write(np.fromiter(chain.from_iterable(words), dtype=np.uint32).data)
    with atomic_file(at / f"{side}.offsets") as file:
        file.write(np.cumsum(np.concatenate(lengths)).data)
    with atomic_file(at / f"{side}.json") as file:
        file.write(json.dumps(distinct, ensure_ascii=False).encode())


def _read_words(at: Path, side: str) -> WordIndex:
    return WordIndex(
        json.loads((at / f"{side}.json").read_bytes()),
        _mapped_array(at / f"{side}.words", np.uint32),
        _mapped_array(at / f"{side}.offsets", np.int64),
    )


def _mapped_array(path: Path, dtype: Any) -> NDArray[Any]:
    if not path.stat().st_size:  # an empty file cannot be memory-mapped
        return np.empty(0, dtype=dtype)
    return np.asarray(np.memmap(path, dtype=dtype, mode="r"))
