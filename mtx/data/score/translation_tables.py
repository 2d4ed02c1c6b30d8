"""`TranslationTable`: probabilities of IBM Model 1 in one direction, trained on a sample, stored as a sparse table."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from mtx.cpu_count import granted_cores
from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.score.scorer import Sample
from mtx.data.score.subword_bags import Bags, PairEncoder
from mtx.data.score.translation_steps import available_steps

ITERATIONS = 4  # further ones fit the pairs of the sample, and tell bad pairs apart less
FLOOR = 0.1  # weight of the unigram model beside the given tokens
PRIOR = 0.5  # expected count that is added to the total of each given token: a token of one pair explains little
MAX_CELLS = 1 << 20  # longer pairs are left out of training: they say little about which tokens translate each other
MIN_OF_UNIGRAM = 1e-3  # stored probabilities are at least this share of the unigram probability; others change nothing
DIRECTIONS = ("forward", "backward")

Floats32 = NDArray[np.float32]
Result = TypeVar("Result")


@dataclass(frozen=True)
class UnigramModel:
    """How often each token of a side occurs in the sample.

    Attributes:
        counts: float32 [tokens].
    """

    counts: Floats32

    @classmethod
    def of(cls, bags: Bags, num_tokens: int) -> Self:
        """Count the tokens of all texts."""
        return cls(np.bincount(bags.tokens, bags.counts, num_tokens).astype(np.float32))

    @property
    def floor(self) -> Floats32:
        """The part of the probability of each token that no given token explains: float32 [tokens]."""
        total = float(self.counts.sum(dtype=np.float64)) + len(self.counts)
        return np.asarray(FLOOR * (self.counts + 1) / total, dtype=np.float32)

    def probabilities(self, bags: Bags, own: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability of each token of n texts, without the counts of the texts themselves: [entries].

        Args:
            bags: the texts.
            own: float64 [entries], how often the token occurs in the text of the sample that is taken off.
        """
        rows = np.repeat(np.arange(len(bags)), bags.num_distinct)
        lengths = np.bincount(rows, own, len(bags))
        total = self.counts.sum(dtype=np.float64) + len(self.counts)
        found: NDArray[np.float64] = np.maximum(self.counts[bags.tokens] - own, 0) + 1
        found /= np.maximum(total - lengths[rows], len(self.counts))
        return found


@dataclass(frozen=True)
class TranslationTable:
    """The probabilities of made tokens by given token.

    Attributes:
        cells: float32 [given tokens, made tokens].
        totals: float32 [given tokens], the expected count of each given token in the sample.
    """

    cells: Floats32
    totals: Floats32

    @classmethod
    def train(cls, given: Bags, made: Bags, num_given: int, unigrams: UnigramModel) -> Self:
        """Estimate the probabilities from pairs by expectation maximisation, from equal probabilities."""
        steps, floor = available_steps(), unigrams.floor
        cells = np.zeros((num_given, len(floor), 2), dtype=np.float32)
        cells[..., 0] = 1 / len(floor)
        totals = np.zeros(num_given, dtype=np.float32)
        for _ in range(ITERATIONS):
            steps.add_expected_counts(cells, floor, given, made)
            steps.normalise(cells, totals)
        return cls(cells[..., 0], totals)

    def save(self, folder: Path, direction: str, unigrams: UnigramModel) -> None:
        """Store the probabilities that are not negligible."""
        least = unigrams.floor * np.float32(MIN_OF_UNIGRAM / FLOOR)
        made, values, sizes = [], [], []
        for row in self.cells:
            kept = np.flatnonzero(row > least)
            sizes.append(len(kept))
            made.append(kept.astype(np.uint16))
            values.append(row[kept])
        arrays = {"sizes": np.array(sizes), "made": np.concatenate(made), "values": np.concatenate(values)}
        for name, array in {**arrays, "totals": self.totals}.items():
            save_array(folder / f"{direction}_{name}.npy", array)

    @classmethod
    def load(cls, folder: Path, direction: str, num_made: int) -> Self:
        """Return the table of a direction from a folder."""
        sizes, made, values, totals = (
            load_array(folder / f"{direction}_{name}.npy") for name in ("sizes", "made", "values", "totals")
        )
        cells = np.zeros((len(sizes), num_made), dtype=np.float32)
        ends = np.cumsum(sizes)
        for row, start, end in zip(cells, ends - sizes, ends, strict=True):
            row[made[start:end]] = values[start:end]
        return cls(cells, totals)


def train_tables(sample: Sample, encoder: PairEncoder, folder: Path) -> None:
    """Train both directions on a sample, and store the tables and the unigram counts in `folder`.

    The directions are trained one after the other, so that the memory holds the dense tables of only one.
    """
    encoded = [encoder.bags(batch) for batch in sample()]
    source, target = (Bags.joined([bags[side] for bags in encoded]) for side in (0, 1))
    del encoded
    unigrams = [UnigramModel.of(bags, size) for bags, size in zip((source, target), encoder.num_tokens, strict=True)]
    for side, model in zip(("source", "target"), unigrams, strict=True):
        save_array(folder / f"{side}_counts.npy", model.counts)
    long = is_long(source, target)
    source, target = source.emptied(long), target.emptied(long)

    def train(direction: str) -> None:
        given, made, side = (source, target, 0) if direction == "forward" else (target, source, 1)
        table = TranslationTable.train(given, made, encoder.num_tokens[side], unigrams[1 - side])
        table.save(folder, direction, unigrams[1 - side])

    for direction in DIRECTIONS:
        train(direction)


def is_long(source: Bags, target: Bags) -> NDArray[np.bool_]:
    """Return which pairs are too long for training, or have a side without tokens: bool [n]."""
    cells = source.num_distinct * target.num_distinct
    found: NDArray[np.bool_] = (cells > MAX_CELLS) | (cells == 0)
    return found


def in_threads(work: Callable[[str], Result]) -> list[Result]:
    """Call `work` for each direction, in a thread for each granted core."""
    with ThreadPoolExecutor(min(granted_cores(), len(DIRECTIONS))) as threads:
        return list(threads.map(work, DIRECTIONS))
