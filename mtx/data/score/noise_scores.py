"""Plants noise into a sample of a scored corpus, and scores the bad pairs with the stored models."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.dataset import SelectedDataset
from mtx.data.score.planted_noise import planted_noise
from mtx.data.score.score_stage import ScoreIds, corpus_sample
from mtx.data.score.scorer import CorpusScorer, Scorer, Scores, TrainedScorer, score_batch, shown_name
from mtx.data.store import Store

POOL_PAIRS = 100_000  # pairs from which noise is made; a larger pool needs memory, and changes little


def noise_scores(
    store: Store,
    parts: Sequence[SelectedDataset],
    scorers: Mapping[str, Scorer],
    scored: Mapping[str, ScoreIds],
    *,
    per_kind: int,
    seed: int,
    other_targets: Sequence[str] = (),
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Return the scores of planted noise, by shown name of the column and by kind: float64 [bad pairs].

    A scorer that needs more than the texts of a pair is left out. The models are those of the corpus. They have not
    seen the bad pairs, so these count as outside of the sample.

    Args:
        store: the store with texts and models.
        parts: the text datasets.
        scorers: the scorers by name.
        scored: the ids of their scores and models.
        per_kind: number of bad pairs of each kind.
        seed: seed of the noise.
        other_targets: texts in another language, for the noise `wrong_language`.
    """
    _, sample = corpus_sample([store.repo.get_checked(part.id).rows for part in parts], POOL_PAIRS, seed)
    pool = pa.Table.from_batches([batch.select(["src", "tgt"]) for batch in sample()])
    planted = planted_noise(pool, per_kind=per_kind, seed=seed, other_targets=other_targets)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, scorer in scorers.items():
        if not scorer.is_of_texts:
            continue
        model_id = scored[name].model
        for kind, of in planted.items():
            batch = of.pairs.combine_chunks().to_batches()[0]
            scores: Scores
            if isinstance(scorer, CorpusScorer):
                scores = _scores_after(scorer, pool, batch)
            elif isinstance(scorer, TrainedScorer):
                assert model_id is not None
                model = scorer.load(store.models.open(model_id))
                scores = model.scores(batch, np.zeros(batch.num_rows, dtype=np.bool_))
            else:
                scores = scorer.scores(batch)
            columns = score_batch(scorer, scores, batch.num_rows)
            for column, meaning in scorer.columns.items():
                if meaning.is_score:
                    found.setdefault(shown_name(name, column), {})[kind] = columns[column].to_numpy()
    return found


def _scores_after(scorer: CorpusScorer, pool: pa.Table, noise: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """Return the columns of bad pairs that are appended to the pool from which they were made."""
    pairs = pa.concat_tables([pool, pa.Table.from_batches([noise]).select(pool.column_names).cast(pool.schema)])
    with TemporaryDirectory() as folder:
        columns = scorer.corpus_columns(lambda: pair_batches(pairs), len(pairs), Path(folder))
    return {name: column.slice(len(pool)) for name, column in columns.items()}
