"""Plants noise into a sample of a scored corpus, and scores the bad pairs with the stored models."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.dataset import SelectedDataset
from mtx.data.score.planted_noise import planted_noise
from mtx.data.score.planted_pair_scores import PlantedPairScores
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_stage import corpus_sample
from mtx.data.score.score_table import shown_columns
from mtx.data.score.scorer import HeldOutScorer, Scorer
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

    A scorer that needs more than the texts of a pair is left out, and so is one that compares with held-out pairs.
    The models are those of the corpus. They have not seen the bad pairs, so these count as outside of the sample; a
    `LeaveOutModel` takes off what it has learned from the pairs from which they are made.

    Args:
        store: the store with texts and models.
        parts: the text datasets.
        scorers: the scorers by name.
        scored: the ids of their scores and models.
        per_kind: number of bad pairs of each kind.
        seed: seed of the noise.
        other_targets: texts in another language, for the noise `wrong_language`.
    """
    rows, sample = corpus_sample([store.repo.get_checked(part.id).rows for part in parts], POOL_PAIRS, seed)
    pool = pa.Table.from_batches([batch.select(["src", "tgt"]) for batch in sample()])
    planted = planted_noise(pool, per_kind=per_kind, seed=seed, other_targets=other_targets)
    inputs = {name: (scorer, scored[name]) for name, scorer in scorers.items() if scorer.scores_noise}
    scores = PlantedPairScores(partial(store.models.open, full=True), inputs, pool, rows)
    found: dict[str, dict[str, NDArray[np.float64]]] = {name: {} for name in scores.score_columns}
    for kind, of in planted.items():
        columns = scores.scored(of)
        for name in scores.score_columns:
            found[name][kind] = columns[name].to_numpy()
    return found


def without_held_out(
    scorers: Mapping[str, Scorer], values: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of the pairs that a filter sees, by shown name: float64 [pairs].

    Held-out pairs are left out: those without a score of a scorer that compares with held-out pairs.
    """
    held_out = {name: scorer for name, scorer in scorers.items() if isinstance(scorer, HeldOutScorer)}
    is_known = [~np.isnan(values[name]) for name, of in shown_columns(held_out).items() if of.is_score]
    if not is_known:
        return dict(values)
    is_seen = np.logical_and.reduce(is_known)
    return {name: of[is_seen] for name, of in values.items()}
