"""The slices of the held-out pairs of a run: by length, rarest word, source of a mixture, columns and scores."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from mtx.data.language_groups import LanguageGroup, language_groups, part_languages
from mtx.data.score.score_table import shown_columns
from mtx.evaluation.slices import (
    COLUMN_PREFIX,
    Slicing,
    category_slicing,
    decile_slicing,
    length_slicing,
    rarest_word_slicing,
)
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.infra.dataset.extra_columns import is_category
from mtx.library_errors import library_reason
from mtx.progress.progress_log import log_trace
from mtx.training.held_out_documents import USUAL_NAME
from mtx.training.training_pair_columns import TrainingColumns
from mtx.training.translation_data import TranslationData

MAX_TRAINING_PAIRS = 100_000  # evenly spaced training pairs in which words are counted
MAX_TRAINING_CHARS = 20_000_000  # of their sources; fewer pairs are read if these are long
NUM_MEASURED_PAIRS = 1000  # evenly spaced training pairs from which the length of a source is estimated
GROUP_SLICING = "direction"  # by the languages of a pair, and by the tag of its source
MAX_COLUMNS = 6  # slicings by columns of the corpus, and as many by scores
OWN_COLUMNS = frozenset({"src", "tgt", ROW_COLUMN, SOURCE_COLUMN})


def part_targets(data: TranslationData) -> list[str]:
    """Return the target language of each part of the corpus in order."""
    assert data.ids is not None
    corpus = data.recipe.downloader.with_stored_parts(data.ids.parts)
    return [target for _, target in part_languages(corpus, data.ids.raw, data.storage.repo)]


def corpus_groups(data: TranslationData) -> list[LanguageGroup]:
    """Return the groups of the parts of the corpus by languages and tag; none if all parts have the same ones."""
    assert data.ids is not None
    corpus = data.recipe.downloader.with_stored_parts(data.ids.parts)
    return language_groups(corpus, data.ids.raw, data.storage.repo, data.recipe.normalise)


def slicings_or_none(data: object, console: Console) -> list[Slicing]:
    """Return the slicings of prepared data; none if they fail, after a line that says why.

    They are computed after training, so an unusual value of a column must not fail the run.
    """
    try:
        return held_out_slicings(data) if isinstance(data, TranslationData) else []
    except Exception as error:
        told = f"the held-out pairs were not sliced: {library_reason(error)}{log_trace()}"
        console.print(told, highlight=False, markup=False, soft_wrap=True)
        return []


def held_out_slicings(data: TranslationData) -> list[Slicing]:
    """Return the slicings of the first validation set of a prepared run; empty without a validation set."""
    if not data.val_names or data.ids is None:
        return []
    name = data.val_names[0]
    dataset_id = {**data.ids.filtered, **data.ids.beside_text}[name]
    rows = data.storage.repo.get(dataset_id).rows
    if not len(rows):
        return []
    sources = _column(rows, "src").cast(pa.string())
    found = [length_slicing(sources), rarest_word_slicing(sources, _training_sources(data))]
    found += [slicing for slicing in (*_by_source(data, name), *_by_columns(data, rows)) if slicing is not None]
    return [*found, *_by_scores(data, name)]


def _training_sources(data: TranslationData) -> pa.Array:
    assert data.ids is not None
    rows = data.storage.repo.get(data.ids.filtered["train"]).rows
    sample = _sources(rows, NUM_MEASURED_PAIRS)
    mean_chars = max(1, sum(map(len, sample)) // max(1, len(sample)))
    return pa.array(_sources(rows, min(MAX_TRAINING_PAIRS, max(1, MAX_TRAINING_CHARS // mean_chars))), pa.string())


def _sources(rows: Rows, num_pairs: int) -> list[str]:
    """Return the sources of at most `num_pairs` evenly spaced rows."""
    step = max(1, -(-len(rows) // num_pairs))
    return [row["src"] for row in rows.take(range(0, len(rows), step))]


def _by_source(data: TranslationData, name: str) -> Iterator[Slicing | None]:
    if data.source_names and name == "validation":
        names = pa.array(data.source_names)
        sources = data.sources(name)
        by_group = _by_group(data, sources)
        if by_group is None or not set(by_group.labels) <= set(data.source_names):  # else the slices are equal
            yield category_slicing("mixture_source", names.take(pa.array(sources.astype(np.int64))))
        yield by_group


def _by_group(data: TranslationData, sources: NDArray[np.uint16]) -> Slicing | None:
    """Return the slicing by direction, or by tag if directions are equal; None for a corpus of one direction."""
    groups = corpus_groups(data)
    if not groups:
        return None
    of_part = {part: number for number, group in enumerate(groups) for part in group.parts}
    of_pair = np.array([of_part[part] for part in range(len(data.source_names))], dtype=np.int64)[sources]
    used, renumbered = np.unique(of_pair, return_inverse=True)
    return Slicing(GROUP_SLICING, tuple(groups[number].name for number in used), renumbered.astype(np.int64))


def _by_columns(data: TranslationData, rows: Rows) -> Iterator[Slicing | None]:
    skipped = OWN_COLUMNS | {data.document_column or USUAL_NAME}
    fields = [field for field in rows.schema if field.name not in skipped and is_category(field.type)]
    for field in fields[:MAX_COLUMNS]:
        yield category_slicing(f"{COLUMN_PREFIX}{field.name}", _column(rows, field.name))


def _by_scores(data: TranslationData, name: str) -> Iterator[Slicing]:
    """Yield the slicings by scores of a validation split that was scored with the training split."""
    assert data.ids is not None
    scorers = data.recipe.scorers
    if not scorers or name != "validation":
        return
    dataset = data.storage.repo.manifest(data.ids.filtered[name])
    columns = TrainingColumns(data._repo, data.ids.filtered[name], scorers, data.ids.scores)
    for scorer, of in list(scorers.items())[:MAX_COLUMNS]:
        if not all(part.id in data.ids.scores.get(scorer, {}) for part in dataset.selects):
            continue
        for column in list(shown_columns({scorer: of}))[:1]:  # the first column of a scorer is its score
            values = columns.column("score", column)
            if pa.types.is_floating(values.type) or pa.types.is_integer(values.type):
                numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
                if (slicing := decile_slicing(f"score.{column}", numbers)) is not None:
                    yield slicing


def _column(rows: Rows, name: str) -> pa.Array:
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
