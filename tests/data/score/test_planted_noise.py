"""Planted noise: bad pairs of each kind, and what a score tells of them."""

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score.noise_curves import LOSSES, CorpusScores, separations
from mtx.data.score.planted_noise import KINDS, MAKERS, planted_noise
from mtx.errors import ConfigError

SOURCE = [f"the {word} house number {n} stands here" for n in range(40) for word in ("green", "red", "old")]
TARGET = [f"das {word} Häuschen Nummer {n} steht da" for n in range(40) for word in ("grüne", "rote", "alte")]
PAIRS = pa.table({"src": pa.array(SOURCE, pa.large_string()), "tgt": pa.array(TARGET, pa.large_string())})


def made(kind: str) -> list[tuple[int, str, str]]:
    found = planted_noise(PAIRS, per_kind=20, seed=1, kinds=[kind])[kind]
    rows = found.pairs.to_pylist()
    return [(row, pair["src"], pair["tgt"]) for row, pair in zip(found.rows.tolist(), rows, strict=True)]


def test_there_are_at_least_ten_kinds_each_from_rows_of_its_own_draw() -> None:
    found = planted_noise(PAIRS, per_kind=20, seed=1)
    assert list(found) == list(MAKERS)
    assert len(found) >= 10
    assert [kind for kind, of in found.items() if of.stands_beside] == ["near_duplicate"]
    assert set(KINDS) == {*MAKERS, "wrong_language"}
    assert all(len(of.rows) == 20 == of.pairs.num_rows for of in found.values())
    assert len({tuple(of.rows.tolist()) for of in found.values()}) == len(found)
    for kind, of in found.items():
        assert len(set(of.rows.tolist())) == 20, "each row at most once"
        changed = [
            (pair["src"], pair["tgt"]) != (SOURCE[row], TARGET[row])
            for row, pair in zip(of.rows.tolist(), of.pairs.to_pylist(), strict=True)
        ]
        assert all(changed), kind


def test_a_kind_does_not_depend_on_the_others_and_a_seed_makes_others() -> None:
    alone, together = (planted_noise(PAIRS, per_kind=20, seed=1, kinds=kinds) for kinds in (["merged"], None))
    assert alone["merged"].pairs.equals(together["merged"].pairs)
    assert not alone["merged"].pairs.equals(planted_noise(PAIRS, per_kind=20, seed=2)["merged"].pairs)


def test_misaligned_targets_are_those_of_other_pairs_of_similar_length() -> None:
    for row, source, target in made("misaligned"):
        assert source == SOURCE[row]
        assert target in TARGET
        assert target != TARGET[row]


def test_each_kind_does_what_it_says() -> None:
    assert all(target == TARGET[(row + 1) % len(TARGET)] for row, _, target in made("shifted"))
    assert all(source == target == SOURCE[row] for row, source, target in made("copied"))
    assert all((target, source) == (SOURCE[row], TARGET[row]) for row, source, target in made("swapped"))
    assert all(target == " ".join(TARGET[row].split()[:3]) for row, _, target in made("truncated"))
    assert all(target.startswith(TARGET[row] + " das ") for row, _, target in made("merged"))
    assert all(sorted(target.split()) == sorted(TARGET[row].split()) for row, _, target in made("shuffled"))
    assert all("HÃ¤uschen" in target for _, _, target in made("mojibake"))
    assert all(TARGET[row] in target and len(target) > len(TARGET[row]) + 10 for row, _, target in made("markup"))
    assert all(
        sum(a != b for a, b in zip(target, TARGET[row], strict=True)) == 1 for row, _, target in made("changed_number")
    )
    assert all(len(target.split()) == len(TARGET[row].split()) + 4 for row, _, target in made("repeated"))
    assert all(not any(character.isalnum() for character in target) for _, _, target in made("punctuation"))


def test_texts_without_spaces_are_cut_and_shuffled_by_characters() -> None:
    texts = pa.array([f"これは長い日本語の文です{n}" for n in range(9)], pa.large_string())
    found = planted_noise(pa.table({"src": texts, "tgt": texts}), per_kind=5, seed=0)
    assert found["truncated"].pairs["tgt"][0].as_py() == "これは長い日"
    assert sorted(found["shuffled"].pairs["tgt"][0].as_py())[0] in "0123456789"
    assert "copied" not in found, "a pair of equal sides is no new noise"


def test_wrong_language_needs_texts() -> None:
    found = planted_noise(PAIRS, per_kind=3, seed=0, kinds=["wrong_language"], other_targets=["une maison", "la ville"])
    assert set(found["wrong_language"].pairs["tgt"].to_pylist()) <= {"une maison", "la ville"}
    with pytest.raises(ConfigError, match="wrong_language needs texts in another language: pass other_targets"):
        planted_noise(PAIRS, per_kind=3, seed=0, kinds=["wrong_language"])
    with pytest.raises(ConfigError, match=r"there is no kind of noise 'copy'. There are: copied"):
        planted_noise(PAIRS, per_kind=3, seed=0, kinds=["copy"])
    assert planted_noise(PAIRS.slice(0, 1), per_kind=3, seed=0) == {}


def test_separation_by_hand() -> None:
    scores = CorpusScores(np.array([float("nan"), *range(1, 100)]))
    assert scores.threshold(0.01) == 1.0, "the pair without a score is the lowest, and the only one that may be lost"
    assert scores.threshold(0.05) == 5.0
    assert scores.share_below(5.0) == 0.05
    found = scores.separation(np.array([0.0, 4.5, 50.0, float("nan")]))
    assert found.num_pairs == 4
    # above 0: 99 of 100; above 4.5: 95; above 50: 49 and one tie; NaN ties with NaN
    assert found.auc == pytest.approx((99 + 95 + 49.5 + 99.5) / 400)
    assert found.caught[LOSSES.index(0.05)] == 0.75
    assert found.caught[LOSSES.index(0.01)] == 0.5


def test_a_rule_with_two_values_catches_at_its_own_loss() -> None:
    corpus = np.array([0.0] + [1.0] * 99)
    found = separations(corpus, {"bad": np.array([0.0, 0.0, 1.0]), "none": np.array([])})
    assert list(found) == ["bad"]
    assert found["bad"].caught[LOSSES.index(0.01)] == pytest.approx(2 / 3)
    assert found["bad"].caught[LOSSES.index(0.005)] == 0.0
    assert np.isnan(CorpusScores(np.array([])).threshold(0.05))


def test_kinds_without_a_condition_have_pairs_as_long_as_the_corpus() -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(["wort 1 é"] * int(n)) for n in rng.integers(1, 60, 2000)]
    pairs = pa.table({"src": [f"{text} x" for text in texts], "tgt": texts})
    found = planted_noise(pairs, per_kind=300, seed=1)
    assert len(found) >= 10
    for kind in ("misaligned", "shifted", "copied", "merged", "markup", "punctuation"):
        mean = np.mean([len(text) for text in found[kind].pairs["src"].to_pylist()])
        assert mean == pytest.approx(np.mean([len(text) for text in texts]), rel=0.1), kind
