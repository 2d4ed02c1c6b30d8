"""A score that combines those of other scorers: its order, its identity, its cross-fitting, and what it catches."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.dataset import SelectedDataset, TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.score.additive_logistic import AdditiveModel, bins, fit_additive, read_models, write_models
from mtx.data.score.combined import CombinedModel, CombinedScorer, source_halves
from mtx.data.score.duplicates import DuplicatesScorer
from mtx.data.score.noise_curves import separations
from mtx.data.score.planted_noise import PlantedPairs
from mtx.data.score.planted_noise_scores import noise_scores
from mtx.data.score.rules import RulesScorer
from mtx.data.score.score_ids import ScoreIds
from mtx.data.score.score_table import ScoreTable
from mtx.data.score.scorer import Scorer, scoring_order
from mtx.data.score_and_split_stages import build_text_scores
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.errors import ConfigError, DataError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.testing import check_scorer

WORDS = ("house", "tree", "green", "walks", "sings", "under", "bridge", "river", "night", "letter", "window", "garden")
TEXTS = ["text-1", "text-2"]
SCORERS: dict[str, Scorer] = {"combined": CombinedScorer(noise_pairs=150), "rules": RulesScorer()}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a text of 600 pairs in two parts, with words that are spelt backwards as targets."""
    store = Store(root=tmp_path_factory.mktemp("store"), objects=SQLiteObjectLayer, files=ArrowFileLayer)
    rng = np.random.default_rng(0)
    for name, start, end in (("text-1", 0, 500), ("text-2", 500, 600)):
        rows = []
        for number in range(start, end):
            words = rng.choice(WORDS, rng.integers(5, 14)).tolist()
            target = " ".join(word[::-1] for word in words)
            rows.append({"src": f"{' '.join(words)} {number}", "tgt": f"{target} é {number}"})
        store.repo.add(
            TranslationDataset(id=name, name="x", stage="text", split="train", languages=("en", "de"), data=rows)
        )
    return store


def score_corpus(runner: StageRunner, scorers: dict[str, Scorer]) -> dict[str, ScoreIds]:
    return build_text_scores(runner, SimpleNamespace(parts=lambda split: selected(runner.repo)), scorers)  # type: ignore[arg-type]  # the part of a corpus that scorers need


def selected(repo: DatasetRepo) -> tuple[SelectedDataset, ...]:
    return tuple(SelectedDataset(name, len(repo.manifest(name))) for name in TEXTS)


def test_a_combining_scorer_scores_after_the_scorers_that_it_combines(store: Store) -> None:
    scorers = {**SCORERS, "rules": RulesScorer(seed=2)}  # no other test has scored with these
    runner = StageRunner(store)
    scored = score_corpus(runner, scorers)
    assert list(scored) == ["combined", "rules"], "in the order of the config"
    assert runner.built.index(scored["rules"].scores["text-2"]) < runner.built.index(str(scored["combined"].model))
    values = store.repo.get(scored["combined"].scores["text-1"]).rows.table["score"].to_numpy()
    assert len(values) == 500
    assert np.isfinite(values).all()
    again = StageRunner(store)
    assert score_corpus(again, scorers) == {name: type(of)(of.scores, of.model) for name, of in scored.items()}, (
        "all is stored"
    )
    assert again.built == []


def test_other_inputs_give_another_model(store: Store) -> None:
    first = score_corpus(StageRunner(store), SCORERS)["combined"]
    runner = StageRunner(store)
    other = score_corpus(runner, {**SCORERS, "rules": RulesScorer(seed=1)})["combined"]
    assert other.model != first.model
    assert set(other.scores.values()).isdisjoint(first.scores.values())


def test_the_combined_score_tells_noise_that_single_scores_miss(store: Store) -> None:
    runner = StageRunner(store)
    scored = score_corpus(runner, SCORERS)
    parts = selected(store.repo)
    noise = noise_scores(store, parts, SCORERS, scored, per_kind=100, seed=1)
    table = ScoreTable.open(store.repo, parts, SCORERS, scored)
    caught = {}
    for name in ("combined", "rules.length_z", "rules.mojibake", "rules.digits"):
        found = separations(table.table[name].to_numpy(), noise[name])
        caught[name] = float(np.mean([of.caught[5] for of in found.values()]))
    assert caught["combined"] > 0.6
    assert caught["combined"] > max(of for name, of in caught.items() if name != "combined") + 0.1


def test_own_columns_and_rows_beyond_a_cap_are_no_part_of_the_model(tmp_path: Path) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    rows = [
        {"src": f"{' '.join(WORDS[n % 7 :])} {n}", "tgt": f"{' '.join(WORDS[: 5 + n % 7])} é {n}", "laser": 0.5}
        for n in range(300)
    ]
    of = {"name": "x", "stage": "text", "split": "train", "languages": ("en", "de")}
    store.repo.add(TranslationDataset(id="text-1", data=rows, **of))  # type: ignore[arg-type]
    store.repo.add(TranslationDataset(id="text-2", data=rows[:100], **of))  # type: ignore[arg-type]
    parts = (SelectedDataset("text-1", 120), SelectedDataset("text-2", 100))
    scorers = {"combined": CombinedScorer(noise_pairs=20), "rules": RulesScorer(), "duplicates": DuplicatesScorer()}
    scored = build_text_scores(StageRunner(store), SimpleNamespace(parts=lambda split: parts), scorers)  # type: ignore[arg-type]
    folder = store.models.open(str(scored["combined"].model))
    _, names = read_models(folder / "combined.npz")
    assert "duplicates.source" in names
    assert "laser" not in names
    assert np.load(folder / "sample_rows.npy").tolist() == [*range(120), *range(300, 400)]
    table = ScoreTable.open(store.repo, parts, scorers, scored).table
    assert len(table) == 220
    assert np.isfinite(table["combined"].to_numpy()).all()


