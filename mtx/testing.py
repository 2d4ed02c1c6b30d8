"""Checks of a user's own components against their contracts, to be called in the user's tests.

    from mtx.testing import check_downloader

    def test_my_downloader(tmp_path):
        check_downloader(MyDownloader(path=write_corpus(tmp_path)))

The tests of mtx apply the same checks to mtx's own downloaders.
"""

import dataclasses
import pickle
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mtx.components.identity import digest, identity, plain_value
from mtx.data.bounded_pair_batches import pair_batches
from mtx.data.filter.filter_protocol import PairFilter
from mtx.data.score.corpus_scorer_contract_check import checked_corpus_columns
from mtx.data.score.scorer import CombiningScorer, CorpusScorer, Scorer, score_batch
from mtx.data.score.trained_scorer_contract_check import InputScores, combining_function, scoring_function
from mtx.errors import SourceError
from mtx.infra.dal.row_digest import RowDigest
from mtx.infra.dal.row_views import ROW_COLUMN
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.library_errors import library_reason

__all__ = ["CheckedDownloader", "check_downloader", "check_filter", "check_scorer"]

SPLITS = ("train", "validation", "test")
NO_SPLIT = "no-such-split"


@dataclass
class CheckedDownloader:
    """The data of a downloader that has passed `check_downloader`.

    Attributes:
        info: the return value of `info()`.
        num_pairs: number of pairs by split.
        counts: number of skipped rows by reason, by split.
    """

    info: SourceInfo
    num_pairs: dict[str, int] = field(default_factory=dict)
    counts: dict[str, dict[str, int]] = field(default_factory=dict)


def check_downloader(
    downloader: Downloader, *, changed: Downloader | None = None, broken: Downloader | None = None
) -> CheckedDownloader:
    """Check a downloader against the contract of `mtx.infra.dataset.download.Downloader`. Reads all data several times.

    The downloader is a frozen, picklable dataclass. `info()` is complete, and equal in each call and after pickling.
    Each split in `info()` streams record batches of valid text, with the columns of `PAIR_SCHEMA` first and equal
    columns in all batches. Rows and counts are equal in each pass and after pickling. A split that `info()` does not
    list raises `SourceError`. If there is a field `n`, a lower n gives the first rows and another identity.

    Args:
        downloader: a downloader of a small source whose content does not change during the check.
        changed: a downloader of the same source with other content; its revision and identity must differ.
        broken: a downloader of an unreadable source; `info()` or `batches()` must raise `SourceError`.

    Raises:
        AssertionError: the downloader violates the contract; the message names the rule and the value found.
    """
    _check_dataclass(downloader, Downloader)
    copy = pickle.loads(pickle.dumps(downloader))
    info = _checked_info(downloader)
    found = CheckedDownloader(info)
    _check_same("info()", "a second time", info, downloader.info())
    _check_same("info()", "after pickling", info, copy.info())
    rows = {}
    for split in info.splits:
        rows[split], num_pairs, counts = _read(downloader, split)
        found.num_pairs[split], found.counts[split] = num_pairs, counts
        for again, when in ((downloader, "a second time"), (copy, "after pickling")):
            digest_again, _, counts_again = _read(again, split)
            _check_same(f"batches({split!r}, …)", when, rows[split], digest_again)
            _check_same(f"counts of {split!r}", when, counts, counts_again)
    _check_same("info()", "after reading", info, downloader.info())
    _check_unknown_split(downloader)
    _check_n(downloader, found)
    if changed is not None:
        other = _checked_info(changed)
        assert other.revision != info.revision, f"other content has the revision of the first: {info.revision!r}"
        assert digest(other.identity) != digest(info.identity), "other content has the identity of the first"
    if broken is not None:
        _check_broken(broken)
    return found


