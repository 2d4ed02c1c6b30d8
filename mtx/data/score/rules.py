"""`RulesScorer`: eight cheap scores in one pass over the columns, without a model of the languages.

The rules are those of bicleaner-hardrules and OpusFilter that hold over pairs of languages. Each is a number with a
stated scale, so a filter sets thresholds without another pass. Lengths and scripts are compared with the corpus itself.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.checked_options import Count, Natural, component
from mtx.cpu_count import granted_cores
from mtx.data.row_slices import row_slices
from mtx.data.score.length_model import LengthModel
from mtx.data.score.scorer import SAMPLE_PAIRS, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.data.score.text_features import DIGIT, Ints, Keys, TextFeatures, character_table, mixed
from mtx.infra.dal.atomic_file import atomic_file

MODEL_FILE = "rules.json"
ROWS_PER_SLICE = 8192  # pairs per task of a thread, so that the arrays of a task fit into the cache
LETTERS_FOR_COPY = 12  # shorter sources share words with their translations by chance, such as names
COVERAGE = 0.8  # the usual scripts of a side are its most frequent ones that together have this share of its letters
TAG = r"</?[A-Za-z!][^<>]*>"
PLACEHOLDER = r"%[-+0-9.$#]*[A-Za-z]|\{[^{}]*\}|\$\w+|&[A-Za-z]+;|https?://"

# UTF-8 that was read as Windows-1252 or Latin-1 shows a lead byte as one of these, followed by a continuation byte. The
# lead bytes of three-byte sequences, 0xE0 to 0xEF, need two of them, since they are frequent letters.
TWO_BYTE_LEADS = [0xC2, 0xC3, 0xC4, 0xC5, 0xCE, 0xCF, 0xD0, 0xD1, 0xD7, 0xD8, 0xD9]
CONTINUATIONS = [*range(0x80, 0xC0), *(ord(bytes([byte]).decode("cp1252", "replace")) for byte in range(0x80, 0xA0))]
REPLACEMENT = 0xFFFD

COLUMNS = {
    "letters": "share of letters among the visible characters, of the side with fewer; 0 to 1",
    "mojibake": "minus the number of broken UTF-8 sequences that the target has more than the source; 0 or less",
    "copy": "minus the share of source words that are in the target; −1 to 0. Short sources count only if equal",
    "digits": "0 if both sides have the same numbers; else minus the number of digits that differ",
    "markup": "minus the difference in the number of tags and placeholders; tags only in the target count twice",
    "repetition": "share of distinct words in the target minus that in the source, if below 0; −1 to 0",
    "length_z": "−|z| of the logarithm of the length ratio, by median and MAD of pairs with such a source length",
    "script": "share of letters in the usual scripts of the side, of the side with fewer; 0 to 1",
}


@component("score.rules")
class RulesScorer(TrainedScorer):
    """Scores pairs by letters, encoding, copies, numbers, markup, repetition, lengths and scripts.

    The lengths and the scripts that are usual for the corpus come from a sample of it.

    Args:
        sample_pairs: maximum number of pairs in the sample.
        seed: another seed draws another sample.
    """

    kind: ClassVar[str] = "score/rules"
    version: ClassVar[int] = 1

    sample_pairs: Count = SAMPLE_PAIRS
    seed: Natural = 0

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The eight scores."""
        return {name: ScoreColumn(description) for name, description in COLUMNS.items()}

    def train(self, sample: Sample, folder: Path) -> None:
        """Store the statistics of lengths and scripts of the sample as JSON."""
        lengths = []
        scripts = np.zeros((2, 256), dtype=np.int64)
        for batch in sample():
            for side in (0, 1):
                for texts in row_slices(batch.column(side), ROWS_PER_SLICE):
                    scripts[side] += TextFeatures(texts).script_counts()
            lengths.append([_num_chars(batch.column(side)) for side in (0, 1)])
        source, target = (np.concatenate([batch[side] for batch in lengths]) for side in (0, 1))
        model = {
            "lengths": LengthModel.of(source, target).to_json(),
            "scripts": [usual_scripts(counts) for counts in scripts],
        }
        with atomic_file(folder / MODEL_FILE) as file:
            file.write(json.dumps(model).encode())

    def load(self, folder: Path) -> "RulesModel":
        """Return the model in `folder`."""
        model = json.loads((folder / MODEL_FILE).read_bytes())
        return RulesModel(LengthModel.of_json(model["lengths"]), model["scripts"])


