"""The pairs that people read beside a score, and the costs of rules by planted noise."""

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.filter.column_rule import ColumnRule
from mtx.experiment.score_examples import example_rows, example_texts
from mtx.infra.dal.arrow_rows import Rows
from mtx.records.rule_cost_report import rule_costs

NAN = float("nan")


def test_examples_are_the_lowest_scores_and_those_around_the_median() -> None:
    found = example_rows(np.array([5.0, NAN, 1.0, 3.0, 9.0, -np.inf]), 2, seed=0)
    assert found.worst.tolist() == [5, 2]
    assert found.median[0] == 3
    assert len(found.median) == 2


def test_examples_of_equal_scores_are_drawn_from_the_whole_corpus() -> None:
    found = example_rows(np.zeros(1000), 5, seed=0)
    assert found.worst.max() > 100
    assert (example_rows(np.zeros(1000), 5, seed=0).worst == found.worst).all()
    assert (example_rows(np.zeros(1000), 5, seed=1).worst != found.worst).any()


@pytest.mark.parametrize("scores", [[], [NAN]])
def test_a_corpus_without_scores_has_no_examples(scores: list[float]) -> None:
    found = example_rows(np.array(scores), 5, seed=0)
    assert len(found.worst) == len(found.median) == 0


def test_texts_of_examples_come_from_all_parts_and_long_ones_are_cut() -> None:
    parts = [
        Rows(pa.table({"src": ["a", "b"], "tgt": ["x", "y" * 1000]})),
        Rows(pa.table({"src": ["c"], "tgt": ["z"]})),
    ]
    found = example_texts(parts, [2, 1], np.array([2, 1, 1]))
    assert found[2] == ("c", "z")
    assert found[1][0] == "b"
    assert len(found[1][1]) == 300


def test_the_cost_of_a_rule_is_what_it_loses_and_what_noise_it_catches() -> None:
    rules = {
        "low": ColumnRule(column="rules.z", min=0.0),
        "high": ColumnRule(column="b", max=1.0, without_value="keep"),
        "rank": ColumnRule(column="b", best_n=1),
        "other": ColumnRule(column="source_chars", max=9.0),
        "part": ColumnRule(column="b", max=1.0, within="source", only=["web"]),
    }
    scores = {"rules.z": np.array([-1.0, 0.0, NAN, 2.0]), "b": np.array([0.0, 0.0, NAN, 2.0])}
    noise = {
        "rules.z": {"one": np.array([-1.0, 1.0]), "two": np.array([1.0])},
        "b": {"one": np.array([0.0, 0.0]), "two": np.array([2.0])},
    }
    found = rule_costs(rules, scores, noise)
    assert list(found.rules) == ["low", "high"], "other rules have no fixed bound on a score"
    low, high, together = found.rules["low"], found.rules["high"], found.together
    assert together is not None
    assert (low.lost, low.caught, low.kinds) == (0.5, 0.25, {"one": 0.5, "two": 0.0})
    assert (high.lost, high.kinds) == (0.25, {"one": 0.0, "two": 1.0})
    assert (together.lost, together.caught) == (0.75, 0.75)
    assert rule_costs({}, scores, noise).together is None


def test_a_rule_on_a_score_without_noise_catches_none() -> None:
    rules = {"given": ColumnRule(min=0.5), "z": ColumnRule(min=0.0)}
    scores = {"given": np.array([0.0, 1.0]), "z": np.array([1.0, 1.0])}
    found = rule_costs(rules, scores, {"z": {"one": np.array([-1.0, 1.0])}})
    assert (found.rules["given"].lost, found.rules["given"].caught) == (0.5, 0.0)
    assert found.together is not None
    assert (found.together.lost, found.together.kinds) == (0.5, {"one": 0.5})
    alone = rule_costs({"given": rules["given"]}, scores, {}).together
    assert alone is not None
    assert (alone.lost, alone.caught) == (0.5, 0.0)
