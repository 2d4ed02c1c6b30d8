"""`AlignmentScorer`: the model by hand on small tables, leave-one-out, and texts of all kinds."""

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score import alignment, translation_tables
from mtx.data.score.alignment import AlignmentScorer
from mtx.data.score.letter_ngram_backend import ngram_functions
from mtx.data.score.minhash import minhash_kernels
from mtx.data.score.scorer import LeaveOutModel
from mtx.data.score.subword_bags import Bags, fitting_vocab_size
from mtx.data.score.translation_steps import NUMPY_STEPS, Steps, available_steps
from mtx.data.score.translation_tables import is_long
from mtx.errors import ConfigError

SYLLABLES = ("ba", "de", "fi", "go", "ku", "la", "me", "no")
JAPANESE = "赤青白黒山川木火水空雨雪花鳥犬猫"


def bags(*texts: list[int]) -> Bags:
    ids = np.array([token for text in texts for token in text], dtype=np.uint16)
    return Bags.of(np.array([len(text) for text in texts], dtype=np.int64), ids)


def batch(pairs: list[tuple[str, str]]) -> pa.RecordBatch:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    return pa.RecordBatch.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=schema)


def corpus(num_pairs: int, joint: str = " ", seed: int = 0) -> list[tuple[str, str]]:
    """Pairs whose target has a fixed word or character for each source word."""
    rng = random.Random(seed)
    words = [a + b for a in SYLLABLES for b in SYLLABLES][: len(JAPANESE) if not joint else 64]
    found = []
    for _ in range(num_pairs):
        chosen = [rng.randrange(len(words)) for _ in range(rng.randint(3, 9))]
        others = [words[place][::-1] + "n" if joint else JAPANESE[place] for place in chosen]
        found.append((" ".join(words[place] for place in chosen), joint.join(others)))
    return found


