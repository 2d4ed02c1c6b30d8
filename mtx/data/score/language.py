"""`LanguageScorer`: whether each side is in its language, by a model of character n-grams of the corpus itself.

The model is naive Bayes over hashed n-grams of 1 to 4 characters (McNamee 2005; Lui and Baldwin 2012) with two classes,
the source side and the target side of the corpus. It needs no knowledge of the languages, and knows no third language.
A packaged identifier, an option, knows many languages.
"""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa

from mtx.assumption_log import assume
from mtx.components.checked_options import Count, Natural, component
from mtx.components.identity import JSON
from mtx.cpu_count import granted_cores
from mtx.data.row_slices import row_slices
from mtx.data.score.language_identifier import (
    UNDETERMINED,
    LanguageIdentifier,
    identifier_version,
    known_language,
    language_identifier,
    most_frequent_language,
)
from mtx.data.score.letter_ngram_backend import ngram_functions
from mtx.data.score.letter_ngrams import (
    MAX_ORDER,
    NUM_LOGS,
    NUM_SLOTS,
    Counts,
    Floats,
    letter_codes,
    log_table,
)
from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.score.scorer import MAIN_COLUMN, SAMPLE_PAIRS, Mask, Sample, ScoreColumn, TrainedScorer
from mtx.errors import DataError
from mtx.infra.dal.atomic_file import atomic_file

MODEL_FILE = "ngram_counts.npy"  # int32 [NUM_SLOTS, 2]: how often each n-gram is in sources and in targets
LANGUAGES_FILE = "languages.json"  # the expected language of each side, if there is an identifier
PAIRS_PER_BATCH = 500  # of the sample, by which the languages of a corpus are found; a batch has at most 65,536 pairs
ROWS_PER_SLICE = 4096  # pairs per task of a thread
SMOOTHING = 0.5  # added to each count (Jeffreys); so an n-gram that one side lacks is no proof
MAX_COUNT = NUM_LOGS << 9  # of an n-gram, so that the logarithms of all counts are in the table

COLUMNS = {
    MAIN_COLUMN: "the lower of source_odds and target_odds; below 0, a side looks like the other language",
    "source_odds": "log odds of the source to be in the language of the sources, in nats; 0 without letters",
    "target_odds": "log odds of the target to be in the language of the targets, in nats; 0 without letters",
}

OF_IDENTIFIER = {
    "identified": ScoreColumn(
        "log odds of the expected language against the most probable other one, of the side with lower odds; below 0, "
        "another language is more probable"
    ),
    "source_language": ScoreColumn("the most probable language of the source; und: no letters", pa.string()),
    "target_language": ScoreColumn("the most probable language of the target; und: no letters", pa.string()),
}


@component("score.language")
class LanguageScorer(TrainedScorer):
    """Scores whether each side is in its language, by n-grams of characters of the corpus itself.

    The model knows the two languages of the corpus, and finds copies and swapped sides. An identifier also finds texts
    in any other language.

    Args:
        sample_pairs: maximum number of pairs in the sample.
        seed: another seed draws another sample.
        identifier: a packaged language identifier, an optional dependency; None: none.
        source_language: code of the language of the sources for the identifier; None: the language that it finds most
            often in the sample.
        target_language: the same for the targets.
    """

    kind: ClassVar[str] = "score/language"
    version: ClassVar[int] = 1

    sample_pairs: Count = SAMPLE_PAIRS
    seed: Natural = 0
    identifier: Literal["py3langid"] | None = None
    source_language: str | None = None
    target_language: str | None = None

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The log odds of both sides and their minimum, and the results of the identifier."""
        own = {name: ScoreColumn(description) for name, description in COLUMNS.items()}
        return own if self.identifier is None else own | OF_IDENTIFIER

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output. Another version of the identifier's package gives other scores."""
        found: dict[str, JSON] = {"sample_pairs": self.sample_pairs, "seed": self.seed}
        if self.identifier is not None:
            found["identifier"] = [self.identifier, identifier_version(self.identifier)]
            found["languages"] = [self.source_language, self.target_language]
        return found

    def train(self, sample: Sample, folder: Path) -> None:
        """Store the counts of the n-grams of both sides of the sample, and the languages that are expected.

        Raises ConfigError or DataError if the identifier is missing or does not know the languages.
        """
        if self.identifier is not None:
            languages = self._expected_languages(language_identifier(self.identifier), sample)
            with atomic_file(folder / LANGUAGES_FILE) as file:
                file.write(json.dumps(languages).encode())
        functions = ngram_functions()
        counts = np.zeros((2, NUM_SLOTS), dtype=np.int64)
        for batch in sample():
            for piece in row_slices(batch, ROWS_PER_SLICE):
                for side in (0, 1):
                    functions.add_counts(functions.words_of(piece.column(side)), counts[side])
        clipped = np.minimum(counts, MAX_COUNT).astype(np.int32)
        save_array(folder / MODEL_FILE, np.ascontiguousarray(clipped.T))

    def load(self, folder: Path) -> "LanguageModel":
        """Return the model in `folder`."""
        counts = load_array(folder / MODEL_FILE)
        if self.identifier is None:
            return LanguageModel(counts)
        languages = json.loads((folder / LANGUAGES_FILE).read_bytes())
        return LanguageModel(counts, language_identifier(self.identifier), languages)

    def _expected_languages(self, identifier: LanguageIdentifier, sample: Sample) -> list[str]:
        given = {"source_language": self.source_language, "target_language": self.target_language}
        found = []
        for side, (key, code) in enumerate(given.items()):
            if code is not None:
                found.append(known_language(identifier, code, f"score.language.{key}"))
                continue
            rng = np.random.default_rng(self.seed)
            texts = [
                text
                for batch in sample()
                for text in batch.column(side).take(rng.permutation(batch.num_rows)[:PAIRS_PER_BATCH]).to_pylist()
            ]
            language, share = most_frequent_language(identifier, texts)
            if language == UNDETERMINED:
                raise DataError(
                    f"the identifier {self.identifier} finds no language in the {key.partition('_')[0]} side of the "
                    f"corpus, because its sample has no letters. Set score.language.{key}, or "
                    "score.language.identifier=null"
                )
            assume(
                f"the {key.partition('_')[0]} side of the corpus is in {language!r}, as {self.identifier} finds for "
                f"{share:.0%} of a sample of its texts. For another language, set score.language.{key}=CODE"
            )
            found.append(language)
        return found


