"""`ScoreIds`: the ids of stored scores, and the columns of the scorers that another scorer combines."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa

from mtx.data.repo import DatasetRepo
from mtx.data.score.scorer import Scorer, shown_name

SAMPLE_FILE = "sample_rows.npy"  # in a model: the numbers of the rows in the sample, int64, ascending


@dataclass(frozen=True)
class ScoreIds:
    """The stored scores of one scorer.

    Attributes:
        scores: ids of the scores datasets by text id.
        model: id of the model of a trained scorer, or of the columns of a scorer over the corpus; else None.
        built_s: seconds in which this process built the scores; None if all of them were stored.
        trained_s: seconds in which this process trained the model; None if the model was stored, or there is none.
    """

    scores: Mapping[str, str]
    model: str | None = None
    built_s: float | None = None
    trained_s: float | None = None


Inputs: TypeAlias = Mapping[str, tuple[Scorer, ScoreIds]]


def input_columns(repo: DatasetRepo, text_id: str, inputs: Inputs) -> pa.Table:
    """Return the stored columns of scorers for one text by their names in reports; row k belongs to row k of the text.

    Rows beyond the cap of a source, which a scorer over the corpus leaves out, have no values: NaN or null.

    Args:
        repo: the store's datasets.
        text_id: id of the text.
        inputs: the scorers by name, with the ids of their scores.
    """
    num_rows = len(repo.manifest(text_id))
    arrays: dict[str, pa.ChunkedArray] = {}
    for name, (scorer, ids) in inputs.items():
        stored = repo.get_checked(ids.scores[text_id]).rows.table
        for column, of in scorer.columns.items():
            beyond = pa.nulls(num_rows - len(stored), of.type)
            padding = beyond.fill_null(float("nan")) if of.is_score else beyond
            arrays[shown_name(name, column)] = pa.chunked_array([*stored[column].chunks, padding], of.type)
    return pa.table(arrays)


def num_scored_rows(repo: DatasetRepo, text_id: str, inputs: Inputs) -> int:
    """Return how many rows of a text, from the first on, all of the scorers have scored."""
    return min(len(repo.manifest(of)) for of in (text_id, *(ids.scores[text_id] for _, ids in inputs.values())))
