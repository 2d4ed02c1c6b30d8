"""Builds scores and splits in the order in which they need each other.

Most scorers need only the text. A split by clusters needs the near-duplicates of the text. A scorer that compares with
held-out pairs needs the split.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.data.concatenated_corpus import Corpus
from mtx.data.score.corpus_score_stage import score_corpus
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_stage import HeldOutPairs, rows_in_texts, score_texts
from mtx.data.score.scorer import CorpusScorer, HeldOutScorer, Scorer, scoring_order
from mtx.data.split import HeldOut
from mtx.data.split_groups import split_groups
from mtx.data.splitting_stage import Splits, build_splits
from mtx.data.stage_runner import StageRunner
from mtx.infra.dal.row_views import ROW_COLUMN


def build_scores_and_splits(
    runner: StageRunner, corpus: Corpus, scorers: Mapping[str, Scorer], held_out: HeldOut, sets: Sequence[str]
) -> tuple[dict[str, ScoreIds], Splits]:
    """Score the texts from which the training split is selected, by each scorer, and split the text.

    Args:
        runner: builds missing datasets.
        corpus: the text.
        scorers: the scorers by name.
        held_out: how many pairs to hold out, and by which groups.
        sets: ids of the texts of additional validation sets.
    """
    scored = build_text_scores(runner, corpus, scorers)
    groups = split_groups(held_out.by, corpus, runner, scorers, scored, held_out.seed)
    kept_apart = list(sets) if held_out.drop_leaks or held_out.drop_contaminated else []
    splits = build_splits(corpus, held_out, kept_apart, runner, groups)
    pairs = _held_out_pairs(runner, corpus, splits, sets)
    texts = [part.id for part in corpus.parts("train")]
    for name, scorer in scorers.items():
        if isinstance(scorer, HeldOutScorer):
            scored[name] = score_texts(runner, texts, scorer, name=name, held_out=pairs)
    return {name: scored[name] for name in scorers}, splits


def needs_split(scorers: Mapping[str, Scorer]) -> bool:
    """Return whether a scorer compares with held-out pairs."""
    return any(isinstance(scorer, HeldOutScorer) for scorer in scorers.values())


def build_text_scores(runner: StageRunner, corpus: Corpus, scorers: Mapping[str, Scorer]) -> dict[str, ScoreIds]:
    """Score the training texts by each scorer that does not need the split; combining scorers come last."""
    parts = corpus.parts("train")
    scored: dict[str, ScoreIds] = {}
    for name, inputs in scoring_order(scorers).items():
        scorer = scorers[name]
        if isinstance(scorer, CorpusScorer):
            scored[name] = score_corpus(runner, parts, scorer, name=name)
        elif not isinstance(scorer, HeldOutScorer):
            given = {other: (scorers[other], scored[other]) for other in inputs}
            scored[name] = score_texts(runner, [part.id for part in parts], scorer, name=name, inputs=given)
    return {name: scored[name] for name in scorers if name in scored}


def _held_out_pairs(runner: StageRunner, corpus: Corpus, splits: Splits, sets: Sequence[str]) -> HeldOutPairs:
    held_out = {split: name for split, name in splits.ids.items() if split != "train"}
    ids = (*held_out.values(), *sets)

    def rows() -> NDArray[np.int64]:
        found = [np.empty(0, dtype=np.int64)]
        for split, name in held_out.items():
            if splits.of_raw(split) == "train":
                stored = runner.repo.get_checked(name).rows.column(ROW_COLUMN)
                found.append(stored.to_numpy().astype(np.int64))
        parts = corpus.parts("train")
        sizes = [len(runner.repo.manifest(part.id)) for part in parts]
        return rows_in_texts(np.sort(np.concatenate(found)), [part.num_rows for part in parts], sizes)

    def sample() -> Iterator[pa.RecordBatch]:
        for name in ids:
            for batch in runner.repo.get_checked(name).rows.batches():
                yield batch.select(["src", "tgt"])

    return HeldOutPairs(ids, rows, sample)
