"""The stage that stores scores: one dataset of columns for each text and scorer, and one model for a trained scorer.

Row k of a scores dataset belongs to row k of its text. The id of the dataset is a hash of the text, the scorer's
identity and the model. So a filter with other thresholds reads the same scores. The option's name is not part of it.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON, digest, identity
from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.dataset import TranslationDataset
from mtx.data.score.model_arrays import load_array, save_array
from mtx.data.score.planted_pair_scores import PlantedPairScores
from mtx.data.score.score_ids import SAMPLE_FILE, Inputs, ScoreIds, input_columns, num_scored_rows
from mtx.data.score.scorer import (
    CombiningScorer,
    HeldOutScorer,
    Mask,
    Sample,
    Scorer,
    TrainedScorer,
    score_batch,
)
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, row_range_batches, say_reused
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SelectedRows
from mtx.progress.tracking import Phases, Waiting

MODEL_VERSION = 1  # increase this when the sample of a trained scorer changes; it is part of the ids of models


@dataclass(frozen=True)
class HeldOutPairs:
    """All held-out pairs of a corpus, with which a `HeldOutScorer` compares training pairs.

    Attributes:
        ids: ids of the datasets with the held-out pairs.
        rows: returns the row numbers of the held-out pairs in the texts of the corpus, int64, ascending.
        sample: streams the held-out pairs.
    """

    ids: tuple[str, ...]
    rows: Callable[[], NDArray[np.int64]]
    sample: Sample


def score_texts(
    runner: StageRunner,
    text_ids: Sequence[str],
    scorer: Scorer,
    *,
    name: str = "",
    inputs: Inputs | None = None,
    held_out: HeldOutPairs | None = None,
) -> ScoreIds:
    """Score all rows of the texts of a corpus, unless the scores are stored. A trained scorer trains on all texts.

    Args:
        runner: builds missing datasets.
        text_ids: ids of the text datasets.
        scorer: the scorer.
        name: name of the scorer in messages; empty: the name of its class.
        inputs: the scorers that this scorer combines, by name, with the ids of their scores.
        held_out: the pairs on which a `HeldOutScorer` trains.

    Raises DataError, EmptyDatasetError or StoreError.
    """
    name = name or type(scorer).__name__
    scorer.check_corpus([len(runner.repo.manifest(text_id)) for text_id in text_ids])
    model_id, trained_s, built_s = None, None, None
    if isinstance(scorer, TrainedScorer):
        started, known = time.perf_counter(), len(runner.built)
        model_id = _get_or_train(runner, text_ids, scorer, name, inputs or {}, held_out)
        trained_s = time.perf_counter() - started if len(runner.built) > known else None
    found = {}
    started, known = time.perf_counter(), len(runner.built)
    first = 0
    for text_id in text_ids:
        found[text_id] = _build_scores(runner, text_id, scorer, name, model_id, first, inputs or {})
        first += len(runner.repo.manifest(text_id))
    if len(runner.built) > known:
        built_s = time.perf_counter() - started
    return ScoreIds(found, model_id, built_s, trained_s)


def score_fields(scored: Mapping[str, ScoreIds]) -> dict[str, Any]:
    """Return the fields of `StageIds` about scores, as plain values."""
    return {
        "scores": {name: dict(of.scores) for name, of in scored.items()},
        "models": {name: of.model for name, of in scored.items() if of.model is not None},
        "scoring_s": {name: of.built_s for name, of in scored.items() if of.built_s is not None},
        "training_s": {name: of.trained_s for name, of in scored.items() if of.trained_s is not None},
    }


def score(runner: StageRunner, text_id: str, scorer: Scorer) -> str:
    """Score all rows of one text dataset, unless the scores are stored, and return the id of the scores dataset.

    Raises DataError, EmptyDatasetError or StoreError.
    """
    return score_texts(runner, [text_id], scorer).scores[text_id]


def _get_or_train(
    runner: StageRunner,
    text_ids: Sequence[str],
    scorer: TrainedScorer,
    name: str,
    inputs: Inputs,
    held_out: HeldOutPairs | None,
) -> str:
    """Return the id of the model of a scorer for a corpus, after training the model if it is not stored."""
    described: dict[str, JSON] = {
        "stage": "model",
        "version": MODEL_VERSION,
        "scorer": identity(scorer),
        "texts": list(text_ids),
    }
    if inputs:
        described["inputs"] = [[other, list(ids.scores.values())] for other, (_, ids) in inputs.items()]
    if isinstance(scorer, HeldOutScorer):
        if held_out is None or not held_out.ids:
            raise ConfigError(
                f"the scorer {name} compares training pairs with held-out pairs, but none are held out. Set "
                "datamodule.validation=0.01, or name a set with +datamodule.validation_sets.newstest=FILE"
            )
        described["texts"] = [*text_ids, *held_out.ids]
    model_id = f"model-{digest(described)}"

    def build(folder: Path) -> None:
        waiting.over()
        runner.built.append(model_id)
        with Phases(f"training the scorer {name}", f"scorer {name}") as phases:
            phases.begin("training", unit=None)
            if isinstance(scorer, HeldOutScorer):
                assert held_out is not None
                rows, sample = held_out.rows(), held_out.sample
            else:
                texts = [runner.repo.get_checked(text_id).rows for text_id in text_ids]
                used = [num_scored_rows(runner.repo, text_id, inputs) for text_id in text_ids]
                rows, sample = corpus_sample(texts, scorer.sample_pairs, scorer.seed, used)
            if not len(rows) and held_out is None:
                raise EmptyDatasetError(
                    f"the scorer {name} trains on the corpus, but the corpus has no pair. Check the downloader"
                )
            if isinstance(scorer, CombiningScorer):
                columns = [input_columns(runner.repo, text_id, inputs) for text_id in text_ids]
                pool = pa.Table.from_batches([batch.select(["src", "tgt"]) for batch in sample()])
                planted = PlantedPairScores(runner.open_model, inputs, pool, rows)
                of_pool = planted.with_pool_columns(pa.concat_tables(columns).take(pa.array(rows)))
                scorer.train_on_scores(partial(_with_columns, sample, of_pool), planted.scored, folder)
            else:
                scorer.train(sample, folder)
            save_array(folder / SAMPLE_FILE, rows)

    with Waiting(model_id) as waiting:
        runner.store.models.get_or_build(model_id, build, described)
    if model_id not in runner.built:
        say_reused(f"model of {name}")
    return model_id


def corpus_sample(
    texts: Sequence[Rows], sample_pairs: int, seed: int, num_used: Sequence[int] | None = None
) -> tuple[NDArray[np.int64], Sample]:
    """Return the ascending row numbers of a random sample of concatenated texts, and a function that streams it.

    Args:
        texts: the rows of the texts.
        sample_pairs: the largest number of pairs in the sample.
        seed: another seed draws another sample.
        num_used: number of rows of each text, from the first on, of which the sample is drawn; None: all.
    """
    sizes = [len(rows) for rows in texts]
    limits = sizes if num_used is None else list(num_used)
    total = sum(limits)
    if total <= sample_pairs:
        chosen = np.arange(total, dtype=np.int64)
    else:
        chosen = np.random.default_rng(seed).choice(total, sample_pairs, replace=False, shuffle=False)
        chosen = np.sort(chosen).astype(np.int64)
    view = SelectedRows(texts, limits, Rows(pa.table({ROW_COLUMN: chosen})))

    def sample() -> Batches:
        return pair_batches(batch.drop_columns([ROW_COLUMN]) for batch in view.batches())

    return rows_in_texts(chosen, limits, sizes), sample


def rows_in_texts(rows: NDArray[np.int64], num_used: Sequence[int], sizes: Sequence[int]) -> NDArray[np.int64]:
    """Return the row numbers in whole texts of rows of a corpus, which leaves out the rows beyond a cap.

    Args:
        rows: row numbers in the corpus.
        num_used: number of rows of each text that are in the corpus.
        sizes: number of rows of each text.
    """
    shifts = np.cumsum([0, *np.subtract(sizes, num_used)])
    found: NDArray[np.int64] = rows + shifts[np.searchsorted(np.cumsum(num_used), rows, side="right")]
    return found


def _build_scores(
    runner: StageRunner,
    text_id: str,
    scorer: Scorer,
    name: str,
    model_id: str | None,
    first: int,
    inputs: Inputs,
) -> str:
    """Store the scores of one text. `first` is the number of its first row in the whole corpus."""
    text = runner.repo.manifest(text_id)
    described: dict[str, JSON] = {"text": text_id, "scorer": identity(scorer)}
    if model_id is not None:
        described["model"] = model_id
    if scorer.reads_rows and first:  # the rows have other numbers where the text stands at another place
        described["first"] = first
    scores_id = f"scores-{text.split}-{digest(described)}"

    def stage() -> Stage:
        folder = None if model_id is None else runner.open_model(model_id)
        rows = runner.repo.get_checked(text_id).rows
        read = partial(row_range_batches, rows)
        if inputs:
            read = partial(_scored_range_batches, rows, input_columns(runner.repo, text_id, inputs))
        return Stage(
            output=TranslationDataset(
                name=text.name,
                stage="scores",
                split=text.split,
                languages=text.languages,
                provenance={"inputs": [text_id], "scorer": identity(scorer), "model": model_id or ""},
            ),
            description=f"scoring {text.split} by {name}",
            num_rows=len(text),
            read=read,
            transform=partial(_scored, scorer, folder, first),
            is_parallel=getattr(scorer, "is_parallel", False),
        )

    runner.run(scores_id, stage)
    return scores_id


def _scored_range_batches(rows: Rows, columns: pa.Table, first: int, end: int) -> Batches:
    """Stream rows of a text with the columns of other scorers."""
    return _with_columns(partial(row_range_batches, rows, first, end), columns.slice(first, end - first))


def _with_columns(read: Sample, columns: pa.Table) -> Batches:
    """Stream the texts of pairs with the columns of other scorers; further columns of the corpus are left out."""
    start = 0
    for batch in read():
        piece = columns.slice(start, batch.num_rows).combine_chunks()
        batch = batch.select(["src", "tgt"])
        for name in columns.column_names:
            batch = batch.append_column(name, piece[name].combine_chunks())
        start += batch.num_rows
        yield batch


def _scored(scorer: Scorer, folder: Path | None, offset: int, batches: Batches, first: int, counts: Counts) -> Batches:
    """Yield the columns of all pairs, and count for each score the pairs with and without a score."""
    names = [name for name, column in scorer.columns.items() if column.is_score]
    counts |= {"scored": dict.fromkeys(names, 0), "without_score": dict.fromkeys(names, 0)}
    model, sample = None, np.empty(0, dtype=np.int64)
    if folder is not None:
        assert isinstance(scorer, TrainedScorer)
        model, sample = scorer.load(folder), load_array(folder / SAMPLE_FILE)
    first += offset
    for batch in pair_batches(batches):
        if not scorer.is_of_texts:
            rows = np.arange(first, first + batch.num_rows)
            batch = batch.append_column(ROW_COLUMN, pa.array(rows))
        if model is None:
            found = scorer.scores(batch)
        else:
            found = model.scores(batch, sample_mask(sample, first, batch.num_rows))
        columns = score_batch(scorer, found, batch.num_rows)
        for name in names:
            missing = int(np.count_nonzero(np.isnan(columns[name].to_numpy(zero_copy_only=False))))
            counts["scored"][name] += batch.num_rows - missing
            counts["without_score"][name] += missing
        first += batch.num_rows
        yield columns


def sample_mask(sample: NDArray[np.int64], first: int, num_rows: int) -> Mask:
    """Return which of the rows from `first` on are in a sample: bool [num_rows]."""
    mask = np.zeros(num_rows, dtype=np.bool_)
    low, high = np.searchsorted(sample, (first, first + num_rows))
    mask[sample[low:high] - first] = True
    return mask
