"""A row of a mixture is followed back to its text, and a dropped row to the rule that drops it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pytest

from mtx.components.identity import JSON
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import DropCounts
from mtx.data.filter.selection import SelectionFilter
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.row_trace import drop_reason, memberships, row_trace, scores_of
from mtx.data.score.duplicates import DuplicatesScorer
from mtx.data.score.rules import RulesScorer
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.infra.dataset.sources.mixture import MixtureDownloader

WEB = (("a house", "A"), ("", "B"), ("a garden", "C"), ("a garden", "C"), ("a tree", "long long long"))
NEWS = (("a ship", "D"), ("12 345", "6 789"), ("beyond the cap", "E"))
RULES: dict[str, Any] = {
    "long": {"column": "target_chars", "within": "source", "only": ["web"], "max": 5},
    "letters": {"column": "quality.letters", "min": 0.5},
    "longest": {"column": "source_chars", "max_quantile": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class Given(Downloader):
    """The given pairs."""

    pairs: tuple[tuple[str, str], ...]

    def info(self) -> SourceInfo:
        identity: dict[str, JSON] = {"pairs": [list(pair) for pair in self.pairs]}
        return SourceInfo("given", ("en", "de"), str(len(self.pairs)), identity, ("train",))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield from pa.Table.from_pylist([{"src": s, "tgt": t} for s, t in self.pairs], schema=PAIR_SCHEMA).to_batches()


def recipe(**options: Any) -> Recipe:
    mixture = MixtureDownloader(sources={"web": Given(pairs=WEB), "news": Given(pairs=NEWS)}, caps={"news": 2})
    scorers = {"quality": RulesScorer(), "dups": DuplicatesScorer()}
    chosen = SelectionFilter(before=DefaultFilter(), rules=RULES, **options)
    return Recipe(mixture, HeldOut(), chosen, ByteTokenization(), scorers=scorers)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, StageIds]:
    where = Store(root=tmp_path_factory.mktemp("trace"), objects=SQLiteObjectLayer, files=ArrowFileLayer)
    return where, prepare(recipe(), where)


def reasons(where: Store, filtered: str, text: str, num_rows: int) -> list[str | None]:
    """Return the rule that drops each row of a text; None: a row is kept, or the rule is not known."""
    found = []
    for row in range(num_rows):
        trace = row_trace(where.repo, where.repo.manifest(text), row)
        (of,) = [each for each in memberships(where.repo, trace) if each.dataset.id == filtered]
        found.append(None if of.row is not None else drop_reason(where.repo, of, None))
    return found


def test_the_rule_is_that_of_the_filter_before_of_a_part_or_over_a_renamed_scorer(
    prepared: tuple[Store, StageIds],
) -> None:
    where, ids = prepared
    assert where.repo.manifest(ids.filtered["train"]).provenance["source_names"] == ["web", "news"]
    assert set(where.repo.manifest(ids.filtered["train"]).provenance["scorers"].values()) == {"quality"}
    web = reasons(where, ids.filtered["train"], ids.text["web/train"], 5)
    assert web == [None, "empty_source", None, "duplicate", "long"]
    assert reasons(where, ids.filtered["train"], ids.text["news/train"], 2) == [None, "letters"]


def test_without_the_names_of_the_sources_a_warning_says_why_the_rule_is_not_known(
    prepared: tuple[Store, StageIds], caplog: pytest.LogCaptureFixture
) -> None:
    where, ids = prepared
    trace = row_trace(where.repo, where.repo.manifest(ids.text["web/train"]), 4)
    (of,) = [each for each in memberships(where.repo, trace) if each.dataset.id == ids.filtered["train"]]
    former = {key: value for key, value in of.dataset.provenance.items() if key != "source_names"}
    old = replace(of, dataset=replace(of.dataset, provenance=former))
    assert drop_reason(where.repo, old, None) is None
    assert "an earlier version of mtx did not store the names of the sources" in caplog.text


def test_the_parts_of_a_mixture_are_no_score_of_that_name(prepared: tuple[Store, StageIds]) -> None:
    _, ids = prepared
    assert SelectionFilter(rules=RULES).columns == ("target_chars", "quality.letters", "source_chars")
    assert SelectionFilter(rules={"copies": {"column": "source", "min": -1}}).columns == ("source",)
    assert set(ids.scores) == {"quality", "dups"}  # `dups.source` is not read, so its scores decide no id


def test_an_arm_with_pairs_dropped_at_random_is_rebuilt(prepared: tuple[Store, StageIds]) -> None:
    where, _ = prepared
    ids = prepare(recipe(ablation="random_for_long", ablation_seed=3), where)
    found = reasons(where, ids.filtered["train"], ids.text["web/train"], 5)
    found += reasons(where, ids.filtered["train"], ids.text["news/train"], 2)
    assert found.count("at_random_for_long") == 1


def test_a_row_of_an_encoded_mixture_belongs_to_the_text_of_its_source(prepared: tuple[Store, StageIds]) -> None:
    where, ids = prepared
    encoded = where.repo.manifest(ids.encoded["train"])
    traces = [row_trace(where.repo, encoded, row) for row in range(len(encoded))]
    places = [(trace.text.id, trace.raw_row) for trace in traces if trace.text is not None]
    assert places == [(ids.text["web/train"], row) for row in range(5)] + [
        (ids.text["news/train"], row) for row in range(2)
    ]
    provenance = {key: value for key, value in encoded.provenance.items() if key != "num_rows"}
    with pytest.raises(
        ConfigError, match=r"holds rows of 2 texts.* Show the row of a text: mtx task=show dataset=text"
    ):
        row_trace(where.repo, replace(encoded, provenance=provenance), 6)  # as an earlier version stored it


def test_a_row_beyond_the_cap_has_no_scores_of_a_whole_corpus(prepared: tuple[Store, StageIds]) -> None:
    where, ids = prepared
    text = where.repo.manifest(ids.text["news/train"])
    found = [{name for of in scores_of(where.repo, text, row).values() for name in of} for row in (1, 2)]
    assert found[1] < found[0]
    assert found[1]


def test_counts_by_source_grow_with_the_sources() -> None:
    counts = DropCounts()
    counts.add("empty", pa.array([0, 0], pa.uint16()).to_numpy())
    counts.add("empty", pa.array([2], pa.uint16()).to_numpy())
    counts.add("empty", pa.array([1], pa.uint16()).to_numpy())
    assert counts.by_source["empty"].tolist() == [2, 1, 1]
