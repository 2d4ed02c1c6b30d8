"""Follows a row of any stored dataset back to its text and its raw row, and on to the datasets that keep or drop it."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mtx.components.identity import identity
from mtx.data.dataset import TranslationDataset
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import DropCounts, PairFilter
from mtx.data.filter.none import NoFilter
from mtx.data.filter.rule_ablation import described_ablation
from mtx.data.filter.selection import SelectionFilter
from mtx.data.repo import DatasetRepo, input_ids
from mtx.data.score.score_table import ScoreTable
from mtx.data.score.scorer import shown_name
from mtx.data.training_share import OUTSIDE_SHARE
from mtx.errors import ConfigError, DamagedError, MtxError, NotStoredError, choices
from mtx.infra.dal.row_views import ROW_COLUMN, SOURCE_COLUMN, SelectedRows

log = logging.getLogger(__name__)

SAME_ROWS = ("encoded", "scores")  # stages whose row k belongs to row k of their concatenated texts


@dataclass(frozen=True)
class RowTrace:
    """Where a row comes from.

    Attributes:
        dataset: the manifest of the dataset that was asked for.
        row: the number of the row in it, from 0.
        text: the manifest of the text dataset; None if `dataset` is raw and has no text, or several.
        raw: the manifest of the raw dataset.
        raw_row: the number of the row in the text and in the raw dataset.
    """

    dataset: TranslationDataset
    row: int
    text: TranslationDataset | None
    raw: TranslationDataset
    raw_row: int


@dataclass(frozen=True)
class Membership:
    """Whether a split or a filtered dataset has a row.

    Attributes:
        dataset: its manifest.
        row: the number of the row in it; None: it does not have the row.
        base_row: the number of the row among the rows from which it selects.
    """

    dataset: TranslationDataset
    row: int | None
    base_row: int


def found_dataset(repo: DatasetRepo, name: str, stage: str | None, split: str | None) -> TranslationDataset:
    """Return the manifest of the dataset with an id, or of the only one with a name in a stage and split.

    Raises NotStoredError if there is none, and ConfigError if there are several.
    """
    if repo.exists(name):
        return repo.manifest(name)
    unreadable: list[Any] = []
    stored = list(repo.manifests(unreadable=unreadable))
    found = [of for of in stored if of.name == name and stage in (None, of.stage) and split in (None, of.split)]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - 10} more" if len(found) > 10 else ""
        raise ConfigError(
            f"{len(found)} datasets are called {name}. Give one of their ids with dataset=ID: "
            f"{', '.join(of.id for of in found[:10])}{more}; or restrict them with stage=filtered split=train"
        )
    known = dict.fromkeys(each for of in stored for each in (of.name, of.id))
    if not known:
        raise NotStoredError(f"there is no dataset {name!r}: the store is empty. Build some: mtx task=prepare")
    raise NotStoredError(f"there is no dataset {name!r}. There are: {choices(name, known)}")


def row_trace(repo: DatasetRepo, dataset: TranslationDataset, row: int) -> RowTrace:
    """Return where a row comes from. Raises ConfigError if there is no such row, DamagedError if an input is gone."""
    if not 0 <= row < len(dataset):
        last = f"0 to {len(dataset) - 1}" if len(dataset) else "none, since it is empty"
        raise ConfigError(f"{dataset.id} has no row {row}. Its rows: {last}. Set row=NUMBER")
    text, number = _text_row(repo, dataset, row)
    if text.stage == "raw":
        texts = texts_of(repo, text)
        return RowTrace(dataset, row, texts[0] if len(texts) == 1 else None, text, number)
    return RowTrace(dataset, row, text, _manifest(repo, text.changes, text.id), number)


def texts_of(repo: DatasetRepo, raw: TranslationDataset) -> list[TranslationDataset]:
    """Return the stored texts of a raw dataset, one for each normaliser."""
    return [text for text in repo.manifests("text", unreadable=[]) if text.changes == raw.id]


def _text_row(repo: DatasetRepo, dataset: TranslationDataset, row: int) -> tuple[TranslationDataset, int]:
    if dataset.selects:
        rows = repo.get(dataset.id).rows
        assert isinstance(rows, SelectedRows)
        number = int(rows.selection[row])
        for part in dataset.selects:
            if number < part.num_rows:
                return _manifest(repo, part.id, dataset.id), number
            number -= part.num_rows
    if dataset.stage in SAME_ROWS:
        return _row_of_part(repo, dataset, row)
    return dataset, row


def _row_of_part(repo: DatasetRepo, dataset: TranslationDataset, row: int) -> tuple[TranslationDataset, int]:
    """Return the text of a row of an encoded or a scores dataset, and its row there; a mixture has several texts."""
    inputs = input_ids(dataset)
    texts = [_manifest(repo, name, dataset.id) for name in inputs[: max(1, len(inputs) - 1)]]  # then the tokenizer
    if len(texts) == 1:
        return texts[0], row
    stored = dataset.provenance.get("num_rows")
    counts = [int(cast(int, count)) for count in stored] if isinstance(stored, list) else [len(text) for text in texts]
    if sum(counts) != len(dataset):
        raise ConfigError(
            f"{dataset.id} holds rows of {len(texts)} texts, and an earlier version of mtx did not store how many of "
            f"each. Show the row of a text: mtx task=show dataset={texts[0].id} row=0"
        )
    ends = np.cumsum(counts)
    part = int(np.searchsorted(ends, row, side="right"))
    return texts[part], row - int(ends[part]) + counts[part]


def _manifest(repo: DatasetRepo, name: str, of: str) -> TranslationDataset:
    try:
        return repo.manifest(name)
    except NotStoredError as error:
        raise DamagedError(
            f"{of} was built from {name}, which is no longer stored. Build it again: mtx task=prepare"
        ) from error


def scores_of(repo: DatasetRepo, text: TranslationDataset, row: int) -> dict[str, dict[str, Any]]:
    """Return all stored scores of a row of a text, by the id of the scores dataset and the column."""
    found = {}
    for dataset in repo.manifests("scores", unreadable=[]):
        # The scores of a whole corpus have no rows beyond the cap of a mixture.
        if input_ids(dataset)[:1] == [text.id] and row < len(dataset):
            name = _scorer_name(dataset)
            found[dataset.id] = {shown_name(name, key): value for key, value in repo.get(dataset.id).rows[row].items()}
    return found


def memberships(repo: DatasetRepo, trace: RowTrace) -> list[Membership]:
    """Return the stored splits that have the row, then the filtered datasets of these splits."""
    if trace.text is None:
        return []
    splits = []
    for dataset in repo.manifests("split", unreadable=[]):
        if (found := _membership(repo, dataset, trace)) is not None and found.row is not None:
            splits.append(found)
    known = {each.dataset.id for each in splits}
    filtered = [
        of for of in repo.manifests("filtered", unreadable=[]) if input_ids(of)[:1] and input_ids(of)[0] in known
    ]
    return splits + [each for of in filtered if (each := _membership(repo, of, trace)) is not None]


def _membership(repo: DatasetRepo, dataset: TranslationDataset, trace: RowTrace) -> Membership | None:
    assert trace.text is not None
    before = 0
    for part in dataset.selects:
        if part.id == trace.text.id and trace.raw_row < part.num_rows:
            break
        before += part.num_rows
    else:
        return None
    rows = repo.get(dataset.id).rows
    assert isinstance(rows, SelectedRows)
    places: NDArray[np.int64] = np.flatnonzero(rows.selection == before + trace.raw_row)
    return Membership(dataset, int(places[0]) if len(places) else None, before + trace.raw_row)


class _Watch(DropCounts):
    """Counts of dropped pairs that remember the reason for one row."""

    def __init__(self, row: int, num_sources: int) -> None:
        super().__init__(num_sources)
        self._row = row
        self.reason: str | None = None

    def sample(self, reason: str, pairs: pa.RecordBatch | pa.Table, found: NDArray[np.bool_]) -> None:
        """Remember the reason if the watched row is among the dropped ones."""
        if ROW_COLUMN in pairs.schema.names and self._row in pairs[ROW_COLUMN].to_numpy()[found]:
            self.reason = reason


def drop_reason(repo: DatasetRepo, membership: Membership, given: PairFilter | None) -> str | None:
    """Return the rule for which a filtered dataset dropped a row; None if the filter is not known.

    The filter runs again over the split, up to the row: its decision may depend on the pairs before.

    Args:
        repo: the repository.
        membership: a filtered dataset without the row.
        given: the filter of the run's config, which is used if it is the filter of the dataset.
    """
    dataset = membership.dataset
    described = dataset.provenance.get("filter")
    keeper = next((each for each in (_rebuilt(described), given) if each and identity(each) == described), None)
    if keeper is None:
        return None
    split = repo.get(input_ids(dataset)[0])
    table = _score_table(repo, dataset, input_ids(dataset)[1:])

    def read() -> Iterator[pa.RecordBatch]:
        batches = split.rows.batches()
        return batches if table is None else table.batches(batches, ROW_COLUMN)

    stored_names = dataset.provenance.get("source_names")
    names = [str(name) for name in stored_names] if isinstance(stored_names, list) else []
    if not names and len(dataset.selects) > 1 and _names_sources(keeper):
        log.warning(
            "the rule by which %s drops the row is not known: an earlier version of mtx did not store the names of the "
            "sources, which the filter uses. mtx task=prepare storage.root=FOLDER builds a dataset with them",
            dataset.id,
        )
        return None
    watch = _Watch(membership.base_row, len(names))
    try:
        _apply_until_dropped(keeper.for_mixture(names), read, watch)
    except ConfigError as error:  # an earlier version of mtx did not store under which names the filter read scores
        log.warning("the rule by which %s drops the row is not known: %s", dataset.id, error)
        return None
    return watch.reason or (OUTSIDE_SHARE if "share" in dataset.provenance else None)


def _names_sources(keeper: PairFilter) -> bool:
    """Return whether a rule of a selection, or of a selection before it, lists sources of a mixture."""
    if not isinstance(keeper, SelectionFilter):
        return False
    own = any(rule.within == SOURCE_COLUMN and rule.only is not None for rule in keeper.column_rules.values())
    return own or (keeper.before is not None and _names_sources(keeper.before))


def _apply_until_dropped(keeper: PairFilter, read: Callable[[], Iterator[pa.RecordBatch]], watch: _Watch) -> None:
    """Apply a filter until it drops the watched row.

    The filter `before` of a selection goes first: while a selection fits its bounds, it counts those drops by itself.
    """
    if isinstance(keeper, SelectionFilter) and keeper.before is not None:
        _apply_until_dropped(keeper.before, read, watch)
    if watch.reason is not None:
        return
    for _ in keeper.fitted(read).apply(read(), watch):
        if watch.reason is not None:
            return


def _rebuilt(described: Any) -> PairFilter | None:
    """Return the filter of an identity, if it is one of mtx that a config describes in full."""
    fields = {key: value for key, value in described.items() if key not in ("kind", "version")}
    try:
        if described["kind"] == NoFilter.kind:
            return NoFilter()
        if described["kind"] == DefaultFilter.kind:
            return DefaultFilter(**fields)
        if described["kind"] == SelectionFilter.kind:
            before = fields["before"] and _rebuilt(fields["before"])
            ablation, seed = described_ablation(fields)
            return SelectionFilter(before=before, rules=dict(fields["rules"]), ablation=ablation, ablation_seed=seed)
    except (MtxError, KeyError, TypeError, ValueError):  # rules of one's own, or of another version of mtx
        return None
    return None


def _score_table(repo: DatasetRepo, dataset: TranslationDataset, scores: list[str]) -> ScoreTable | None:
    """Return the scores that a filtered dataset has used, for all rows from which it selects."""
    if not scores:
        return None
    scorers = cast(Mapping[str, Any], dataset.provenance.get("scorers") or {})
    by_part: dict[str, dict[str, pa.ChunkedArray]] = {part.id: {} for part in dataset.selects}
    for manifest in (repo.manifest(name) for name in scores):
        table = repo.get(manifest.id).rows.table
        scorer = str(scorers.get(manifest.id, _scorer_name(manifest)))
        columns = {shown_name(scorer, name): table[name] for name in table.column_names}
        by_part[input_ids(manifest)[0]] |= columns
    tables = [
        pa.table({name: column.slice(0, part.num_rows) for name, column in by_part[part.id].items()})
        for part in dataset.selects
    ]
    return ScoreTable(pa.concat_tables(tables), {})


def _scorer_name(scores: TranslationDataset) -> str:
    """Return the name of a scorer as its kind gives it; a config may have used another one."""
    described = cast(Mapping[str, Any], scores.provenance.get("scorer") or {})
    return str(described.get("kind", "score")).removeprefix("score/")
