"""The stage of scorers over the whole corpus: the columns of all pairs as one artifact, cut into a dataset per text."""

import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa

from mtx.components.identity import JSON, digest, identity
from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.scorer import CorpusScorer, score_batch
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, row_range_batches, say_reused
from mtx.data.store import WORK_LOCK
from mtx.errors import ConfigError
from mtx.infra.dal.arrow_rows import ROWS_PER_BATCH, Rows
from mtx.infra.dal.atomic_file import atomic_file
from mtx.infra.dal.locks import path_lock
from mtx.progress.tracking import Phases, Waiting

COLUMNS_VERSION = 1  # increase this when the module passes other pairs to a scorer; it is part of the ids
COLUMNS_FILE = "columns.arrow"


def score_corpus(
    runner: StageRunner, parts: Sequence[SelectedDataset], scorer: CorpusScorer, *, name: str = ""
) -> ScoreIds:
    """Score all pairs of a corpus together, unless the scores are stored.

    Rows beyond the cap of a source are no part of the corpus, so they have no scores.

    Args:
        runner: builds missing datasets.
        parts: the text datasets of the corpus in order.
        scorer: the scorer.
        name: name of the scorer in messages; empty: the name of its class.

    Raises ConfigError if two parts are the same text; ConfigError, DataError or StoreError from the scorer.
    """
    name = name or type(scorer).__name__
    if len({part.id for part in parts}) < len(parts):
        raise ConfigError(
            f"the scorer {name} compares all pairs of the corpus, but two sources of the mixture are the same text. "
            "Remove one of them from downloader.sources"
        )
    scorer.check_corpus([len(runner.repo.manifest(part.id)) for part in parts])
    started, known = time.perf_counter(), len(runner.built)
    columns_id = _get_or_build_columns(runner, parts, scorer, name)
    found, first = {}, 0
    for part in parts:
        found[part.id] = _build_scores(runner, part, scorer, name, columns_id, first)
        first += part.num_rows
    return ScoreIds(found, columns_id, time.perf_counter() - started if len(runner.built) > known else None)


def _get_or_build_columns(
    runner: StageRunner, parts: Sequence[SelectedDataset], scorer: CorpusScorer, name: str
) -> str:
    described: dict[str, JSON] = {
        "stage": "columns",
        "version": COLUMNS_VERSION,
        "scorer": identity(scorer),
        "texts": [part.id for part in parts],
        "num_rows": [part.num_rows for part in parts],
    }
    columns_id = f"columns-{digest(described)}"

    def build(folder: Path) -> None:
        waiting.over()
        runner.built.append(columns_id)
        texts = [(runner.repo.get_checked(part.id).rows, part.num_rows) for part in parts]
        with Phases(f"scoring the corpus by {name}", f"scorer {name}") as phases:
            phases.begin("scoring", unit=None)
            found = _corpus_columns(scorer, texts, runner.store.scratch() / columns_id)
        with atomic_file(folder / COLUMNS_FILE) as file, pa.ipc.new_file(file, found.schema) as writer:
            writer.write_batch(found)

    with Waiting(columns_id) as waiting:
        runner.store.models.get_or_build(columns_id, build, described)
    if columns_id not in runner.built:
        say_reused(f"columns of {name}")
    return columns_id


def _corpus_columns(scorer: CorpusScorer, texts: Sequence[tuple[Rows, int]], scratch: Path) -> pa.RecordBatch:
    """Return the checked columns of all pairs. `scratch` holds temporary files, also those of a killed process."""
    work = scratch / "work"
    num_pairs = sum(num_rows for _, num_rows in texts)
    with path_lock(scratch / WORK_LOCK):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        try:
            found = scorer.corpus_columns(partial(corpus_batches, texts), num_pairs, work)
            return score_batch(scorer, found, num_pairs)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def corpus_batches(texts: Sequence[tuple[Rows, int]]) -> Iterator[pa.RecordBatch]:
    """Stream the first rows of several texts, given the number of rows of each."""
    for rows, num_rows in texts:
        if num_rows:
            yield from pair_batches(row_range_batches(rows, 0, num_rows))


def _build_scores(
    runner: StageRunner, part: SelectedDataset, scorer: CorpusScorer, name: str, columns_id: str, first: int
) -> str:
    """Store the columns of one text, whose first row has the number `first` in the corpus."""
    text = runner.repo.manifest(part.id)
    described: dict[str, JSON] = {"text": part.id, "scorer": identity(scorer), "columns": columns_id, "first": first}
    scores_id = f"scores-{text.split}-{digest(described)}"

    def stage() -> Stage:
        return Stage(
            output=TranslationDataset(
                name=text.name,
                stage="scores",
                split=text.split,
                languages=text.languages,
                provenance={"inputs": [part.id], "scorer": identity(scorer), "model": columns_id},
            ),
            description=f"storing the scores of {text.split} by {name}",
            num_rows=part.num_rows,
            read=partial(_column_batches, runner.open_model(columns_id) / COLUMNS_FILE, first),
            transform=partial(_counted, scorer),
        )

    runner.run(scores_id, stage)
    return scores_id


def _column_batches(path: Path, offset: int, first: int, end: int) -> Batches:
    with pa.memory_map(str(path)) as file:
        columns = pa.ipc.open_file(file).read_all()
        for start in range(offset + first, offset + end, ROWS_PER_BATCH):
            piece = columns.slice(start, min(ROWS_PER_BATCH, offset + end - start)).combine_chunks()
            yield piece.to_batches()[0]


def _counted(scorer: CorpusScorer, batches: Batches, first: int, counts: Counts) -> Batches:
    """Yield the columns of all pairs, and count for each score the pairs with and without a score."""
    names = [name for name, column in scorer.columns.items() if column.is_score]
    counts |= {"scored": dict.fromkeys(names, 0), "without_score": dict.fromkeys(names, 0)}
    for batch in batches:
        for name in names:
            missing = int(np.count_nonzero(np.isnan(batch.column(name).to_numpy(zero_copy_only=False))))
            counts["scored"][name] += batch.num_rows - missing
            counts["without_score"][name] += missing
        yield batch
