"""`check_filter` and `check_scorer`: mtx's own components hold the contracts, and each way to break one is found."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import mtx
from mtx.components.checked_options import component
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.score.rules import RulesScorer
from mtx.data.score.scorer import Mask, Sample, ScoreColumn, Scorer, TrainedScorer
from mtx.testing import check_filter, check_scorer

TEXTS = ["a", "bb", "bb", "", "ccc 12", "dé", "eeeee", "f f f", "g", "hh"]
PAIRS = pa.table(
    {
        "src": pa.array(TEXTS, pa.large_string()),
        "tgt": pa.array([text.upper() + "x" for text in TEXTS], pa.large_string()),
        "z": [float(number) for number in range(10)],
    }
)


@mtx.rule
def short(pairs: pa.RecordBatch, *, max_chars: int = 3) -> pa.BooleanArray:
    """Keeps short sources."""
    return pc.less_equal(pc.utf8_length(pairs["src"]), max_chars)


@mtx.scorer
def brevity(pairs: pa.RecordBatch) -> pa.Array:
    """Minus the length of the source."""
    return pc.negate(pc.utf8_length(pairs["src"]).cast(pa.float64()))


@pytest.mark.parametrize(
    ("keeper", "dropped"),
    [
        (DefaultFilter(), {"empty_source": 1, "duplicate": 1}),
        (NoFilter(), {}),
        (short(), {"short": 3}),
        (SelectionFilter(rules={"z": {"best_n": 4}}), {"z": 6}),
        (
            SelectionFilter(before=DefaultFilter(), rules={"z": {"min": 5.0}}),
            {"empty_source": 1, "duplicate": 1, "z": 3},
        ),
    ],
)
def test_own_filters_hold_the_contract(keeper: PairFilter, dropped: dict[str, int]) -> None:
    assert check_filter(keeper, PAIRS) == dropped


def test_own_scorers_hold_the_contract() -> None:
    assert check_scorer(brevity(), PAIRS)["score"].to_pylist() == [-float(len(text)) for text in TEXTS]
    assert check_scorer(RulesScorer(), PAIRS).num_rows == 10


@dataclass(frozen=True, kw_only=True)
class BrokenFilter(PairFilter):
    """Drops the pair with an empty source, and breaks one thing."""

    breaks: str = ""

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        if self.breaks == "no batch":
            return
        for number, batch in enumerate(pair_batches(pairs)):
            found = pc.equal(batch["src"], "").to_numpy(zero_copy_only=False)
            if self.breaks != "counts":
                count_dropped(dropped, "empty", found, batch)
            kept = batch.filter(pa.array(~found))
            if self.breaks == "columns":
                kept = kept.select(["src", "tgt", "row"])
            if self.breaks == "text":
                kept = kept.set_column(1, kept.schema.field(1), pc.utf8_upper(kept["src"]))
            if self.breaks == "order":
                kept = kept.take(pa.array(range(kept.num_rows))[::-1])
            if self.breaks == "batches" and number == 0 and batch.num_rows > 9:
                dropped["first"] = 1
                kept = kept.slice(1)
            yield kept


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ("no batch", "yields at least one batch"),
        ("counts", "each dropped pair counts once, but 9 of 10 pairs are kept and 0 are counted"),
        ("columns", r"returns all columns"),
        ("text", "returns pairs unchanged, but changed some"),
        ("order", "keeps the order of the pairs, but changed it"),
    ],
)
def test_a_filter_that_breaks_the_contract_is_told(breaks: str, message: str) -> None:
    assert check_filter(BrokenFilter(), PAIRS) == {"empty": 1}
    with pytest.raises(AssertionError, match=message):
        check_filter(BrokenFilter(breaks=breaks), PAIRS)


class ColumnsFilter(BrokenFilter):
    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield from pairs  # the columns of a table


def test_a_filter_that_yields_parts_of_a_table_is_told() -> None:
    with pytest.raises(AssertionError, match=r"record batches, but yielded a ChunkedArray. .*pair_batches\(pairs"):
        check_filter(ColumnsFilter(), PAIRS)


@mtx.rule
def every_second(pairs: pa.RecordBatch) -> pa.BooleanArray:
    return pa.array([place % 2 == 0 for place in range(pairs.num_rows)])


def test_a_rule_that_judges_a_pair_by_its_place_in_the_batch_is_told() -> None:
    with pytest.raises(AssertionError, match=r"a rule, which judges each pair alone, .*in parts of 1 pairs"):
        check_filter(every_second(), PAIRS)


@component("score.broken")
class BrokenScorer(Scorer):
    """Scores by length, and breaks one thing."""

    breaks: str = ""

    @property
    def columns(self) -> Mapping[str, ScoreColumn]:
        if self.breaks == "columns":
            return {}
        return {"score": ScoreColumn("" if self.breaks == "description" else "minus the length")}

    def scores(self, pairs: pa.RecordBatch) -> Any:
        lengths = pc.utf8_length(pairs["src"]).cast(pa.float64())
        if self.breaks == "batch" and pairs.num_rows:
            return pc.subtract(lengths, pc.mean(lengths))
        return pc.negate(lengths)


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ("columns", "columns names at least one column"),
        ("description", "the column score has no description"),
        ("batch", "the values of a pair do not depend on the batch"),
    ],
)
def test_a_scorer_that_breaks_the_contract_is_told(breaks: str, message: str) -> None:
    check_scorer(BrokenScorer(), PAIRS)
    with pytest.raises(AssertionError, match=message):
        check_scorer(BrokenScorer(breaks=breaks), PAIRS)


@component("score.model")
class ModelScorer(TrainedScorer):
    """Scores nothing, after writing a model."""

    breaks: str = ""
    sample_pairs: int = 10
    seed: int = 0

    def train(self, sample: Sample, folder: Path) -> None:
        assert sum(batch.num_rows for batch in sample()) == 10
        if self.breaks != "files":
            content = b"\x80\x04N." if self.breaks == "pickle" else b"model"
            content += str(folder).encode() if self.breaks == "random" else b""
            (folder / "model").write_bytes(content)

    def load(self, folder: Path) -> Any:
        return self

    def scores(self, pairs: pa.RecordBatch, in_sample: Mask | None = None) -> Any:
        return pa.nulls(pairs.num_rows, pa.float64())


@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        ("files", "writes the model into files of its folder, but wrote none"),
        ("pickle", "a model contains no pickle, which runs code when it is read, but model is one"),
        ("random", "the model differs in a second training"),
    ],
)
def test_a_model_that_breaks_the_contract_is_told(breaks: str, message: str) -> None:
    check_scorer(ModelScorer(), PAIRS)
    with pytest.raises(AssertionError, match=message):
        check_scorer(ModelScorer(breaks=breaks), PAIRS)


def test_what_is_no_component_is_told() -> None:
    with pytest.raises(AssertionError, match=r"int is no subclass of mtx\.data\.score\.scorer\.Scorer"):
        check_scorer(3, PAIRS)  # type: ignore[arg-type]
