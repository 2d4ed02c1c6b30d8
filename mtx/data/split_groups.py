"""`SplitGroups`: groups of pairs that the split keeps together, such as documents or clusters of near-duplicates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from mtx.components.identity import JSON, identity
from mtx.data.concatenated_corpus import Corpus
from mtx.data.score.corpus_score_stage import score_corpus
from mtx.data.score.near_duplicates import CLUSTER, NearDuplicatesScorer
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_table import ScoreTable
from mtx.data.score.scorer import Scorer, shown_name
from mtx.data.split import CLUSTER_GROUPS, side_hashes, source_hashes
from mtx.data.stage_runner import StageRunner
from mtx.errors import ConfigError, choices
from mtx.infra.dataset.extra_columns import check_category

DEFAULT_SCORER = "near_duplicates"

Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class SplitGroups:
    """The group of each pair.

    Attributes:
        described: what decides the groups, for the id of the split.
        noun: what a group is, in messages.
        of_train: returns the hash of the group of each training pair of the source: uint64 [n].
        of_own: returns the hashes of the groups of the pairs of a split of the source, or nothing if they have none.
    """

    described: Mapping[str, JSON]
    noun: str
    of_train: Callable[[], Hashes]
    of_own: Callable[[str], Hashes]


def split_groups(
    by: str | None,
    corpus: Corpus,
    runner: StageRunner,
    scorers: Mapping[str, Scorer],
    scored: Mapping[str, ScoreIds],
    seed: int,
) -> SplitGroups | None:
    """Return the groups of `datamodule.split_by`, or None if pairs are only grouped by their source sentence.

    Args:
        by: `cluster`, or a column of the corpus.
        corpus: the text.
        runner: builds the clusters if no scorer has.
        scorers: the scorers of the run, of which the first one of near-duplicates gives the clusters.
        scored: the ids of their scores.
        seed: seed of the hashes.

    Raises ConfigError if the corpus has no such column, or if the column cannot name a document.
    """
    if by is None:
        return _both_directions(corpus, seed) if "tgt" in corpus.grouping_sides else None
    if by == CLUSTER_GROUPS:
        return _clusters(corpus, runner, scorers, scored, seed)
    columns = [name for name in corpus.columns("train") if name not in ("src", "tgt")]
    if by not in columns:
        known = f"Choose one of {choices(by, [CLUSTER_GROUPS, *columns])}"
        raise ConfigError(
            f"datamodule.split_by names a column of the corpus, or is {CLUSTER_GROUPS}, but is {by!r}. {known}; "
            "downloader.columns says which columns are stored beside the texts"
        )

    def of_own(split: str) -> Hashes:
        return _column_hashes(corpus, split, by, seed) if by in corpus.columns(split) else np.empty(0, dtype=np.uint64)

    return SplitGroups({"column": by, **_sides(corpus)}, by, lambda: _column_hashes(corpus, "train", by, seed), of_own)


def cluster_scorer(scorers: Mapping[str, Scorer]) -> tuple[str, NearDuplicatesScorer]:
    """Return name and scorer of the clusters: the first scorer of near-duplicates, or mtx's default one."""
    found = ((name, of) for name, of in scorers.items() if isinstance(of, NearDuplicatesScorer))
    return next(found, (DEFAULT_SCORER, NearDuplicatesScorer()))


def _both_directions(corpus: Corpus, seed: int) -> SplitGroups:
    """Return groups by the text of one language, so that a pair is held out in both directions."""
    return SplitGroups(
        _sides(corpus),
        "source sentence",
        lambda: _sentence_hashes(corpus, "train", seed),
        lambda split: np.empty(0, dtype=np.uint64),
    )


def _sides(corpus: Corpus) -> dict[str, JSON]:
    """Return the sides by which pairs are held out, for ids; nothing without both directions of a corpus."""
    return {"sides": cast(list[JSON], list(corpus.grouping_sides))} if "tgt" in corpus.grouping_sides else {}


def _sentence_hashes(corpus: Corpus, split: str, seed: int) -> Hashes:
    """Return the hash of each source sentence, and of the target sentence in the opposite direction: uint64 [n]."""
    if "tgt" not in corpus.grouping_sides:
        return source_hashes(corpus.untagged_batches(split), seed=seed)
    found = [np.empty(0, dtype=np.uint64)]
    for batch, part in corpus.part_batches(split):
        sides = side_hashes(batch, seed=seed, with_targets=corpus.grouping_sides[part] == "tgt")
        found.append(sides[corpus.grouping_sides[part] == "tgt"])
    return np.concatenate(found)


def _clusters(
    corpus: Corpus, runner: StageRunner, scorers: Mapping[str, Scorer], scored: Mapping[str, ScoreIds], seed: int
) -> SplitGroups:
    name, scorer = cluster_scorer(scorers)
    parts = corpus.parts("train")
    of = scored.get(name) or score_corpus(runner, parts, scorer, name=name)

    def of_train() -> Hashes:
        table = ScoreTable.open(runner.repo, parts, {name: scorer}, {name: of}).table
        clusters = table[shown_name(name, CLUSTER)].to_numpy()
        sentences = _sentence_hashes(corpus, "train", seed)
        if "tgt" in corpus.grouping_sides:
            clusters = first_of_joined(clusters, sentences)
        # The hash of the first pair of a cluster, so that a corpus that grows at its end holds out the same clusters.
        found: Hashes = sentences[clusters]
        return found

    described: dict[str, JSON] = {"cluster": identity(scorer), "scores": cast(list[JSON], list(of.scores.values()))}
    described |= _sides(corpus)
    return SplitGroups(described, "cluster", of_train, lambda split: np.empty(0, dtype=np.uint64))


def first_of_joined(clusters: NDArray[np.int64], sentences: Hashes) -> NDArray[np.int64]:
    """Return the first row of each row's group, int64 [n]: rows of one cluster or one sentence are in one group."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    num_rows = len(clusters)
    of_sentence = num_rows + np.unique(sentences, return_inverse=True)[1]
    size = num_rows + int(of_sentence.max(initial=0)) + 1
    links = coo_array((np.ones(num_rows, dtype=np.int8), (clusters, of_sentence)), shape=(size, size))
    groups = connected_components(links, directed=False)[1][clusters]
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    found: NDArray[np.int64] = first[group]
    return found


def _column_hashes(corpus: Corpus, split: str, column: str, seed: int) -> Hashes:
    """Return the hash of the value of each pair; a pair without a value has that of `_sentence_hashes`."""
    found, start = _sentence_hashes(corpus, split, seed), 0
    for batch in corpus.batches(split):
        values = batch.column(column)
        check_category("datamodule.split_by", column, values.type)
        encoded = values.cast(pa.large_string()).dictionary_encode()
        of_value = _text_hashes(encoded.dictionary.to_pylist(), seed)
        known = encoded.indices.is_valid().to_numpy(zero_copy_only=False)
        places = pc.fill_null(encoded.indices, 0).to_numpy()
        found[start : start + batch.num_rows][known] = of_value[places[known]]
        start += batch.num_rows
    return found


def _text_hashes(values: Sequence[str], seed: int) -> Hashes:
    hashes: Iterable[int] = (xxh3_64_intdigest(value.encode(), seed=seed) for value in values)
    return np.fromiter(hashes, dtype=np.uint64, count=len(values))
