"""Pairs as subword tokens: a byte-level BPE vocabulary for each side, and each text as its distinct tokens with counts.

A model that ignores the order of tokens needs each distinct token of a text once. The work for a pair is therefore
bounded by the vocabularies, whatever the length of its texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.dataset import TranslationDataset
from mtx.data.score.scorer import Sample
from mtx.data.tokenize.bpe import MIN_VOCAB_SIZE, BPETokenization
from mtx.data.tokenize.cached_encoding import FlatEncoder
from mtx.infra.dal.atomic_file import atomic_file

PAIRS_PER_TOKEN = 5  # at least so many pairs for each learned token of a vocabulary; rare tokens explain nothing
VOCABULARY_PAIRS = 50_000  # from which vocabularies are learned; more pairs take longer and change few tokens
VOCABULARY_CHARS = 1000  # of each text from which vocabularies are learned, so that long texts do not fill the memory
COLUMNS = {"source": "src", "target": "tgt"}

Ints = NDArray[np.int64]
Floats32 = NDArray[np.float32]


@dataclass(frozen=True)
class Bags:
    """The distinct tokens of n texts, and how often each text contains them.

    Attributes:
        offsets: int64 [n + 1]; text k has the entries from `offsets[k]` to `offsets[k + 1]`, exclusive.
        tokens: uint16 [entries], ascending within a text.
        counts: float32 [entries].
    """

    offsets: Ints
    tokens: NDArray[np.uint16]
    counts: Floats32

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def num_distinct(self) -> Ints:
        """The number of distinct tokens of each text: int64 [n]."""
        return np.diff(self.offsets)

    @classmethod
    def of(cls, lengths: Ints, ids: NDArray[np.integer]) -> "Bags":
        """Count the tokens of texts, given the number of tokens of each text and the tokens of all texts."""
        keys = (np.repeat(np.arange(len(lengths), dtype=np.int64), lengths) << 16) | ids
        distinct, counts = np.unique(keys, return_counts=True)
        offsets = np.searchsorted(distinct, np.arange(len(lengths) + 1, dtype=np.int64) << 16)
        return cls(offsets, (distinct & 0xFFFF).astype(np.uint16), counts.astype(np.float32))

    @classmethod
    def joined(cls, parts: Sequence["Bags"]) -> "Bags":
        """Return the texts of several bags, at least one, one after the other."""
        starts = np.cumsum([0, *(len(part.tokens) for part in parts)])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, starts[:-1], strict=True)]
        return cls(
            np.concatenate([np.zeros(1, dtype=np.int64), *offsets]),
            np.concatenate([part.tokens for part in parts]),
            np.concatenate([part.counts for part in parts]),
        )

    def emptied(self, mask: NDArray[np.bool_]) -> "Bags":
        """Return the bags, those for which `mask`, bool [n], is True without their tokens."""
        if not mask.any():
            return self
        sizes = np.where(mask, 0, self.num_distinct)
        kept = np.repeat(~mask, self.num_distinct)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)])
        return Bags(offsets, self.tokens[kept], self.counts[kept])


def train_vocabularies(sample: Sample, folder: Path, *, vocab_size: int, sides: Sequence[str] = tuple(COLUMNS)) -> None:
    """Learn a BPE vocabulary for each side of a sample, and store it in `folder` as `SIDE.json`.

    A small corpus gets a smaller vocabulary than `vocab_size`; see `fitting_vocab_size`.
    """
    num_pairs = sum(batch.num_rows for batch in sample())
    step = -(-num_pairs // VOCABULARY_PAIRS)
    taken, first = [], 0
    for batch in sample():
        rows = np.arange(-first % step, batch.num_rows, step)
        texts = {name: pc.utf8_slice_codeunits(batch[name], 0, VOCABULARY_CHARS) for name in COLUMNS.values()}
        taken.append(pa.table(texts).take(pa.array(rows)))
        first += batch.num_rows
    pairs = pa.concat_tables(taken)
    size = fitting_vocab_size(vocab_size, num_pairs)
    for side in sides:
        texts = pairs[COLUMNS[side]]
        if not pc.any(pc.not_equal(pc.utf8_trim_whitespace(texts), "")).as_py():
            pairs = pa.table(dict.fromkeys(COLUMNS.values(), pa.array(["."], pa.large_string())))
        dataset = TranslationDataset(name="sample", stage="text", split="train", languages=("src", "tgt"), data=pairs)
        tokenizer = BPETokenization(vocab_size=size).train(dataset, side=side).tokenizer  # type: ignore[arg-type]
        with atomic_file(folder / f"{side}.json") as file:
            file.write(tokenizer.to_str().encode())


def fitting_vocab_size(largest: int, num_pairs: int) -> int:
    """Return the size of a vocabulary for a sample: the bytes, and one token for `PAIRS_PER_TOKEN` pairs."""
    return min(largest, MIN_VOCAB_SIZE + num_pairs // PAIRS_PER_TOKEN)


def load_encoder(folder: Path, side: str) -> FlatEncoder:
    """Return the encoder of a side from a folder with vocabularies."""
    return FlatEncoder.of(Tokenizer.from_file(str(folder / f"{side}.json")))


class PairEncoder:
    """Encodes pairs as bags of tokens.

    Args:
        folder: a folder with the vocabularies of both sides.

    Attributes:
        num_tokens: the sizes of the vocabularies of source and target.
    """

    def __init__(self, folder: Path) -> None:
        self._encoders = [load_encoder(folder, side) for side in COLUMNS]
        self.num_tokens = tuple(encoder.tokenizer.get_vocab_size() for encoder in self._encoders)

    def bags(self, pairs: pa.RecordBatch) -> tuple[Bags, Bags]:
        """Return the tokens of the sources and of the targets."""
        columns = zip(self._encoders, COLUMNS.values(), strict=True)
        source, target = (Bags.of(*encoder.encode(pairs[column])) for encoder, column in columns)
        return source, target
