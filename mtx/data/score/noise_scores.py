"""Plants noise into a sample of a scored corpus, and scores the bad pairs with the stored models."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.dataset import SelectedDataset
from mtx.data.score.planted_noise import PlantedPairs, planted_noise
from mtx.data.score.score_stage import SAMPLE_FILE, ScoreIds, corpus_sample
from mtx.data.score.scorer import (
    CorpusScorer,
    LeaveOutModel,
    Scorer,
    Scores,
    TrainedScorer,
    score_batch,
    shown_name,
)
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
    seen the bad pairs, so these count as outside of the sample; a `LeaveOutModel` takes off what it has learned from
    the pairs from which they are made.

    Args:
        store: the store with texts and models.
        parts: the text datasets.
        scorers: the scorers by name.
        scored: the ids of their scores and models.
        per_kind: number of bad pairs of each kind.
        seed: seed of the noise.
        other_targets: texts in another language, for the noise `wrong_language`.
    """
    corpus_rows, sample = corpus_sample([store.repo.get_checked(part.id).rows for part in parts], POOL_PAIRS, seed)
    pool = pa.Table.from_batches([batch.select(["src", "tgt"]) for batch in sample()])
    planted = planted_noise(pool, per_kind=per_kind, seed=seed, other_targets=other_targets)
    found: dict[str, dict[str, NDArray[np.float64]]] = {}
    for name, scorer in scorers.items():
        if not scorer.is_of_texts:
            continue
        model_id = scored[name].model
        folder = None if model_id is None else store.models.open(model_id)
        for kind, columns in _scored_kinds(scorer, folder, pool, corpus_rows, planted):
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


def _scored_kinds(
    scorer: Scorer,
    folder: Path | None,
    pool: pa.Table,
    corpus_rows: NDArray[np.int64],
    planted: Mapping[str, PlantedPairs],
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield the columns of the bad pairs of each kind. The pairs of `pool` have the row numbers `corpus_rows`."""
    model, sample_rows = None, np.empty(0, dtype=np.int64)
    if isinstance(scorer, TrainedScorer):
        assert folder is not None
        model, sample_rows = scorer.load(folder), np.load(folder / SAMPLE_FILE, allow_pickle=False)
    for kind, of in planted.items():
        batch = of.pairs.combine_chunks().to_batches()[0]
        scores: Scores
        if isinstance(scorer, CorpusScorer):
            scores = _scores_after(scorer, pool, batch)
        elif model is None:
            scores = scorer.scores(batch)
        elif isinstance(model, LeaveOutModel):
            in_sample = np.isin(corpus_rows[of.rows], sample_rows)
            scores = model.scores_without(batch, original_pairs(pool, of), in_sample)
        else:
            scores = model.scores(batch, np.zeros(batch.num_rows, dtype=np.bool_))
        yield kind, score_batch(scorer, scores, batch.num_rows)


def original_pairs(pool: pa.Table, planted: PlantedPairs) -> pa.RecordBatch:
    """Return the pairs from which bad pairs are made: `src`, `tgt`, and `other_tgt` (see `LeaveOutModel`)."""
    originals = pool.select(["src", "tgt"]).take(pa.array(planted.rows))
    others = pool["tgt"].take(pa.array(planted.other_rows, mask=planted.other_rows < 0)).fill_null("")
    return originals.append_column("other_tgt", others).combine_chunks().to_batches()[0]