class RulesModel:
    """The scores of pairs, given the usual lengths and scripts of a corpus.

    Args:
        lengths: the usual length ratios.
        scripts: the names of the usual scripts of the source and of the target; an empty list: any script.
    """

    def __init__(self, lengths: LengthModel, scripts: list[list[str]]) -> None:
        self._lengths = lengths
        names = character_table().script_names
        self._is_usual = [np.array([name in usual or not usual for name in names], dtype=np.bool_) for usual in scripts]

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask | None = None) -> Mapping[str, pa.Array]:
        """Return the eight scores of each pair. Threads compute slices of the pairs on all cores."""
        del in_sample  # a single pair does not change the statistics of a corpus
        character_table()  # before the threads start, so that only one computes it
        slices = [pairs.slice(start, ROWS_PER_SLICE) for start in range(0, max(pairs.num_rows, 1), ROWS_PER_SLICE)]
        with ThreadPoolExecutor(granted_cores()) as threads:
            found = list(threads.map(self._slice_scores, slices))
        return {name: pa.array(np.concatenate([part[name] for part in found]), pa.float64()) for name in COLUMNS}

    def _slice_scores(self, pairs: pa.RecordBatch) -> dict[str, NDArray[np.float64]]:
        source, target = (TextFeatures(pairs.column(side)) for side in (0, 1))
        sides = (source, target)
        letters = np.minimum(*(_share(side.num_letters, side.num_visible, 0.0) for side in sides))
        usual = (self._usual_share(side, number) for number, side in enumerate(sides))
        found = {
            "letters": letters,
            "mojibake": np.minimum(num_mojibake(source) - num_mojibake(target), 0).astype(np.float64),
            "copy": _copy_score(source, target, pairs),
            "digits": _digit_score(source, target),
            "markup": _markup_score(pairs),
            "repetition": np.minimum(_distinct_share(target) - _distinct_share(source), 0.0),
            "length_z": -np.abs(self._lengths.z(source.num_chars, target.num_chars)),
            "script": np.minimum(*usual),
        }
        return {name: values + 0.0 for name, values in found.items()}  # 0 instead of −0

    def _usual_share(self, features: TextFeatures, side: int) -> NDArray[np.float64]:
        return _share(features.num_letters_of(self._is_usual[side]), features.num_letters, 1.0)


def usual_scripts(counts: Ints) -> list[str]:
    """Return the names of the most frequent scripts that together have the share `COVERAGE` of all letters.

    Args:
        counts: the number of letters of each script, by script number.
    """
    order = np.argsort(-counts, kind="stable")
    share_before = (np.cumsum(counts[order]) - counts[order]) / max(int(counts.sum()), 1)
    names = character_table().script_names
    return [names[number] for number in order[(share_before < COVERAGE) & (counts[order] > 0)].tolist()]


def num_mojibake(features: TextFeatures) -> Ints:
    """Return the number of sequences in each text that look like UTF-8 read as Windows-1252: int64 [n]."""
    of = features.foreign
    is_lead = np.isin(of.codes, TWO_BYTE_LEADS)
    is_long_lead = (of.codes >= 0xE0) & (of.codes <= 0xEF)
    continues = np.isin(of.codes, CONTINUATIONS)
    found = of.codes == REPLACEMENT
    found[:-1] |= is_lead[:-1] & continues[1:] & of.is_followed[:-1]
    found[:-2] |= is_long_lead[:-2] & continues[1:-1] & continues[2:] & of.is_followed[:-2] & of.is_followed[1:-1]
    return of.counts_by_text(found)


