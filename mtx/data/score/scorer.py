"""Scorers, and the stage that stores their scores: one column per text dataset and scorer."""

from abc import ABC, abstractmethod
from functools import partial

import numpy as np
import pyarrow as pa

from mtx.components.identity import digest, identity
from mtx.data.dataset import TranslationDataset
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, row_range_batches
from mtx.errors import DataError


class Scorer(ABC):
    """Base class of scorers, which give each pair a number; a higher number means a better pair.

    Subclasses are frozen dataclasses of plain values, picklable and without state. The constructor checks the fields
    and does no I/O.
    """

    @property
    def column(self) -> str:
        """The name of the score column: the name of the class."""
        return type(self).__name__

    @abstractmethod
    def scores(self, pairs: pa.RecordBatch) -> pa.Array:
        """Return the score of each pair, float [n]; NaN or null for a pair without a score.

        The score of a pair must depend only on this pair.

        Args:
            pairs: columns `src`, `tgt` and any further columns.
        """

    def transform(self, batches: Batches, first: int, counts: Counts) -> Batches:
        """Yield the scores of all pairs, and count pairs with and without a score. Raises DataError."""
        del first  # scores do not depend on the row number
        counts |= {"scored": 0, "without_score": 0}
        for batch in batches:
            found = pa.array(self.scores(batch), type=pa.float64(), from_pandas=False)
            if len(found) != batch.num_rows:
                raise DataError(
                    f"{self.column} returned {len(found)} scores for {batch.num_rows} pairs, not one per pair"
                )
            missing = int(np.count_nonzero(np.isnan(found.to_numpy(zero_copy_only=False))))
            counts["scored"] += batch.num_rows - missing
            counts["without_score"] += missing
            yield pa.record_batch({self.column: found})


def score(runner: StageRunner, text_id: str, scorer: Scorer) -> str:
    """Score all rows of a text dataset, unless the scores are stored, and return the id of the scores dataset.

    Row k of the scores belongs to row k of the text. Raises DataError or StoreError.
    """
    text = runner.repo.get_checked(text_id)
    scores_id = f"scores-{text.split}-{digest({'text': text_id, 'scorer': identity(scorer)})}"
    output = TranslationDataset(
        name=text.name,
        stage="scores",
        split=text.split,
        languages=text.languages,
        provenance={"inputs": [text_id], "scorer": identity(scorer)},
    )
    runner.run(
        scores_id,
        lambda: Stage(
            output=output,
            description=f"scoring {text.split} by {scorer.column}",
            num_rows=len(text),
            read=partial(row_range_batches, text.rows),
            transform=scorer.transform,
        ),
    )
    return scores_id
