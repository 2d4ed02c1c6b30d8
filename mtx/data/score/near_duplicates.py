"""`NearDuplicatesScorer`: how similar a pair is to an earlier pair of the corpus, and the clusters of similar pairs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from mtx.components.checked_options import component
from mtx.components.identity import JSON
from mtx.data.score.minhash import LEAST_JACCARD, MinHash
from mtx.data.score.near_duplicate_search import NearDuplicateSearch
from mtx.data.score.scorer import MAIN_COLUMN, CorpusScorer, Sample, ScoreColumn

NGRAM = 5  # characters; shorter n-grams are shared by chance, longer ones are lost by one edit
BANDS, ROWS_PER_BAND = 12, 5  # finds 99.2 % of the pairs with a Jaccard index of 0.8, and 99.9 % with 0.85
CLUSTER, SIZE = "cluster", "size"


@component("score.near_duplicates")
class NearDuplicatesScorer(CorpusScorer):
    """Scores a pair by minus the highest Jaccard index of its character n-grams and those of an earlier pair.

    Both sides count together, in lower case, in NFKC, and with one space between words. Candidates share a band of
    MinHash values. The Jaccard index of each candidate is then computed exactly.

    Args:
        min_jaccard: pairs with at least this Jaccard index are in one cluster, also by way of other pairs.
        ngram: number of characters of an n-gram.
        bands: number of bands. More bands find more pairs, and take longer.
        rows_per_band: number of hashes of a band. With more of them, fewer pairs are candidates.
        memory_gb: memory budget, in 10⁹ bytes. Beyond it, intermediate results are written to files of the store.
    """

    kind: ClassVar[str] = "score/near_duplicates"
    version: ClassVar[int] = 1

    min_jaccard: Annotated[float, Field(ge=LEAST_JACCARD, le=1)] = 0.8
    ngram: Annotated[int, Field(ge=1, le=64)] = NGRAM
    bands: Annotated[int, Field(ge=1, le=256)] = BANDS
    rows_per_band: Annotated[int, Field(ge=1, le=64)] = ROWS_PER_BAND
    memory_gb: Annotated[float, Field(ge=0.1)] = 2.0

    def identity_fields(self) -> dict[str, JSON]:
        """Return the fields that decide the output; the memory budget does not."""
        names = ("min_jaccard", "ngram", "bands", "rows_per_band")
        return {name: getattr(self, name) for name in names}

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The score, and the number and the size of the cluster."""
        return {
            MAIN_COLUMN: ScoreColumn(
                f"minus the highest Jaccard index of character {self.ngram}-grams with an earlier pair; −1 (equal) to "
                f"−{LEAST_JACCARD}, or 0 if no earlier pair with {LEAST_JACCARD} or more was found"
            ),
            CLUSTER: ScoreColumn("the row number of the first pair of the cluster of near-duplicates", pa.int64()),
            SIZE: ScoreColumn("the number of pairs of the cluster; 1 without near-duplicates", pa.int64()),
        }

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        """Return the columns of all pairs. Raises ConfigError if the memory budget is too small."""
        minhash = MinHash(self.ngram, self.bands, self.rows_per_band)
        found = NearDuplicateSearch(minhash, self.min_jaccard, self.memory_gb).find(corpus, num_pairs, scratch)
        np.subtract(0.0, found.highest, out=found.highest)  # a copy of all values would count in the memory
        return {
            MAIN_COLUMN: pa.array(found.highest),
            CLUSTER: pa.array(found.cluster),
            SIZE: pa.array(found.size),
        }
