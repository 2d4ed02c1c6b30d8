"""Columns of the training pairs: those that came with the corpus, and the scores."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.filter.column_rule import weight_column
from mtx.data.repo_read_cache import RepoSession
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_table import ScoreTable, shown_columns
from mtx.data.score.scorer import Scorer
from mtx.infra.dal.row_views import ROW_COLUMN, SelectedRows
from mtx.training.pair_weights import PairWeighting


@dataclass(frozen=True)
class TrainingColumns:
    """The columns of the training pairs of a prepared run.

    Attributes:
        repo: the repository.
        filtered: id of the filtered training split.
        scorers: the scorers of the run by name.
        scores: the ids of their scores, by scorer and text.
    """

    repo: RepoSession
    filtered: str
    scorers: Mapping[str, Scorer]
    scores: Mapping[str, Mapping[str, str]]

    def column(self, key: str, wanted: str) -> pa.Array:
        """Return the column that `wanted` names, or ends with, for each pair, [n].

        Raises ConfigError, which begins with the config key `key` and lists the columns, if there is no such column.
        """
        dataset = self.repo.get(self.filtered)
        rows = dataset.rows
        name = self._resolved(key, wanted, rows.schema.names)
        if name in rows.schema.names:
            return _single(rows.column(name))
        numbers = rows.selection if isinstance(rows, SelectedRows) else rows.column(ROW_COLUMN).to_numpy()
        chosen: NDArray[np.int64] = np.asarray(numbers).astype(np.int64)
        of = self._scorer_of(name)
        table = ScoreTable.open(
            self.repo,
            dataset.selects,
            {of: self.scorers[of]},
            {of: ScoreIds(self.scores[of])},
        )
        return table.take(chosen)[name]

    def identity(self, weighting: PairWeighting) -> dict[str, JSON]:
        """Return the options of the weights, and the ids of the scores from which the weights follow."""
        names = self.repo.get(self.filtered).rows.schema.names
        name = self._resolved("datamodule.weight_by", weighting.column, names)
        ids: list[JSON] = [] if name in names else [*self.scores[self._scorer_of(name)].values()]
        return {**weighting.plain(), "weight_scores": ids}

    def _resolved(self, key: str, wanted: str, names: list[str]) -> str:
        return weight_column(key, wanted, [*names, *shown_columns(self.scorers)])

    def _scorer_of(self, column: str) -> str:
        return next(name for name, scorer in self.scorers.items() if column in shown_columns({name: scorer}))


def _single(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
