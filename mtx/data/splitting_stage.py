"""The stage split: which rows of the text belong to which split.

It stores only row numbers of the text, so the token ids of the text serve all splits.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import JSON, digest, identity
from mtx.data.concatenated_corpus import Corpus, SourceTally
from mtx.data.dataset import SPLITS, Split, TranslationDataset
from mtx.data.filter.filter_protocol import count_dropped
from mtx.data.row_split_assignment import TrainingAssignment
from mtx.data.row_tasks import no_batches
from mtx.data.split import CONTAMINATED, LEAK, TRAIN, HeldOut
from mtx.data.split_groups import SplitGroups
from mtx.data.stage_runner import Batches, Counts, Stage, StageRunner, unchanged_batches
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
            read=no_batches,
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