def misaligned(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(source, target) for (source, _), (_, target) in zip(pairs, pairs[1:] + pairs[:1], strict=True)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("model")
    scorer = AlignmentScorer()
    scorer.train(lambda: iter([batch(corpus(700))]), folder)
    return scorer.load(folder)


def scored(model: Any, pairs: list[tuple[str, str]], *, in_sample: bool = False) -> dict[str, np.ndarray]:
    found = model.scores(batch(pairs), np.full(len(pairs), in_sample))
    return {name: column.to_numpy() for name, column in found.items()}


def test_bags_count_the_distinct_tokens_of_each_text() -> None:
    found = bags([7, 3, 7], [], [65535])
    assert found.offsets.tolist() == [0, 2, 2, 3]
    assert found.tokens.tolist() == [3, 7, 65535]
    assert found.counts.tolist() == [1, 2, 1]
    joined = Bags.joined([found, bags([1])])
    assert (joined.offsets.tolist(), joined.tokens.tolist()) == ([0, 2, 2, 3, 4], [3, 7, 65535, 1])
    without = found.emptied(np.array([True, False, False]))
    assert (without.offsets.tolist(), without.tokens.tolist()) == ([0, 0, 0, 1], [65535])


@pytest.mark.parametrize("steps", [NUMPY_STEPS, available_steps()])
def test_an_iteration_by_hand(steps: Steps) -> None:
    """Pairs (0; 0) and (0 1; 0 1): token 0 is made 1 + ½ times by 0, and ½ times by 1."""
    cells, totals = np.zeros((2, 2, 2), dtype=np.float32), np.zeros(2, dtype=np.float32)
    cells[..., 0] = 0.5
    floor = np.full(2, 1e-9, dtype=np.float32)
    steps.add_expected_counts(cells, floor, bags([0], [0, 1]), bags([0], [0, 1]))
    np.testing.assert_allclose(cells[..., 1], [[1.5, 0.5], [0.5, 0.5]])
    steps.normalise(cells, totals)
    np.testing.assert_allclose(cells[..., 0], [[0.75, 0.25], [0.5, 0.5]])
    np.testing.assert_allclose(totals, [2, 1])
    assert not cells[..., 1].any()
    tables = np.ascontiguousarray(cells[..., 0]), totals, floor
    # The second pair: token 0 is made by 0 with 0.75, and by 1 with 0.5; token 1 with 0.25 and 0.5.
    one, none = (bags([0, 1]), bags([0, 1])), (bags([]), bags([]))
    found = steps.explained_probabilities(*tables, one, none, 0.0)
    np.testing.assert_allclose(found, [0.625, 0.375])
    # Its own counts: token 0 by 0 0.6, by 1 0.4; token 1 by 0 1/3, by 1 2/3. Of the totals, 2 - 0.6 - 1/3 and nothing
    # is left. Of the expected counts 1.5, 0.5 and 0.5, 0.5, there is left 0.9, 1/6 and 0.1, nothing.
    found = steps.explained_probabilities(*tables, one, one, 0.5)
    total = 2 - 0.6 - 1 / 3 + 0.5
    np.testing.assert_allclose(found, [(0.9 / total + 0.1 / 0.5) / 2, (1 / 6 / total) / 2], rtol=1e-5)


def test_compiled_and_numpy_steps_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    pairs = [*corpus(40, seed=3), ("", "x"), ("ba", ""), ("ba ba ba " * 30, "abn " * 90)]
    compiled = [scored(model, pairs, in_sample=flag) for flag in (False, True)]
    monkeypatch.setattr(alignment, "available_steps", lambda: NUMPY_STEPS)
    for flag, expected in zip((False, True), compiled, strict=True):
        found = scored(model, pairs, in_sample=flag)
        for name in found:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5)
    folders = [tmp_path / "compiled", tmp_path / "numpy"]
    for folder, steps in zip(folders, (available_steps(), NUMPY_STEPS), strict=True):
        folder.mkdir()
        monkeypatch.setattr(translation_tables, "available_steps", lambda steps=steps: steps)
        AlignmentScorer().train(lambda: iter([batch(corpus(60))]), folder)
    tables = [np.load(folder / "forward_totals.npy") for folder in folders]
    np.testing.assert_allclose(tables[0], tables[1], rtol=1e-4, atol=1e-5)