def _copy_score(source: TextFeatures, target: TextFeatures, pairs: pa.RecordBatch) -> NDArray[np.float64]:
    shared = _share(source.words.num_shared(target.words), source.words.num_distinct, 0.0)
    shared[source.num_letters < LETTERS_FOR_COPY] = 0.0
    equal = pc.equal(pairs.column(0), pairs.column(1)).to_numpy(zero_copy_only=False)
    return -np.where(equal, 1.0, shared)


def _distinct_share(features: TextFeatures) -> NDArray[np.float64]:
    return _share(features.words.num_distinct, features.words.num_words, 1.0)


def _digit_score(source: TextFeatures, target: TextFeatures) -> NDArray[np.float64]:
    """Return 0 for equal numbers in any order and with any separators, else minus the number of differing digits."""
    (runs, joined, counts), (target_runs, target_joined, target_counts) = map(_numbers, (source, target))
    differing = np.abs(counts - target_counts).sum(axis=1).astype(np.float64)
    is_equal = (runs == target_runs) | (joined == target_joined)
    return -np.where(is_equal, 0.0, np.maximum(differing, 1.0))


def _numbers(features: TextFeatures) -> tuple[Keys, Keys, Ints]:
    """Return of each text a hash of its numbers in any order, a hash of all its digits in order, and digit counts."""
    n = features.num_texts
    positions, values = features.digits
    if not len(positions):
        return np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.uint64), np.zeros((n, 10), dtype=np.int64)
    texts = features.text_of(positions)
    counts = np.bincount(texts * 10 + values, minlength=10 * n).reshape(n, 10)
    starts = np.ones(len(positions), dtype=np.bool_)
    if len(positions) > 1:
        between = np.add.reduceat(features.flags & DIGIT == 0, positions, dtype=np.int64)[:-1]
        starts[1:] = (between > 0) | (np.diff(texts) > 0)
    number = np.cumsum(starts) - 1
    first_of_number = np.flatnonzero(starts)
    in_number = np.arange(len(positions)) - first_of_number[number]
    first_of_text = np.searchsorted(texts, texts)
    in_text = np.arange(len(positions)) - first_of_text
    digit_hashes = mixed(values.astype(np.uint64) + np.uint64(1) + (in_number.astype(np.uint64) << np.uint64(8)))
    of_number = mixed(np.add.reduceat(digit_hashes, first_of_number))
    runs = _sums(of_number, texts[first_of_number], n)
    ordered = mixed(values.astype(np.uint64) + np.uint64(1) + (in_text.astype(np.uint64) << np.uint64(8)))
    return runs, _sums(ordered, texts, n), counts


def _sums(values: Keys, texts: Ints, num_texts: int) -> Keys:
    """Return the sum, modulo 2^64, of the values of each text; `texts` is ascending."""
    sums = np.zeros(len(values) + 1, dtype=np.uint64)
    np.cumsum(values, out=sums[1:])
    bounds = np.searchsorted(texts, np.arange(num_texts + 1))
    return sums[bounds[1:]] - sums[bounds[:-1]]


def _markup_score(pairs: pa.RecordBatch) -> NDArray[np.float64]:
    tags, places = ([_count_matches(pairs.column(side), pattern) for side in (0, 1)] for pattern in (TAG, PLACEHOLDER))
    of_tags = np.abs(tags[0] - tags[1]) * np.where(tags[0] == 0, 2, 1)
    found: NDArray[np.float64] = -(of_tags + np.abs(places[0] - places[1])).astype(np.float64)
    return found


def _count_matches(texts: pa.LargeStringArray, pattern: str) -> Ints:
    found: Ints = pc.count_substring_regex(texts, pattern).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _num_chars(texts: pa.LargeStringArray) -> Ints:
    found: Ints = pc.utf8_length(texts).to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def _share(part: Ints, whole: Ints, otherwise: float) -> NDArray[np.float64]:
    """Return `part` divided by `whole`, or `otherwise` where the whole is 0: float64 [n]."""
    found: NDArray[np.float64] = np.asarray(np.where(whole > 0, part / np.maximum(whole, 1), otherwise))
    return found
