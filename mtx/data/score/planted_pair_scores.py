"""`PlantedPairScores`: scores planted noise with the stored models of all scorers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.score.model_arrays import load_array
from mtx.data.score.planted_noise import PlantedPairs
from mtx.data.score.score_ids import SAMPLE_FILE, Inputs
from mtx.data.score.scorer import (
    CorpusScorer,
    LeaveOutModel,
    Mask,
    Scorer,
    Scores,
    ScoringModel,
    TrainedScorer,
    score_batch,
    scoring_order,
    shown_name,
)


class PlantedPairScores:
    """Scores bad pairs. No model has seen them, so that they count as outside of the sample.

    A `LeaveOutModel` takes off what it has learned from the pairs from which they are made. A `CorpusScorer` scores
    them in a corpus in which they stand in the place of these pairs.

    Args:
        open_model: returns the folder of a stored model, given its id.
        scorers: the scorers by name, with the ids of their models.
        pool: the pairs from which the bad pairs are made, with `src` and `tgt`.
        rows: the row numbers of these pairs in the corpus, int64 [n].
    """

    def __init__(
        self, open_model: Callable[[str], Path], scorers: Inputs, pool: pa.Table, rows: NDArray[np.int64]
    ) -> None:
        self._scorers = {name: scorer for name, (scorer, _) in scorers.items()}
        self._pool = pool
        self._rows = rows
        self._models: dict[str, ScoringModel] = {}
        self._sample_rows: dict[str, NDArray[np.int64]] = {}
        for name, (scorer, ids) in scorers.items():
            if isinstance(scorer, TrainedScorer):
                assert ids.model is not None
                folder = open_model(ids.model)
                self._models[name] = scorer.load(folder)
                self._sample_rows[name] = load_array(folder / SAMPLE_FILE)

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
        if isinstance(scorer, CorpusScorer):
            return _scores_in_corpus(scorer, self._pool, planted)
        model = self._models.get(name)
        if isinstance(model, LeaveOutModel):
            in_sample = np.isin(self._rows, self._sample_rows[name])
            return model.scores_without(pairs, original_pairs(self._pool, planted, in_sample), in_sample[planted.rows])
        return scorer.scores(pairs) if model is None else model.scores(pairs, np.zeros(pairs.num_rows, dtype=np.bool_))

    def with_pool_columns(self, columns: pa.Table) -> pa.Table:
        """Return columns of the pool, by names in reports; those of a `CorpusScorer` are computed in the pool alone.

        In a large corpus a pair has more near-duplicates than a bad pair, which is scored in the pool. A model that
        learned from both would take a near-duplicate for a sign of a good pair.
        """
        for name, scorer in self._scorers.items():
            if isinstance(scorer, CorpusScorer):
                found = score_batch(scorer, _corpus_columns(scorer, self._pool), len(self._pool))
                for column in found.schema.names:
                    shown = shown_name(name, column)
                    columns = columns.set_column(columns.column_names.index(shown), shown, found[column])
        return columns

    @property
    def score_columns(self) -> Mapping[str, str]:
        """The names in reports of all columns that are scores, with their descriptions."""
        return {
            shown_name(name, column): of.description
            for name, scorer in self._scorers.items()
            for column, of in scorer.columns.items()
            if of.is_score
        }


def original_pairs(pool: pa.Table, planted: PlantedPairs, in_sample: Mask) -> pa.RecordBatch:
    """Return the pairs from which bad pairs are made: `src`, `tgt`, and `other_tgt` (see `LeaveOutModel`).

    Args:
        pool: the pairs from which the bad pairs are made.
        planted: the bad pairs.
        in_sample: whether each pair of the pool was in the training sample, bool [pool].
    """
    originals = pool.select(["src", "tgt"]).take(pa.array(planted.rows))
    is_none = (planted.other_rows < 0) | ~in_sample[planted.other_rows]
    others = pool["tgt"].take(pa.array(planted.other_rows, mask=is_none)).fill_null("")
    return originals.append_column("other_tgt", others).combine_chunks().to_batches()[0]


def _scores_in_corpus(scorer: CorpusScorer, pool: pa.Table, planted: PlantedPairs) -> Mapping[str, pa.Array]:
    """Return the columns of bad pairs in the pool, each at the place of its original.

    A near-duplicate stands at the end, and its original stays. All other kinds would be found as near-duplicates of
    it. The pair whose target a bad pair has is left out, too: else each such target would be a duplicate.
    """
    bad = np.arange(len(pool), len(pool) + len(planted.rows))
    order, is_kept = np.arange(len(pool)), np.ones(len(pool), dtype=np.bool_)
    if planted.stands_beside:
        order = np.concatenate([order, bad])
    else:
        is_kept[planted.other_rows[planted.other_rows >= 0]] = False
        is_kept[planted.rows] = True
        order[planted.rows] = bad
        order = order[is_kept]
    pairs = pa.concat_tables([pool, planted.pairs.select(pool.column_names).cast(pool.schema)])
    places = np.argsort(order)[-len(bad) :]
    columns = _corpus_columns(scorer, pairs.take(pa.array(order)))
    return {name: column.take(pa.array(places)) for name, column in columns.items()}


def _corpus_columns(scorer: CorpusScorer, pairs: pa.Table) -> Mapping[str, pa.Array]:
    with TemporaryDirectory() as folder:
        return scorer.corpus_columns(lambda: pair_batches(pairs), len(pairs), Path(folder))
