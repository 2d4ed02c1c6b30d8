"""`PlantedPairScores`: scores planted noise with the stored models of all scorers."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.score.planted_noise import PlantedPairs
from mtx.data.score.score_ids import Inputs
from mtx.data.score.scorer import Scorer, Scores, ScoringModel, TrainedScorer, score_batch, scoring_order, shown_name
from mtx.data.store import Store


class PlantedPairScores:
    """Scores bad pairs. No model has seen them, so that they count as outside of the sample.

    Args:
        store: the store with the models.
        scorers: the scorers by name, with the ids of their models.
        pool: the pairs from which the bad pairs are made, with `src` and `tgt`.
        rows: the row numbers of these pairs in the corpus, int64 [n].
    """

    def __init__(self, store: Store, scorers: Inputs, pool: pa.Table, rows: NDArray[np.int64]) -> None:
        self._scorers = {name: scorer for name, (scorer, _) in scorers.items()}
        self._pool = pool
        self._rows = rows
        self._models: dict[str, ScoringModel] = {}
        for name, (scorer, ids) in scorers.items():
            if isinstance(scorer, TrainedScorer):
                assert ids.model is not None
                self._models[name] = scorer.load(store.models.open(ids.model))

    def scored(self, planted: PlantedPairs) -> pa.RecordBatch:
        """Return the bad pairs with the columns of all scorers, by their names in reports.

        Raises DataError if a scorer returns other columns than it declares.
        """
        found = planted.pairs.select(["src", "tgt"]).combine_chunks().to_batches()[0]
        for name in scoring_order(self._scorers):
            scorer = self._scorers[name]
            columns = score_batch(scorer, self._scores(name, scorer, found, planted), found.num_rows)
            for column in columns.schema.names:
                found = found.append_column(shown_name(name, column), columns[column])
        return found

    def _scores(self, name: str, scorer: Scorer, pairs: pa.RecordBatch, planted: PlantedPairs) -> Scores:
        """Return the columns of one scorer; the pairs have the columns of the scorers that it combines."""
        del planted  # a model that takes off what it has learned from the original pairs needs it
        model = self._models.get(name)
        return scorer.scores(pairs) if model is None else model.scores(pairs, np.zeros(pairs.num_rows, dtype=np.bool_))

    @property
    def score_columns(self) -> Mapping[str, str]:
        """The names in reports of all columns that are scores, with their descriptions."""
        return {
            shown_name(name, column): of.description
            for name, scorer in self._scorers.items()
            for column, of in scorer.columns.items()
            if of.is_score
        }