def test_no_pair_is_scored_by_a_model_that_has_seen_its_source() -> None:
    sources = pa.array([f"source {number}" for number in range(200)], pa.large_string())
    halves = source_halves(sources)
    assert 60 < halves.sum() < 140
    seen: list[np.ndarray] = []

    class Model:
        def log_odds(self, features: np.ndarray) -> np.ndarray:
            seen.append(features)
            return np.full(len(features), float(len(seen)))

    pairs = pa.record_batch({"src": sources, "tgt": sources, "rules.z": np.arange(200.0)})
    found = CombinedModel([Model(), Model()], ["rules.z"]).scores(pairs, np.ones(200, dtype=bool))["score"].to_numpy()  # type: ignore[list-item]  # a stand-in
    assert (found == np.where(halves == 0, 1, 2)).all()
    assert (seen[1][:, 0] == np.flatnonzero(halves == 1)).all()


def test_half_of_the_sources_train_each_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = [f"a source of {number} words here" for number in range(300)]
    texts = pa.array(sources, pa.large_string())
    trained: list[np.ndarray] = []

    def fit(good: np.ndarray, bad: dict[str, np.ndarray]) -> AdditiveModel:
        trained.append(good)
        assert "wrong_language" in bad
        return fit_additive(good, bad)

    monkeypatch.setattr("mtx.data.score.combined.fit_additive", fit)

    def sample() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"src": texts, "tgt": texts, "z": np.arange(300.0)})

    def planted(pairs: PlantedPairs) -> pa.RecordBatch:
        batch = pairs.pairs.combine_chunks().to_batches()[0]
        return batch.append_column("z", pa.array(np.full(batch.num_rows, -5.0)))

    others = tmp_path / "french.txt"
    others.write_text("".join(f"un texte étranger {number}\n" for number in range(60)))
    CombinedScorer(noise_pairs=20, other_texts=str(others)).train_on_scores(sample, planted, tmp_path)
    halves = source_halves(texts)
    for half, good in enumerate(trained):
        assert (good[:, 0] == np.flatnonzero(halves != half)).all()
    models, names = read_models(tmp_path / "combined.npz")
    assert names == ["z"]
    assert len(models) == 2


def test_a_sample_without_enough_pairs_is_refused(tmp_path: Path) -> None:
    texts = pa.array(["a"], pa.large_string())
    for batches in ([], [pa.record_batch({"src": texts, "tgt": texts})]):
        table = pa.Table.from_batches(batches, pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())]))
        with pytest.raises(DataError, match="needs 20 pairs in each half of the corpus"):
            CombinedScorer().train_on_scores(lambda t=table: iter(t.to_batches()), lambda of: of.pairs, tmp_path)
    with pytest.raises(DataError, match="use train_on_scores"):
        CombinedScorer().train(lambda: iter(()), tmp_path)


@pytest.mark.parametrize(
    ("scorers", "told"),
    [
        ({"combined": CombinedScorer()}, r"Choose another one beside it, such as 'score=\[rules,combined\]'"),
        ({"combined": CombinedScorer(inputs=["rulse"]), "rules": RulesScorer()}, "names rulse, which is not among"),
        (
            {"combined": CombinedScorer(inputs=["combined"]), "rules": RulesScorer()},
            "that can be combined: rules",
        ),
    ],
)
def test_a_scorer_without_scorers_to_combine_is_refused(scorers: dict[str, Scorer], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        scoring_order(scorers)


def test_an_additive_model_finds_each_kind_and_bends(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    good = rng.normal(size=(2000, 2))
    bad = {
        "low": np.stack([rng.normal(-4, 1, 200), rng.normal(size=200)], axis=1),
        "far": np.stack([rng.normal(size=200), 4.0 * rng.choice([-1, 1], 200)], axis=1),  # no threshold can tell it
        "missing": np.stack([np.full(200, np.nan), rng.normal(size=200)], axis=1),
        "none": np.empty((0, 2)),
    }
    model = fit_additive(good, bad)
    limit = np.quantile(model.log_odds(good), 0.05)
    for kind in ("low", "far", "missing"):
        assert (model.log_odds(bad[kind]) < limit).mean() > 0.9, kind
    write_models(tmp_path / "a.npz", [model], ["x", "y"])
    (stored,), names = read_models(tmp_path / "a.npz")
    assert names == ["x", "y"]
    assert (stored.log_odds(good) == model.log_odds(good)).all()
    write_models(tmp_path / "b.npz", [fit_additive(good, bad)], ["x", "y"])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes(), "equal data give equal bytes"


def test_bins_are_those_between_the_edges_and_one_for_missing_values() -> None:
    edges = np.array([[0.0, 1.0], [5.0, np.inf]])
    found = bins(np.array([[-1.0, 5.0], [0.0, 4.0], [1.5, np.nan], [np.inf, 9.0]]), edges)
    assert found.tolist() == [[0, 5], [1, 4], [2, 7], [2, 5]]


def test_the_contract_of_combining_scorers_can_be_checked(store: Store) -> None:
    pairs = store.repo.get("text-1").rows.table.select(["src", "tgt"]).slice(0, 120)
    scorer = CombinedScorer(noise_pairs=20)
    found = check_scorer(scorer, pairs, combined={"rules": RulesScorer()})
    assert np.isfinite(found["score"].to_numpy()).all()
    with pytest.raises(AssertionError, match="give them, as `combined="):
        check_scorer(scorer, pairs)
    with pytest.raises(AssertionError, match="single pairs, but other is a CombinedScorer"):
        check_scorer(scorer, pairs, combined={"other": CombinedScorer()})
