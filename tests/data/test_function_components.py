"""A user's own functions as components."""

import pickle
import sys
import types
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import mtx
from mtx.components.check_and_build import build, check_config
from mtx.components.identity import identity
from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.score.planted_noise_scores import noise_scores
from mtx.data.score.rules import RulesScorer
from mtx.data.score.score_stage import score, score_texts
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.errors import ConfigError, DataError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

PAIRS = pa.table({"src": ["a", "bb", "ccc"], "tgt": ["x", "y", "z"], "row": [0, 1, 2]})


@mtx.rule
def short(pairs: pa.RecordBatch, *, max_chars: int = 2) -> pa.BooleanArray:
    """Keeps pairs with a short source."""
    return pc.less_equal(pc.utf8_length(pairs["src"]), max_chars)


@mtx.rule
def too_few(pairs: pa.RecordBatch) -> list[bool]:
    return [True]


@mtx.rule
def undecided(pairs: pa.RecordBatch) -> list[bool | None]:
    return [None] * pairs.num_rows


@mtx.scorer
def brevity(pairs: pa.RecordBatch, *, scale: float = 1.0) -> pa.Array:
    length = pc.cast(pc.utf8_length(pairs["src"]), pa.float64())
    return pc.if_else(pc.equal(length, 3), float("nan"), pc.divide(scale, length))


@mtx.scorer(of_texts=False)
def laser(pairs: pa.RecordBatch, *, column: str = "laser") -> pa.Array:
    return pairs[column]


def test_scorers_outside_mtx_run_in_one_process_unless_they_say_otherwise() -> None:
    class Own(RulesScorer):
        pass

    parallel = mtx.scorer(parallel=True)(unmarked)
    assert RulesScorer.is_parallel
    assert [of.is_parallel for of in (brevity, laser, parallel, Own)] == [False, False, True, False]


def unmarked(pairs: pa.RecordBatch) -> pa.BooleanArray:
    return pairs["src"]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """This module under a name that a config may give."""
    monkeypatch.setitem(sys.modules, "my_rules", sys.modules[__name__])
    return sys.modules[__name__]


def applied(rule: Any) -> tuple[list[str], dict[str, int]]:
    dropped: dict[str, int] = {}
    return [text for batch in rule.apply(PAIRS, dropped) for text in batch["src"].to_pylist()], dropped


def test_a_rule_keeps_what_it_says_and_counts_the_rest_under_its_name() -> None:
    assert applied(short()) == (["a", "bb"], {"short": 1})
    assert applied(short(max_chars=1)) == (["a"], {"short": 2})


def test_a_rule_is_a_class_with_checked_options_that_pickles() -> None:
    assert short.__doc__ == "Keeps pairs with a short source."
    assert pickle.loads(pickle.dumps(short(max_chars=7))) == short(max_chars=7)
    with pytest.raises(ConfigError, match=r"filter\.max_chars is an integer, but is 'x'"):
        short(max_chars="x")


def test_a_config_makes_a_marked_function_and_refuses_another(module: types.ModuleType) -> None:
    config = {"filter": {"_target_": "my_rules.short", "max_chars": 1}, "seed": 0}
    check_config(config)
    assert build(config, "filter") == short(max_chars=1)
    with pytest.raises(ConfigError, match=r"filter\.max_chars is an integer"):
        check_config({"filter": {"_target_": "my_rules.short", "max_chars": "x"}})
    message = r"filter\._target_ must name a PairFilter, but my_rules\.unmarked is not one"
    with pytest.raises(ConfigError, match=message):
        check_config({"filter": {"_target_": "my_rules.unmarked"}})


def test_a_rule_is_named_by_its_code() -> None:
    found = identity(short(max_chars=3))
    assert (found["kind"], found["max_chars"]) == ("short", 3)
    assert str(found["version"]).startswith("code:")


@pytest.mark.parametrize(("rule", "found"), [(too_few, "1 values, 0 of them null"), (undecided, "3 of them null")])
def test_a_rule_that_does_not_judge_each_pair_is_named(rule: Any, found: str) -> None:
    with pytest.raises(DataError, match=f"the rule {rule.__name__} returns true or false for each pair.*{found}"):
        applied(rule())


def test_options_are_given_by_name_alone() -> None:
    with pytest.raises(ConfigError, match=r"def loud\(pairs, \*, OPTION=VALUE\)"):

        @mtx.rule
        def loud(pairs: pa.RecordBatch, most: int = 3) -> None: ...


def test_functions_that_could_have_one_identity_are_refused() -> None:
    limit = 3
    with pytest.raises(ConfigError, match=r"local uses limit of the function around.* local\(pairs, \*, limit\)"):

        @mtx.rule
        def local(pairs: pa.RecordBatch) -> list[bool]:
            return [pairs.num_rows < limit]

    for mark in (mtx.rule, mtx.scorer):
        with pytest.raises(ConfigError, match=r"needs a name, but is a lambda\. Write it as a function"):
            mark(lambda pairs: pairs["src"])


def test_scores_are_stored_once_for_each_text_and_scorer(tmp_path: Path) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    rows = [{"src": text, "tgt": "x"} for text in ("a", "bb", "ccc")]
    store.repo.add(
        TranslationDataset(id="text-1", name="x", stage="text", split="train", languages=("en", "de"), data=rows)
    )
    runner = StageRunner(store)
    scores_id = score(runner, "text-1", brevity(scale=2.0))
    assert score(runner, "text-1", brevity(scale=2.0)) == scores_id != score(runner, "text-1", brevity())
    scores = store.repo.get(scores_id)
    assert [row["score"] for row in scores.rows][:2] == [2.0, 1.0]
    assert scores.metrics == {"scored": {"score": 2}, "without_score": {"score": 1}}
    assert list(runner.built).count(scores_id) == 1


def test_a_scorer_of_further_columns_gets_no_planted_noise(tmp_path: Path) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    of = {"name": "x", "stage": "text", "split": "train", "languages": ("en", "de")}
    rows = [{"src": f"{n} a b c d", "tgt": f"{n} e f g h", "laser": n / 2} for n in range(4)]
    store.repo.add(TranslationDataset(id="text-1", data=rows, **of))  # type: ignore[arg-type]  # plain values
    scorers = {"laser": laser(), "brevity": brevity()}
    scored = {name: score_texts(StageRunner(store), ["text-1"], scorer) for name, scorer in scorers.items()}
    assert store.repo.get(scored["laser"].scores["text-1"]).rows.table["score"].to_pylist() == [0.0, 0.5, 1.0, 1.5]
    assert laser(column="x").column == "x"
    assert list(noise_scores(store, [SelectedDataset("text-1", 4)], scorers, scored, per_kind=2, seed=0)) == ["brevity"]
