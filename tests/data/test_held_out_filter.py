"""Held-out pairs are not filtered, unless a filter of their own is set; the report says which."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import mtx
from mtx import compose_datamodule
from mtx.assumption_log import collected_assumptions
from mtx.data.filter.none import NoFilter
from mtx.data.filter.selection import SelectionFilter
from mtx.data.filtering_stage import build_filtered
from mtx.data.preparation import StageIds, _check_columns
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_table import ScoredCorpus
from mtx.data.score.scorer import Scorer
from mtx.data.splitting_stage import Splits
from mtx.errors import ConfigError
from mtx.records.data_report import data_report, funnel_table
from mtx.training.datamodule import TranslationDataModule


@mtx.rule
def short_source(pairs: Any) -> list[bool]:
    return [len(text) < 3 for text in pairs["src"].to_pylist()]


RULE = "+datamodule.held_out_filter.rules.short={column: source_chars, max: 12}"


def data(folder: Path, *overrides: str) -> TranslationDataModule:
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        pairs = [{"src": f"sentence {row}" + "!" * (row % 4), "tgt": f"Satz {row}", "z": row} for row in range(120)]
        corpus.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    made = compose_datamodule(
        [
            *("downloader=local", f"downloader.path={corpus}", "downloader.columns=[z]", "tokenizer=byte"),
            *("downloader.source_language=en", "downloader.target_language=xx", f"storage.root={folder / 'store'}"),
            *("datamodule.validation=30", "datamodule.test=20", "datamodule.num_workers=0", *overrides),
        ]
    )
    made.prepare_data()
    return made


def ids(made: TranslationDataModule) -> StageIds:
    assert made.ids is not None
    return made.ids


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held_out")


def texts(made: TranslationDataModule, split: str) -> list[str]:
    return [row["src"] for row in made.storage.repo.get(ids(made).filtered[split]).rows]  # type: ignore[index,call-overload]


def told(made: TranslationDataModule) -> list[str]:
    made.setup()
    table = funnel_table(data_report(made, seed=0))
    return [str(cell) for column in table.columns for cell in column.cells]


def test_held_out_pairs_are_left_as_they_are_and_the_report_says_so(folder: Path) -> None:
    made = data(folder, "filter.max_chars=12")
    assert len(texts(made, "validation")) == 30
    assert {len(text) > 12 for text in texts(made, "validation")} == {True, False}
    with collected_assumptions() as assumed:
        assert "neither filtered nor deduplicated" in told(made)
    assert [line for line in assumed if "set +filter@datamodule.held_out_filter=default" in line]
    assert made.held_out()["filter"] == "filter/none"
    assert ids(data(folder)).filtered["validation"] == ids(made).filtered["validation"]


def test_a_filter_of_their_own_is_the_same_whatever_the_filter_of_the_training_pairs(folder: Path) -> None:
    chosen = ("+filter@datamodule.held_out_filter=selection", RULE)
    made, other = data(folder, *chosen), data(folder, *chosen, "filter=none")
    assert texts(made, "validation")
    assert max(map(len, texts(made, "validation") + texts(made, "test"))) <= 12
    assert max(map(len, texts(made, "train"))) > 12
    assert made.held_out() == other.held_out()
    assert made.held_out()["digest"] != data(folder).held_out()["digest"]
    with collected_assumptions() as assumed:
        assert "filtered by filter/selection" in told(made)
    assert not [line for line in assumed if "held_out_filter" in line]
    report = data_report(made, seed=0)
    assert report.dropped_by_split["validation"] == {"short": 30 - len(texts(made, "validation"))}
    assert ids(made).filtered["train"] == ids(data(folder)).filtered["train"]


def test_rules_for_held_out_pairs_are_checked_before_any_work(folder: Path) -> None:
    wrong: list[Any] = [
        ("+datamodule.held_out_filter.rules.q={min: 1}", r"the rule q needs the column q, which does not exist"),
        ("+datamodule.held_out_filter.rules.q={mni: 1}", r"mni is not a key of a rule\. Its keys: .*min"),
    ]
    for override, message in wrong:
        with pytest.raises(ConfigError, match=message):
            data(folder, "+filter@datamodule.held_out_filter=selection", override)


def test_columns_are_checked_beside_a_function_that_may_read_any(folder: Path) -> None:
    corpus = SimpleNamespace(columns=lambda split: ["z"], names=[])
    rules = {"mine": short_source(), "zz": {"min": 1}}
    for keepers in ((SelectionFilter(rules=rules), NoFilter()), (NoFilter(), SelectionFilter(rules=rules))):
        recipe = SimpleNamespace(filter=keepers[0], held_out_filter=keepers[1], scorers={})
        with pytest.raises(ConfigError, match=r"the rule zz needs the column zz, which does not exist"):
            _check_columns(recipe, corpus)  # type: ignore[arg-type]


def test_a_split_of_the_source_has_no_scores_to_compare(folder: Path) -> None:
    class Length(Scorer):
        """Length."""

        def scores(self, pairs: Any) -> Any: ...

    scores = ScoredCorpus({"length": Length()}, {"length": ScoreIds({"t": "scores-t"})})
    keeper, nothing = SelectionFilter(rules={"length": {"min": 1}}), None
    splits = Splits({"validation": "split-v"}, ("train", "validation"))
    with pytest.raises(ConfigError, match=r"compares scores of length, .* and validation is a split of the source"):
        build_filtered(keeper, nothing, splits, "validation", nothing, scores)  # type: ignore[arg-type]
