"""`ScoreTable`: the stored columns of all scorers for the rows of a corpus, memory-mapped."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON
from mtx.data.dataset import SelectedDataset
from mtx.data.repo import DatasetRepo
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.scorer import ScoreColumn, Scorer, shown_name
from mtx.errors import ConfigError
from mtx.infra.dal.arrow_rows import Rows


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a corpus; row k belongs to row k of the concatenated texts, each cut to its cap.

    Attributes:
        table: a column for each shown name, such as `rules.letters`.
        columns: the meaning of each column, by shown name.
        stored: for each text the stored columns and the number of its rows; a pickle has these instead of the table.
    """

    table: pa.Table
    columns: Mapping[str, ScoreColumn]
    stored: tuple["StoredScores", ...] = ()

    @classmethod
    def open(
        cls,
        repo: DatasetRepo,
        parts: Sequence[SelectedDataset],
        scorers: Mapping[str, Scorer],
        scored: Mapping[str, ScoreIds],
    ) -> "ScoreTable":
        """Open the stored scores of the text datasets `parts` by the scorers that `scored` contains."""
        columns = shown_columns({name: scorers[name] for name in scored})
        stored = tuple(
            StoredScores(
                {
                    shown_name(name, column): (repo.get_checked(of.scores[part.id]).rows, column)
                    for name, of in scored.items()
                    for column in scorers[name].columns
                },
                part.num_rows,
            )
            for part in parts
        )
        return _opened(columns, stored)

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        if self.stored:
            return _opened, (self.columns, self.stored)
        return ScoreTable, (self.table, self.columns)

    def take(self, rows: NDArray[np.integer]) -> dict[str, pa.Array]:
        """Return the columns of the rows with the given numbers, ascending, by shown name."""
        first, end = (int(rows[0]), int(rows[-1]) + 1) if len(rows) else (0, 0)
        piece = self.table.slice(first, end - first)
        if end - first != len(rows):
            piece = piece.take(pa.array(rows.astype(np.int64) - first))
        return {name: _single(piece[name]) for name in piece.column_names}

    def batches(self, batches: Iterator[pa.RecordBatch], row_column: str) -> Iterator[pa.RecordBatch]:
        """Append the columns to a stream of rows, which the column `row_column` numbers.

        Raises ConfigError if the rows already have a column with the name of a score.
        """
        for batch in batches:
            if both := [name for name in self.table.column_names if name in batch.schema.names]:
                raise ConfigError(
                    f"the corpus and a scorer both have the column {both[0]}. Leave it out of downloader.columns, or "
                    "give the scorer another name"
                )
            for name, array in self.take(batch.column(row_column).to_numpy()).items():
                batch = batch.append_column(name, array)
            yield batch


@dataclass(frozen=True)
class StoredScores:
    """The stored columns of one text: by shown name the rows and the name of the column in them."""

    columns: Mapping[str, tuple[Rows, str]]
    num_rows: int

    def table(self) -> pa.Table:
        """Return the columns, memory-mapped, each cut to the number of rows."""
        return pa.table({name: rows.column(of).slice(0, self.num_rows) for name, (rows, of) in self.columns.items()})


def _opened(columns: Mapping[str, ScoreColumn], stored: tuple[StoredScores, ...]) -> ScoreTable:
    return ScoreTable(pa.concat_tables([each.table() for each in stored]), columns, stored)


def shown_columns(scorers: Mapping[str, Scorer]) -> dict[str, ScoreColumn]:
    """Return the columns of scorers by shown name, in order. Raises ConfigError if two have the same name."""
    found: dict[str, ScoreColumn] = {}
    for name, scorer in scorers.items():
        for column, of in scorer.columns.items():
            if (shown := shown_name(name, column)) in found:
                raise ConfigError(f"two scorers give the column {shown}. Give one of them another name")
            found[shown] = of
    return found


def _single(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


@dataclass(frozen=True)
class ScoredCorpus:
    """The scorers of a run, and the ids of the scores that they have given to a corpus."""

    scorers: Mapping[str, Scorer] = field(default_factory=dict)
    scored: Mapping[str, ScoreIds] = field(default_factory=dict)

    def read_by(self, columns: Sequence[str] | None) -> "ScoredCorpus":
        """Return the scorers that give one of the named columns; a name is a column or its last part; None: all."""
        if columns is None:
            return self
        wanted = set(columns)
        names = [
            name
            for name, scorer in self.scorers.items()
            if any(wanted & {column, column.rpartition(".")[2]} for column in shown_columns({name: scorer}))
        ]
        return ScoredCorpus({name: self.scorers[name] for name in names}, {name: self.scored[name] for name in names})

    def ids(self) -> list[JSON]:
        """Return the names of the scorers and the ids of their scores, for the id of a filtered dataset."""
        return [[name, list(of.scores.values())] for name, of in self.scored.items()]

    def names_read(self, source_names: Sequence[str]) -> dict[str, JSON]:
        """Return the names that a filter reads, if there are any: of the sources in order, and of the scorers by id."""
        found: dict[str, JSON] = {"source_names": [*source_names]} if source_names else {}
        scorers: dict[str, JSON] = {of: name for name, ids in self.scored.items() for of in ids.scores.values()}
        return found | ({"scorers": scorers} if scorers else {})