def check_filter(keeper: PairFilter, pairs: pa.Table) -> dict[str, int]:
    """Check a filter against the contract of `mtx.data.filter.filter_protocol.PairFilter`.

    The filter is a frozen, picklable dataclass with an identity. It returns a selection of the pairs in their order,
    unchanged, in at least one batch. It counts each dropped pair once. The result does not depend on the batches.

    Args:
        keeper: the filter, or a rule made by `@mtx.rule`.
        pairs: pairs with `src`, `tgt` and all further columns that the filter needs; some of them should be dropped.

    Returns:
        The number of dropped pairs by reason.

    Raises:
        AssertionError: the filter violates the contract; the message names the rule and the value found.
    """
    _check_component(keeper, PairFilter)
    numbered = pairs if ROW_COLUMN in pairs.column_names else pairs.append_column(ROW_COLUMN, [np.arange(len(pairs))])
    whole = pa.Table.from_batches(pair_batches(numbered))
    dropped: dict[str, int] = {}
    batches = list(keeper.apply(whole, dropped))
    assert batches, "apply() yields at least one batch, which may be empty, but yielded none"
    wrong = next((type(batch).__name__ for batch in batches if not isinstance(batch, pa.RecordBatch)), None)
    assert wrong is None, (
        f"apply() yields record batches, but yielded a {wrong}. Its argument may be a table, so take the batches of "
        "mtx.data.bounded_pair_batches.pair_batches(pairs)"
    )
    kept = pa.Table.from_batches(batches)
    assert kept.column_names == whole.column_names, (
        f"apply() returns all columns, {whole.column_names}, but returned {kept.column_names}"
    )
    places = np.searchsorted(whole[ROW_COLUMN].to_numpy(), kept[ROW_COLUMN].to_numpy())
    assert (np.diff(places) > 0).all(), "apply() keeps the order of the pairs, but changed it"
    assert kept.equals(whole.take(pa.array(places))), "apply() returns pairs unchanged, but changed some"
    num_dropped = sum(dropped.values())
    assert len(kept) + num_dropped == len(whole), (
        f"each dropped pair counts once, but {len(kept)} of {len(whole)} pairs are kept and {num_dropped} are counted"
    )
    for size in (1, 7):
        again: dict[str, int] = {}
        other = pa.Table.from_batches(pickle.loads(pickle.dumps(keeper)).apply(whole.to_batches(size), again))
        rows = [table[ROW_COLUMN].to_pylist() for table in (kept, other)]
        _check_same("the result", f"in batches of {size} pairs", *rows)
        _check_same("the counts", f"in batches of {size} pairs", dropped, again)
        if keeper.is_pairwise:  # filters join small batches, so only parts show whether a pair is judged alone
            alone = [keeper.apply(pa.Table.from_batches([part]), {}) for part in whole.to_batches(size)]
            found = [row for part in alone for batch in part for row in batch[ROW_COLUMN].to_pylist()]
            _check_same("a rule, which judges each pair alone,", f"in parts of {size} pairs", rows[0], found)
    return dropped


def check_scorer(scorer: Scorer, pairs: pa.Table, *, combined: Mapping[str, Scorer] | None = None) -> pa.Table:
    """Check a scorer against the contract of `mtx.data.score.scorer.Scorer`, `TrainedScorer` or `CorpusScorer`.

    The scorer is a frozen, picklable dataclass with an identity, and describes its columns. The columns have the
    declared types, and one value for each pair. The values of a pair do not depend on the batch. A trained scorer
    writes the same files in each training, and no pickle. A scorer of a whole corpus needs all pairs at once, and its
    values do not depend on how the corpus is cut into batches. A combining scorer trains on the columns of the other
    scorers, and on noise that is planted into the pairs.

    Args:
        scorer: the scorer.
        pairs: pairs with `src`, `tgt` and all further columns that the scorer needs. A scorer trains on all of them.
        combined: the scorers by name whose columns a `CombiningScorer` reads; needed for such a scorer only.

    Returns:
        The columns of the pairs, by stored name.

    Raises:
        AssertionError: the scorer violates the contract; the message names the rule and the value found.
    """
    _check_component(scorer, Scorer)
    assert scorer.columns, "columns names at least one column, but is empty"
    for name, column in scorer.columns.items():
        assert column.description, f"the column {name} has no description. State its meaning and its scale"
    batches = list(pair_batches(pairs))
    if isinstance(scorer, CorpusScorer):
        return checked_corpus_columns(scorer, batches)
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(scorer, CombiningScorer):
            assert combined, (
                "a CombiningScorer reads columns of others: give them, as `combined={'rules': RulesScorer()}`"
            )
            inputs = InputScores.of(combined, batches, Path(folder))
            batches = [inputs.added(batch, is_sample=True) for batch in batches]
            score = combining_function(scorer, batches, inputs, Path(folder))
        else:
            score = scoring_function(scorer, batches, Path(folder))
        whole = pa.Table.from_batches([score_batch(scorer, score(batch), batch.num_rows) for batch in batches])
        for size in (1, 7):
            pieces = [piece for batch in batches for piece in pa.Table.from_batches([batch]).to_batches(size)]
            other = pa.Table.from_batches([score_batch(scorer, score(piece), piece.num_rows) for piece in pieces])
            same = all(_is_same_column(whole[name], other[name]) for name in whole.column_names)
            assert same, f"the values of a pair do not depend on the batch, but differ in batches of {size} pairs"
        empty = batches[0].slice(0, 0)
        score_batch(scorer, score(empty), 0)
    return whole


def _is_same_column(one: pa.ChunkedArray, other: pa.ChunkedArray) -> bool:
    if pa.types.is_floating(one.type):  # NaN equals NaN here
        return bool(np.array_equal(one.to_numpy(), other.to_numpy(), equal_nan=True))
    return bool(one.combine_chunks().equals(other.combine_chunks()))


def _check_component(component: object, base: type) -> None:
    _check_dataclass(component, base)
    identity(component)
    copy = pickle.loads(pickle.dumps(component))
    _check_same("the identity", "after pickling", identity(component), identity(copy))


def _check_dataclass(component: object, base: type) -> None:
    cls: Any = type(component)
    assert isinstance(component, base), f"{cls.__name__} is no subclass of {base.__module__}.{base.__name__}"
    assert dataclasses.is_dataclass(component), f"{cls.__name__} is no dataclass: decorate it, with frozen=True"
    assert cls.__dataclass_params__.frozen, f"{cls.__name__} is a dataclass that can be changed: say frozen=True"


