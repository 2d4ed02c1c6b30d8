"""The stage filtered: which rows of a split the filter keeps.

It stores only row numbers of the text, so the token ids of the text serve all filters. A filter that needs all pairs,
such as to find duplicates, is fitted first; tasks then apply it to ranges of rows, and their counts are added.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mtx.components.identity import JSON, digest, identity
from mtx.data.concatenated_corpus import Corpus, SourceTally
from mtx.data.dataset import Split, TranslationDataset
from mtx.data.filter.filter_protocol import DividedPairs, PairFilter, RangeFunction
from mtx.data.filter.selection_check import SelectionCheck
from mtx.data.filter.selection_warnings import warn_of_all_selections
from mtx.data.row_tasks import RowTasks
from mtx.data.score.score_table import ScoredCorpus, ScoreTable
from mtx.data.splitting_stage import Splits
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, added_counts, row_range_batches
from mtx.data.text_bytes import num_words
from mtx.data.training_share import pairs_in_share
from mtx.errors import ConfigError, choices
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN
from mtx.progress.tracking import track

VERSION = 1  # increase this when the module writes other output for the same inputs; it is part of all ids


def build_filtered(
    keeper: PairFilter,
    corpus: Corpus,
    splits: Splits,
    split: Split,
    runner: StageRunner,
    scores: ScoredCorpus | None = None,
    share: float = 1.0,
) -> str:
    """Store which rows of a split the filter keeps; below 1, only `share` of them, by a hash of the source sentence.

    Only the scores that the filter reads are part of the id, so further scorers build nothing anew.

    Raises ConfigError if the filter reads scores, but the pairs are not of the source's training split.
    """
    scores = _scores_read(keeper, scores or ScoredCorpus(), splits, split)
    split_id = splits.ids[split]
    described: dict[str, JSON] = {
        "stage": "filtered",
        "version": VERSION,
        "split": split_id,
        "scores": scores.ids(),
        "filter": identity(keeper),
    }
    of_share: dict[str, JSON] = {"share": share} if share < 1 else {}
    ways: dict[str, Any] = {"ignored_prefixes": corpus.prefixes, "swapped": corpus.swapped_parts} if of_share else {}
    described |= of_share | {name: list(value) for name, value in ways.items() if value}
    narrow = partial(pairs_in_share, share=share, **ways) if of_share else None
    filtered_id = f"filtered-{split}-{digest(described)}"

    def stage() -> Stage:
        before = runner.repo.get_checked(split_id)
        read = partial(_scored_range_batches, before.rows, _score_table(runner, corpus, scores))
        tasks = RowTasks(description=f"filtering {split}", num_rows=len(before), read=read, transform=_unchanged)
        fit, is_divided = _fit(keeper.for_mixture(corpus.names), tasks, filtered_id, runner)
        return Stage(
            output=TranslationDataset(
                name=before.name,
                stage="filtered",
                split=split,
                languages=before.languages,
                provenance={
                    "inputs": [split_id, *(name for of in scores.scored.values() for name in of.scores.values())],
                    "filter": identity(keeper),
                    **of_share,
                    **scores.names_read(corpus.names),
                },
                selects=before.selects,
            ),
            description=tasks.description,
            num_rows=tasks.num_rows,
            read=read,
            transform=partial(_filtered_rows, keeper, fit, narrow, corpus.names, is_divided),
            is_shardable=is_divided,
            merge=partial(_added_filter_counts, corpus.names),
            finish=partial(_joined_rows, corpus.names, before.metrics),
        )

    runner.run(filtered_id, stage)
    return filtered_id


def _fit(
    keeper: PairFilter, tasks: RowTasks, filtered_id: str, runner: StageRunner
) -> tuple[Callable[[], PairFilter], bool]:
    """Return a function that returns the fitted filter, and whether tasks apply it to ranges of the pairs."""
    keeper, num_rows = keeper.with_scratch(runner.store.scratch()), tasks.num_rows or 0
    if not runner.is_divided(num_rows):
        return partial(keeper.fitted, partial(tasks.read, 0, num_rows)), False
    fitted = keeper.fitted(_divided_pairs(tasks, filtered_id, runner))
    return partial(_itself, fitted), fitted.is_divisible


def _divided_pairs(tasks: RowTasks, filtered_id: str, runner: StageRunner) -> DividedPairs:
    """Return the pairs of a split, for a filter that derives something from all of them."""
    folder = runner.pass_folder(filtered_id)

    def read() -> Batches:
        return track(tasks.read(0, tasks.num_rows or 0), f"{tasks.description}: reading all pairs", tasks.num_rows)

    def in_tasks(name: str, function: RangeFunction) -> Batches:
        described = f"{tasks.description}: {name}"
        return runner.pass_over(folder / name, replace(tasks, description=described, transform=function))

    return DividedPairs(read, tasks.num_rows or 0, folder, in_tasks)


def _scores_read(keeper: PairFilter, scores: ScoredCorpus, splits: Splits, split: Split) -> ScoredCorpus:
    """Return the scores that a filter reads of a split. Raises ConfigError as `build_filtered` does."""
    scores = scores.read_by(keeper.columns)
    if scores.scored and splits.of_raw(split) != "train":
        if keeper.columns is not None:
            raise ConfigError(
                f"datamodule.held_out_filter compares scores of {choices('', scores.scored)}, but mtx scores only the "
                f"source's training split, and {split} is a split of the source. Let it compare lengths or columns of "
                "the corpus"
            )
        scores = ScoredCorpus()
    return scores


def _score_table(runner: StageRunner, corpus: Corpus, scores: ScoredCorpus) -> ScoreTable | None:
    if not scores.scored:
        return None
    return ScoreTable.open(runner.repo, corpus.parts("train"), scores.scorers, scores.scored)


def _scored_range_batches(rows: Rows, table: ScoreTable | None, first: int, end: int) -> Batches:
    """Stream rows of a split with their score columns."""
    batches = row_range_batches(rows, first, end)
    return batches if table is None else table.batches(batches, ROW_COLUMN)


def _unchanged(batches: Batches, first: int, counts: Counts) -> Batches:
    return batches


def _itself(fitted: PairFilter) -> PairFilter:
    return fitted


def _filtered_rows(
    keeper: PairFilter,
    fit: Callable[[], PairFilter],
    narrow: Callable[..., Batches] | None,
    names: list[str],
    is_part: bool,
    batches: Batches,
    first: int,
    counts: Counts,
) -> Batches:
    tally = SourceTally(names, is_part=is_part)
    check = SelectionCheck(keeper, batches)
    text = {f"{side}_{unit}": 0 for side in ("source", "target") for unit in ("chars", "bytes", "words")}
    kept = check.checked_batches(fit().apply(check.input_batches(), tally.dropped))
    for batch in kept if narrow is None else narrow(kept, dropped=tally.dropped):
        tally.count_kept(batch.column(SOURCE_COLUMN).to_numpy() if names else None)
        for side, name in (("source", "src"), ("target", "tgt")):
            column = batch.column(name)
            text[f"{side}_chars"] += pc.sum(pc.utf8_length(column)).as_py() or 0
            text[f"{side}_bytes"] += pc.sum(pc.cast(pc.binary_length(column), pa.int64())).as_py() or 0
            text[f"{side}_words"] += num_words(column)
        yield batch.select([ROW_COLUMN])
    counts.update(tally=tally.state(), text=text, is_part=is_part)


def _added_filter_counts(names: list[str], one: Counts, other: Counts) -> Counts:
    """Add the counts of a range to those of the ranges before."""
    tally = SourceTally(names)
    for counts in (one, other):
        tally.add_state(counts["tally"])
    return {"tally": tally.state(), "text": added_counts(one["text"], other["text"]), "is_part": True}


def _joined_rows(names: list[str], before: Mapping[str, Any], batches: Batches, counts: Counts) -> Batches:
    """Join row numbers into one record batch, which is read as one array, and write the final counts."""
    table = pa.Table.from_batches(batches).combine_chunks()
    yield table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)
    state, text, is_part = (counts.pop(name) for name in ("tally", "text", "is_part"))
    tally = SourceTally(names, before)
    tally.add_state(state)
    if is_part and tally.dropped.funnel is not None:
        warn_of_all_selections(tally.dropped.funnel)
    tally.write_metrics()
    counts.update(tally.metrics, text=text)
