"""`UnseenPairs`: scores pairs that are not in the corpus, such as planted noise, with the stored models."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from mtx.data.score.score_ids import Inputs
from mtx.data.score.scorer import ScoringModel, TrainedScorer, score_batch, scoring_order, shown_name
from mtx.data.store import Store


class UnseenPairs:
    """Scores pairs that no model has seen, so that they count as outside of the sample.

    Args:
        store: the store with the models.
        scorers: the scorers by name, with the ids of their models.
    """

    def __init__(self, store: Store, scorers: Inputs) -> None:
        self._scorers = {name: scorer for name, (scorer, _) in scorers.items()}
        self._models: dict[str, ScoringModel] = {}
        for name, (scorer, ids) in scorers.items():
            if isinstance(scorer, TrainedScorer):
                assert ids.model is not None
                self._models[name] = scorer.load(store.models.open(ids.model))

    def scored(self, pairs: pa.RecordBatch) -> pa.RecordBatch:
        """Append the columns of all scorers, by their names in reports, to pairs with `src` and `tgt`.

        Raises DataError if a scorer returns other columns than it declares.
        """
        unseen = np.zeros(pairs.num_rows, dtype=np.bool_)
        found = pairs
        for name in scoring_order(self._scorers):
            scorer, model = self._scorers[name], self._models.get(name)
            columns = score_batch(
                scorer, scorer.scores(found) if model is None else model.scores(found, unseen), pairs.num_rows
            )
            for column in columns.schema.names:
                found = found.append_column(shown_name(name, column), columns[column])
        return found

    @property
    def score_columns(self) -> Mapping[str, str]:
        """The names in reports of all columns that are scores, with their descriptions."""
        return {
            shown_name(name, column): of.description
            for name, scorer in self._scorers.items()
            for column, of in scorer.columns.items()
            if of.is_score
        }