class LanguageModel:
    """The log odds of texts to be sources or targets of a corpus.

    Args:
        counts: int32 [NUM_SLOTS, 2], how often each n-gram is in the sources and in the targets.
        identifier: identifies the language of each text; None: only the columns of the corpus' own model.
        languages: the expected language of the sources and of the targets, as the identifier calls them.
    """

    def __init__(
        self, counts: Counts, identifier: LanguageIdentifier | None = None, languages: Sequence[str] = ()
    ) -> None:
        self._counts = counts
        self._identifier = identifier
        self._languages = languages
        self._logs = log_table(SMOOTHING)
        self._totals = counts.sum(axis=0, dtype=np.int64)
        self._smoothing = SMOOTHING * np.count_nonzero(counts.any(axis=1))

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask) -> Mapping[str, pa.Array]:
        """Return the columns of the pairs. Threads compute slices of the pairs on all cores."""
        letter_codes()  # before the threads start, so that only one computes them
        ngram_functions()
        starts = range(0, max(pairs.num_rows, 1), ROWS_PER_SLICE)
        with ThreadPoolExecutor(granted_cores()) as threads:
            found = list(threads.map(lambda start: self._slice_odds(pairs, in_sample, start), starts))
        source, target = np.concatenate(found, axis=1)
        odds = {MAIN_COLUMN: np.minimum(source, target), "source_odds": source, "target_odds": target}
        columns = {name: pa.array(values) for name, values in odds.items()}
        return columns if self._identifier is None else columns | self._identified(self._identifier, pairs)

    def _identified(self, identifier: LanguageIdentifier, pairs: pa.RecordBatch) -> dict[str, pa.Array]:
        sides = [
            identifier.identify(pairs.column(side).to_pylist(), expected)
            for side, expected in enumerate(self._languages)
        ]
        return {
            "identified": pa.array(np.minimum(*(odds for _, odds in sides))),
            "source_language": pa.array(sides[0][0], pa.string()),
            "target_language": pa.array(sides[1][0], pa.string()),
        }

    def _slice_odds(self, pairs: pa.RecordBatch, in_sample: Mask, start: int) -> Floats:
        """Return the log odds of sources and targets: float64 [2, n]."""
        functions = ngram_functions()
        source, target = (functions.words_of(pairs.column(side).slice(start, ROWS_PER_SLICE)) for side in (0, 1))
        mask = in_sample[start : start + ROWS_PER_SLICE]
        of_source, of_target = functions.log_ratios(source, target, self._counts, self._logs, mask)
        # The counts are divided by the number of all n-grams of the side, from which those of the pair are taken off.
        totals = [self._totals[side] - words.num_ngrams * mask for side, words in enumerate((source, target))]
        prior = np.log((totals[1] + self._smoothing) / (totals[0] + self._smoothing))
        odds = np.stack([of_source + source.num_ngrams * prior, -(of_target + target.num_ngrams * prior)])
        # The n-grams of the four lengths repeat each other's evidence, so they count as one.
        return odds / MAX_ORDER + 0.0
