"""The stages split and filtered: which rows of the text belong to which split, and which of them the filter keeps.

Both stages store only row numbers of the text, so the token ids of the text serve all splits and filters.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mtx.components.identity import JSON, digest, identity
from mtx.data.concatenated_corpus import Corpus, SourceTally
from mtx.data.dataset import SPLITS, Split, TranslationDataset
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.data.filter.selection_check import SelectionCheck
from mtx.data.row_split_assignment import TrainingAssignment
from mtx.data.score.score_table import ScoredCorpus, ScoreTable
from mtx.data.split import CONTAMINATED, LEAK, TRAIN, HeldOut
from mtx.data.split_groups import SplitGroups
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, row_range_batches, unchanged_batches
from mtx.data.training_share import pairs_in_share
from mtx.errors import ConfigError, choices
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN

VERSION = 1  # increase this when the module writes other output for the same inputs; it is part of all ids
MAX_UINT32_ROWS = np.iinfo(np.uint32).max  # with more rows, row numbers take 8 bytes instead of 4


@dataclass(frozen=True)
class Splits:
    """Ids of the split datasets, and the splits that the source itself provides (`own`)."""

    ids: Mapping[Split, str]
    own: tuple[str, ...]

    def of_raw(self, split: Split) -> str:
        """Return the split of the source from which the rows of a split are selected."""
        return split if split in self.own else "train"


def build_splits(
    corpus: Corpus, held_out: HeldOut, kept_apart: list[str], runner: StageRunner, groups: SplitGroups | None = None
) -> Splits:
    """Store which rows of the text belong to which split.

    Validation and test are the splits of the source, if it has them; otherwise they are held out from its training
    split.

    Args:
        corpus: the text.
        held_out: how many pairs to hold out for splits that the source does not have.
        kept_apart: ids of texts; training pairs with a source sentence of these texts are dropped.
        runner: builds missing datasets.
        groups: the pairs that stay together; None: pairs with one source sentence.
    """
    own = [split for split in SPLITS[1:] if split in corpus.splits]
    wanted = [split for split in SPLITS[1:] if split not in own and getattr(held_out, split)]
    described = {
        split: _split_description(corpus, held_out, sorted(set(kept_apart)), own, split, groups) for split in SPLITS
    }
    name = f"split-{digest(described)}"
    assignment = TrainingAssignment(corpus, held_out, sorted(set(kept_apart)), own, wanted, runner, name, groups)
    ids: dict[Split, str] = {}
    for split in SPLITS:
        if split == "train" or split in own or split in wanted:
            split_id = f"split-{split}-{digest(described[split])}"
            ids[split] = _build_split(corpus, held_out, assignment, split, split_id)
    return Splits(ids, ("train", *own))


def _split_description(
    corpus: Corpus,
    held_out: HeldOut,
    kept_apart: list[str],
    own: Sequence[Split],
    split: Split,
    groups: SplitGroups | None,
) -> dict[str, JSON]:
    """Return all that decides a split, for its id."""
    described: dict[str, JSON] = {
        "stage": "split",
        "version": VERSION,
        **corpus.description(),
        "held_out": identity(held_out),
        "split": split,
    }
    if split in own:
        return described
    if kept_apart:
        described["kept_apart"] = cast(list[JSON], kept_apart)
    if groups is not None:
        described["groups"] = dict(groups.described)
    if corpus.prefixes:
        described["prefixes"] = cast(list[JSON], sorted(corpus.prefixes))
    return described


def _build_split(corpus: Corpus, held_out: HeldOut, assignment: TrainingAssignment, split: Split, split_id: str) -> str:
    is_own = split in assignment.own
    raw_split = split if is_own else "train"

    def stage() -> Stage:
        parts = corpus.parts(raw_split)
        return Stage(
            output=TranslationDataset(
                name=corpus.info.name,
                stage="split",
                split=split,
                languages=corpus.info.languages,
                provenance={
                    "inputs": [*(part.id for part in parts), *([] if is_own else assignment.kept_apart)],
                    "held_out": identity(held_out),
                },
                selects=parts,
            ),
            description=f"splitting {split}",
            num_rows=None,
            read=lambda first, end: iter(()),
            transform=partial(_split_rows, corpus, None if is_own else assignment, split),
            gather=unchanged_batches,
        )

    assignment.runner.run(split_id, stage)
    return split_id


def _split_rows(
    corpus: Corpus, assignment: TrainingAssignment | None, split: Split, batches: Batches, first: int, counts: Counts
) -> Batches:
    tally = SourceTally(corpus.names)
    if assignment is None:
        chosen = np.arange(corpus.num_rows(split))
        sources = corpus.source_of(split)
        tally.count_available(sources)
    else:
        assigned, of_all = assignment.rows, corpus.source_of("train")
        mine = assigned == SPLITS.index(split)
        if split == "train":
            dropped = np.where(assigned == LEAK, assigned, TRAIN)
            if (contaminated := assignment.contaminated) is not None:
                counts["contaminated"] = contaminated.counts()
                if option := assignment.held_out.drop_contaminated:
                    found = contaminated.source | contaminated.target
                    found = found | contaminated.ngram if option == "ngram" else found
                    dropped = np.where(found, CONTAMINATED, dropped)
                    mine &= dropped == TRAIN
            tally.count_available(None if of_all is None else of_all[mine | (dropped != TRAIN)])
            _count_dropped(corpus, dropped, of_all, tally)
            tally.count_capped(corpus.num_capped())
        else:
            tally.count_available(None if of_all is None else of_all[mine])
        chosen = np.flatnonzero(mine)
        sources = None if of_all is None else of_all[chosen]
    tally.count_kept(sources)
    yield from _row_batches(chosen, corpus.num_rows("train" if assignment else split))
    tally.write_metrics()
    counts.update(tally.metrics)


def _count_dropped(
    corpus: Corpus, dropped: NDArray[np.uint8], sources: NDArray[np.uint16] | None, tally: SourceTally
) -> None:
    if not dropped.any():
        return
    start = 0
    for batch in corpus.batches("train"):
        found = dropped[start : start + batch.num_rows]
        if sources is not None:
            batch = batch.append_column(SOURCE_COLUMN, pa.array(sources[start : start + batch.num_rows]))
        for value, reason in ((LEAK, "in_held_out"), (CONTAMINATED, "contaminated")):
            count_dropped(tally.dropped, reason, found == value, batch)
        start += batch.num_rows


def _row_batches(chosen: NDArray[np.int64], num_rows: int) -> Iterator[pa.RecordBatch]:
    """Yield row numbers as one record batch: uint32, or int64 if the text has too many rows."""
    kind = pa.uint32() if num_rows <= MAX_UINT32_ROWS else pa.int64()
    yield pa.record_batch([pa.array(chosen).cast(kind)], schema=pa.schema([pa.field(ROW_COLUMN, kind)]))


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

    Raises ConfigError if the filter reads scores, but the pairs have none, because they do not come from the source's
    training split.
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
        before, spilling = runner.repo.get_checked(split_id), keeper.with_scratch(runner.store.scratch())
        read = partial(_scored_range_batches, before.rows, _score_table(runner, corpus, scores))
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
            description=f"filtering {split}",
            num_rows=before.n or 0,
            read=read,
            transform=partial(
                _filtered_rows, spilling, narrow, corpus.names, before.metrics, partial(read, 0, before.n or 0)
            ),
            is_shardable=False,  # a filter may depend on earlier pairs, such as the duplicate filter
            gather=_joined_rows,
        )

    runner.run(filtered_id, stage)
    return filtered_id


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


def _filtered_rows(
    keeper: PairFilter,
    narrow: Callable[..., Batches] | None,
    names: list[str],
    before: Mapping[str, Any],
    read: Callable[[], Batches],
    batches: Batches,
    first: int,
    counts: Counts,
) -> Batches:
    tally = SourceTally(names, before)
    check = SelectionCheck(keeper, batches)
    text = {f"{side}_{unit}": 0 for side in ("source", "target") for unit in ("chars", "bytes", "words")}
    kept = check.checked_batches(keeper.for_mixture(names).fitted(read).apply(check.input_batches(), tally.dropped))
    for batch in kept if narrow is None else narrow(kept, dropped=tally.dropped):
        tally.count_kept(batch.column(SOURCE_COLUMN).to_numpy() if names else None)
        for side, name in (("source", "src"), ("target", "tgt")):
            column = batch.column(name)
            text[f"{side}_chars"] += pc.sum(pc.utf8_length(column)).as_py() or 0
            text[f"{side}_bytes"] += pc.sum(pc.cast(pc.binary_length(column), pa.int64())).as_py() or 0
            text[f"{side}_words"] += num_words(column)
        yield batch.select([ROW_COLUMN])
    tally.write_metrics()
    counts.update(tally.metrics)
    counts["text"] = text


def _joined_rows(batches: Batches) -> Batches:
    """Join row numbers into one record batch, so that they can be read as one array."""
    table = pa.Table.from_batches(batches).combine_chunks()
    yield table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)


def num_words(texts: pa.LargeStringArray) -> int:
    """Return the total number of words, separated by white space, in all texts: the sum of `len(text.split())`."""
    trimmed = pc.utf8_trim_whitespace(texts)
    pieces = pc.utf8_split_whitespace(trimmed).flatten()
    return len(pieces) - (pc.sum(pc.equal(trimmed, "")).as_py() or 0)  # an empty text yields one empty piece