def test_misaligned_and_cut_pairs_have_lower_scores(model: Any) -> None:
    good = corpus(150, seed=5)
    right, wrong = scored(model, good), scored(model, misaligned(good))
    assert (right["score"] > 1).mean() > 0.98
    assert (wrong["score"] < 0).mean() > 0.9
    assert right["explained"].mean() > 0.95 > 0.5 > wrong["explained"].mean()
    cut = scored(model, [(source, target[: len(target) // 2]) for source, target in good])
    assert cut["weaker"].mean() < cut["score"].mean() < right["score"].mean()
    assert np.median(cut["weaker"]) < np.quantile(right["weaker"], 0.05)


def test_a_pair_of_the_sample_does_not_explain_itself(tmp_path: Path) -> None:
    """Rare words of a bad pair explain each other in the model that has learned them from this pair."""
    bad = ("zweqi pulvo", "xyrrt ogglm")
    pairs = [*corpus(300), bad]
    scorer = AlignmentScorer()
    scorer.train(lambda: iter([batch(pairs)]), tmp_path)
    model = scorer.load(tmp_path)
    seen, new = scored(model, [bad], in_sample=True), scored(model, [bad])
    assert new["score"][0] > 1 > 0 > seen["score"][0]
    # A bad pair that is made from another pair is scored without what was learned from that pair.
    assert isinstance(model, LeaveOutModel)
    originals = batch([bad]).append_column("other_tgt", pa.array([""], pa.large_string()))
    shuffled = batch([(bad[0], "ogglm xyrrt")])
    without = model.scores_without(shuffled, originals, np.array([True]))["score"].to_numpy()
    assert without[0] < 0.3 * scored(model, [(bad[0], "ogglm xyrrt")])["score"][0]
    out = model.scores_without(batch([bad]), originals, np.array([False]))["score"].to_numpy()
    np.testing.assert_array_equal(out, new["score"])


def test_pairs_without_tokens_have_no_score_and_nasty_texts_do(model: Any) -> None:
    nasty = ["\0", "e\u0301" * 40, "שלום עולם", "👩‍👩‍👧", "<PAD> <EOS>", " ", "x" * 100_000]
    pairs = [("", "abn"), ("ba", ""), ("", ""), *((text, text) for text in nasty)]
    found = scored(model, pairs, in_sample=True)
    for column in found.values():
        assert np.isnan(column[:3]).all()
        assert np.isfinite(column[3:]).all()
    assert scored(model, [])["score"].shape == (0,)


@pytest.mark.parametrize(
    "pairs",
    [
        [("a", "b")],
        [("", ""), ("", "")],
        [("", "only targets")] * 3,
        [("same", "same")] * 5,
        [("a " * 3000, "b " * 3000)],
    ],
)
def test_tiny_and_empty_corpora(tmp_path: Path, pairs: list[tuple[str, str]]) -> None:
    scorer = AlignmentScorer()
    scorer.train(lambda: iter([batch(pairs)]), tmp_path)
    found = scored(scorer.load(tmp_path), [*pairs, ("new", "neu")], in_sample=True)
    assert [np.isnan(value) for value in found["score"]] == [not (src and tgt) for src, tgt in [*pairs, ("n", "n")]]
    assert not np.isinf(found["score"]).any()


def test_targets_without_spaces(tmp_path: Path) -> None:
    pairs = corpus(700, joint="")
    scorer = AlignmentScorer()
    scorer.train(lambda: iter([batch(pairs)]), tmp_path)
    model, good = scorer.load(tmp_path), corpus(100, joint="", seed=7)
    right, wrong = scored(model, good)["score"], scored(model, misaligned(good))["score"]
    assert np.mean(right[:, None] > wrong) > 0.98


def test_results_do_not_depend_on_cores_or_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    folders, pairs = [tmp_path / "1", tmp_path / "2"], corpus(120)
    for cores, folder in zip("12", folders, strict=True):
        monkeypatch.setenv("OMP_NUM_THREADS", cores)
        folder.mkdir()
        parts = [batch(pairs)] if cores == "1" else [batch(pairs[:50]), batch(pairs[50:])]
        AlignmentScorer().train(lambda parts=parts: iter(parts), folder)  # type: ignore[misc]
    names = sorted(path.name for path in folders[0].iterdir())
    assert "forward_values.npy" in names
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name
    one, two = scored(model, pairs[:60]), scored(model, pairs[60:])
    for name, whole in scored(model, pairs).items():
        np.testing.assert_array_equal(whole, np.concatenate([one[name], two[name]]))


def test_long_pairs_and_pairs_with_an_empty_side_do_not_train() -> None:
    many = list(range(1100))
    source, target = bags(many, many, [1] * 5000, []), bags(many, [1], [2] * 5000, [1])
    assert is_long(source, target).tolist() == [True, False, False, True]


def test_the_vocabulary_shrinks_with_the_corpus() -> None:
    assert [fitting_vocab_size(8000, pairs) for pairs in (1, 5000, 20_000, 313_677)] == [260, 1260, 4260, 8000]
    with pytest.raises(ConfigError, match=r"score\.alignment\.vocab_size .*16000"):
        AlignmentScorer(vocab_size=20_000)


def test_the_slow_path_without_numba_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    for kernels, name in ((minhash_kernels, "near-duplicates"), (ngram_functions, "language"), (available_steps, "")):
        kernels.__wrapped__()
        assert name in caplog.messages[-1]
        assert "pip install 'mtx[fast]'" in caplog.messages[-1]
    assert len(caplog.messages) == 3
