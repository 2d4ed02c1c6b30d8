"""`DuplicatesScorer`: how often the source and the target of a pair occur in the corpus, and with how many partners."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.checked_options import component
from mtx.data.score.normal_form import normal_texts
from mtx.data.score.scorer import CorpusScorer, Sample, ScoreColumn
from mtx.data.score.text_features import mixed

COLUMNS = {
    "source": "minus the number of other pairs with the same source; 0 or less",
    "target": "minus the number of other pairs with the same target; 0 or less",
    "targets_of_source": "minus the number of other targets that the source has in the corpus; 0 or less",
    "sources_of_target": "minus the number of other sources that the target has in the corpus; 0 or less",
}


@component("score.duplicates")
class DuplicatesScorer(CorpusScorer):
    """Scores a pair by the numbers of other pairs that have its source or its target, and of their distinct partners.

    Two texts are the same if their normal forms are equal: NFKC, lower case, and one space between words. Texts are
    compared by 64-bit hashes. The computation takes about 100 bytes of memory per pair.
    """

    kind: ClassVar[str] = "score/duplicates"
    version: ClassVar[int] = 1

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        """The four scores."""
        return {name: ScoreColumn(description) for name, description in COLUMNS.items()}

    def corpus_columns(self, corpus: Sample, num_pairs: int, scratch: Path) -> Mapping[str, pa.Array]:
        """Return the columns of all pairs."""
        hashes = np.zeros((2, num_pairs), dtype=np.uint64)
        first = 0
        for batch in corpus():
            for number, side in enumerate(("src", "tgt")):
                hashes[number, first : first + batch.num_rows] = normal_texts(batch.column(side)).hashes()
            first += batch.num_rows
        pairs = mixed(hashes[0]) + hashes[1]
        _, first_rows = np.unique(pairs, return_index=True)
        values = []
        for side in hashes:
            _, of_text = np.unique(side, return_inverse=True)
            values.append((_other_pairs(of_text), _other_pairs(of_text, of_text[first_rows])))
        (source, targets_of_source), (target, sources_of_target) = values
        return dict(zip(COLUMNS, map(pa.array, (source, target, targets_of_source, sources_of_target)), strict=True))


def _other_pairs(of_text: NDArray[np.int64], counted: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return 1 minus the number of pairs with the text of each pair, of all pairs or of those in `counted`."""
    counts = np.bincount(of_text if counted is None else counted, minlength=int(of_text.max(initial=-1)) + 1)
    return 1.0 - counts[of_text]