def _checked_info(downloader: Downloader) -> SourceInfo:
    info = downloader.info()
    assert isinstance(info, SourceInfo), f"info() returns a SourceInfo, but returned {info!r}"
    for name in ("name", "revision"):
        value = getattr(info, name)
        assert isinstance(value, str), f"info().{name} is a text, but is {value!r}"
        assert value, f"info().{name} is empty"
    languages = info.languages
    are_two = isinstance(languages, tuple) and len(languages) == 2 and all(isinstance(one, str) for one in languages)
    assert are_two, f"info().languages is a tuple of two texts, but is {languages!r}"
    assert isinstance(info.splits, tuple), f"info().splits is a tuple, but is {info.splits!r}"
    known = set(info.splits) <= set(SPLITS) and "train" in info.splits and len(set(info.splits)) == len(info.splits)
    assert known, f"info().splits are of {', '.join(SPLITS)}, each once, with train, but are {info.splits!r}"
    assert info.identity, "info().identity is empty, so that all sources of this class would have the same name"
    try:
        plain_value(info.identity)
    except TypeError as error:
        raise AssertionError(f"info().identity holds plain values (JSON), but: {library_reason(error)}") from error
    return info


def _read(downloader: Downloader, split: str) -> tuple[str, int, dict[str, int]]:
    """Read a split, and return the digest of its rows (independent of batch sizes), their number, and the counts."""
    counts: dict[str, int] = {}
    rows, schema = RowDigest(), None
    for batch in downloader.batches(split, counts):
        _check_batch(batch, split)
        schema = schema or batch.schema
        _check_same(f"the columns of batches({split!r}, …)", "in a later batch", schema, batch.schema)
        rows.add(batch)
    good = all(isinstance(reason, str) and isinstance(n, int) and n > 0 for reason, n in counts.items())
    assert good, f"counts of {split!r} are numbers above 0 by reason, but are {counts!r}"
    return rows.hexdigest(), rows.num_rows, counts


def _check_batch(batch: object, split: str) -> None:
    assert isinstance(batch, pa.RecordBatch), (
        f"batches({split!r}, …) yields pyarrow.RecordBatch, but yielded a {type(batch).__name__}"
    )
    assert list(batch.schema)[:2] == list(PAIR_SCHEMA), (
        f"batches({split!r}, …) begins with the columns of PAIR_SCHEMA, src and tgt of large_string, but has: "
        f"{', '.join(f'{one.name} of {one.type}' for one in batch.schema)}"
    )
    for name in PAIR_SCHEMA.names:
        num_nulls = batch.column(name).null_count
        assert not num_nulls, f"{num_nulls} texts of {name} in {split!r} are null: leave such rows out, and count them"
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid as error:
        raise AssertionError(f"a text in {split!r} is no UTF-8: {library_reason(error)}") from error


def _check_unknown_split(downloader: Downloader) -> None:
    try:
        for _ in downloader.batches(NO_SPLIT, {}):
            break
    except SourceError:
        return
    raise AssertionError("batches() of a split that info() does not name raises SourceError, but did not")


def _check_n(downloader: Downloader, found: CheckedDownloader) -> None:
    """Check that a lower `n` gives the first rows and another identity; skip mixtures, where `n` applies per source."""
    if len(downloader.parts) > 1 or "" not in downloader.parts:
        return
    names = {one.name for one in dataclasses.fields(downloader)}  # type: ignore[arg-type]  # checked: it is a dataclass
    if "n" not in names or found.num_pairs["train"] < 2 or getattr(downloader, "shuffle", False):
        return
    n = found.num_pairs["train"] - 1
    fewer: Downloader = dataclasses.replace(downloader, n=n)  # type: ignore[type-var]
    rows, first = (_first_rows(one, n + 1) for one in (fewer, downloader))
    assert rows == first[:n], f"n={n} gives the first {n} pairs of training, but gave {len(rows)} others"
    assert digest(fewer.info().identity) != digest(found.info.identity), f"n={n} has the identity of all pairs"


def _first_rows(downloader: Downloader, num_pairs: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for batch in downloader.batches("train", {}):
        rows += batch.slice(0, num_pairs - len(rows)).to_pylist()
        if len(rows) == num_pairs:
            break
    return rows


def _check_broken(downloader: Downloader) -> None:
    try:
        info = downloader.info()
        for split in info.splits:
            for _ in downloader.batches(split, {}):
                pass
    except SourceError as error:
        told = str(error)
    except Exception as error:
        raise AssertionError(
            f"a source that cannot be read raises SourceError, but raised {library_reason(error)}"
        ) from error
    else:
        raise AssertionError("a source that cannot be read raises SourceError, but raised nothing")
    assert told, "a SourceError says what was wrong, and what to do; this one is empty"


def _check_same(what: str, when: str, first: object, second: object) -> None:
    assert first == second, f"{what} differs {when}: {first!r:.300}, then {second!r:.300}"
