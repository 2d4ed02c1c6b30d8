"""The scorer `language`: copies and swapped sides, equal results with and without numba, and the identifier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.components.identity import identity
from mtx.data.score import language, language_identifier, letter_ngrams
from mtx.data.score.language import LanguageModel, LanguageScorer
from mtx.data.score.language_identifier import Py3langidIdentifier, known_language, most_frequent_language
from mtx.data.score.letter_ngram_backend import ngram_functions
from mtx.data.score.letter_ngrams import NUM_SLOTS, NgramFunctions, log_table
from mtx.errors import ConfigError, DataError
from mtx.testing import check_scorer

ENGLISH = (
    "the house stands near the water",
    "where are the green things",
    "she thought about this with them",
    "they were there",
)
GERMAN = (
    "das Haus steht nicht weit vom Wasser",
    "wo sind die grünen Dinge",
    "sie dachte darüber nach",
    "sie waren dort",
)
NASTY = [
    *("", " ", "12 345", "\0", "\0a\0", "🎉🎉", "!?…", "x", "É", "مرحبا بالعالم", "東京タワー", "e\u0301a", "İSTANBUL"),
    *("ab" * 3000, "a b  c\tд\n", "Ǆ ß", "\U0001f468\u200d\U0001f469 family", "-a-", "a!", "!a"),
]


def batch(sources: Sequence[str], targets: Sequence[str]) -> pa.RecordBatch:
    columns = [pa.array(list(side), pa.large_string()) for side in (sources, targets)]
    return pa.record_batch(columns, ["src", "tgt"])


def trained(scorer: LanguageScorer, pairs: pa.RecordBatch, folder: Path) -> LanguageModel:
    scorer.train(lambda: iter([pairs]), folder)
    return scorer.load(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    rng = np.random.default_rng(0)
    places = rng.integers(0, len(ENGLISH), (200, 2))
    sides = [[f"{side[a]}, {side[b]}" for a, b in places] for side in (ENGLISH, GERMAN)]
    return trained(LanguageScorer(), batch(*sides), tmp_path_factory.mktemp("model"))


def odds(model: LanguageModel, source: str, target: str, *, in_sample: bool = False) -> tuple[float, float, float]:
    found = model.scores(batch([source], [target]), np.array([in_sample]))
    least, of_source, of_target = (found[name][0].as_py() for name in ("score", "source_odds", "target_odds"))
    return least, of_source, of_target


@pytest.fixture(params=["numpy", "numba"])
def functions(request: pytest.FixtureRequest) -> NgramFunctions:
    found: Any = letter_ngrams if request.param == "numpy" else ngram_functions()
    assert found.__name__.endswith("letter_ngrams" if request.param == "numpy" else "ngram_kernels")
    return found  # type: ignore[no-any-return]


def test_a_copy_and_swapped_sides_are_below_0_and_a_translation_is_above(model: LanguageModel) -> None:
    english, german = "the water is green", "das Wasser ist grün"
    assert odds(model, english, german)[0] > 5
    least, of_source, of_target = odds(model, english, english)
    assert of_source == -of_target
    assert least == of_target < -5
    assert odds(model, german, english)[0] < -5
    _, of_german, of_other = odds(model, german, german)
    assert of_german < -5
    assert of_other > 5


@pytest.mark.parametrize("text", ["", " ", "12 345", "\0", "🎉🎉", "<3 %&/", "\u200b"])
def test_a_text_without_letters_is_no_evidence(model: LanguageModel, text: str) -> None:
    assert odds(model, text, text) == (0.0, 0.0, 0.0)
    assert odds(model, text, text, in_sample=True) == (0.0, 0.0, 0.0)


def test_words_are_letters_in_lower_case_between_single_separators(functions: NgramFunctions) -> None:
    words = functions.words_of(pa.array(["Ab!!1 Über?!", "12", "", "x", "か\u3099 9"], pa.large_string()))
    assert "".join(map(chr, words.codes)).replace(" ", "_") == "_ab_über___x_か\u3099_"
    assert words.offsets.tolist() == [0, 8, 9, 10, 12, 15]
    # "_x_": x, _x, _, x_, _x_; the first separator ends no n-gram.
    assert words.num_ngrams.tolist()[1:4] == [0, 0, 5]


def test_long_texts_count_from_their_start_only(functions: NgramFunctions) -> None:
    words = functions.words_of(pa.array(["é" * 100_000, "b"], pa.large_string()))
    assert np.diff(words.offsets).tolist() == [1001, 2]
    empty = functions.words_of(pa.array([], pa.large_string()))
    assert (empty.codes.tolist(), empty.offsets.tolist()) == ([32], [0])


def test_compiled_and_plain_functions_return_the_same_bits() -> None:
    compiled: Any = ngram_functions()
    texts = pa.array(NASTY * 2, pa.large_string())
    other = pa.array([*reversed(NASTY), *NASTY], pa.large_string())
    results = []
    for functions in (letter_ngrams, compiled):
        source, target = functions.words_of(texts.slice(1)), functions.words_of(other.slice(1))
        counts = np.zeros((2, NUM_SLOTS), dtype=np.int64)
        functions.add_counts(source, counts[0])
        functions.add_counts(target, counts[1])
        assert counts[0].sum() == source.num_ngrams.sum()
        table = np.ascontiguousarray(counts.T).astype(np.int32)
        table[table == 7] += 3_000_000  # beyond the table of logarithms
        mask = np.arange(len(texts) - 1) % 2 == 0
        results.append((source, target, counts, *functions.log_ratios(source, target, table, log_table(0.5), mask)))
    (plain_source, plain_target, *plain), (source, target, *others) = results
    for one, same in ((plain_source, source), (plain_target, target)):
        np.testing.assert_array_equal(one.codes, same.codes)
        np.testing.assert_array_equal(one.offsets, same.offsets)
    for expected, found in zip(plain, others, strict=True):
        assert np.asarray(expected).tobytes() == np.asarray(found).tobytes()


def test_a_pair_of_the_sample_is_judged_by_the_counts_of_the_others(functions: NgramFunctions) -> None:
    """Leave-one-out is exact: as if the counts had never had the pair."""
    texts = [functions.words_of(pa.array(side, pa.large_string())) for side in (ENGLISH, GERMAN)]
    first = [functions.words_of(pa.array(side[:1], pa.large_string())) for side in (ENGLISH, GERMAN)]
    counts = np.zeros((2, 2, NUM_SLOTS), dtype=np.int64)
    for side in (0, 1):
        functions.add_counts(texts[side], counts[0, side])
        functions.add_counts(texts[side], counts[1, side])
        own = np.zeros(NUM_SLOTS, dtype=np.int64)
        functions.add_counts(first[side], own)
        counts[1, side] -= own
    every, without = (np.ascontiguousarray(table.T).astype(np.int32) for table in counts)
    logs = log_table(0.5)
    left = functions.log_ratios(*first, every, logs, np.array([True]))
    never = functions.log_ratios(*first, without, logs, np.array([False]))
    known = functions.log_ratios(*first, every, logs, np.array([False]))
    assert np.array(left).tolist() == np.array(never).tolist()
    assert (np.array(left) != np.array(known)).all()


def test_characters_of_damaged_texts_do_not_reach_beyond_their_bytes(functions: NgramFunctions) -> None:
    surrogate = pa.array([b"a\xed\xa0\x80b"], pa.large_binary()).view(pa.large_string())
    assert "".join(map(chr, functions.words_of(surrogate).codes)) == " a b "
    if functions is not letter_ngrams:  # numpy's way decodes strictly, and raises
        damaged = pa.array([b"a\xf7\xbf\xbf\xbf", b"b\xe3"], pa.large_binary()).view(pa.large_string())
        assert functions.words_of(damaged).codes[:2].tolist() == [32, ord("a")]


def test_it_keeps_the_contract_of_scorers_also_without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = pa.Table.from_batches([batch(NASTY, NASTY[::-1])])
    compiled = check_scorer(LanguageScorer(sample_pairs=5), pairs)
    monkeypatch.setattr(language, "ngram_functions", lambda: letter_ngrams)
    plain = check_scorer(LanguageScorer(sample_pairs=5), pairs)
    assert compiled.equals(plain)
    assert np.isfinite(compiled["score"].to_numpy()).all()
    check_scorer(LanguageScorer(), pa.Table.from_batches([batch(["a b"], ["c"])]))


def test_without_numba_the_plain_functions_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    assert ngram_functions.__wrapped__() is letter_ngrams


# The identifier


class StandInIdentifier:
    """Identifies a language by its first letter; knows three."""

    languages = ("de", "en", "fr")

    def identify(self, texts: Sequence[str], expected: str | None) -> tuple[list[str], np.ndarray]:
        found = [{"e": "en", "d": "de", "f": "fr"}.get(text[:1], "und") for text in texts]
        return found, np.array([0.0 if one == "und" else 3.0 if one == expected else -3.0 for one in found])


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandInIdentifier:
    identifier = StandInIdentifier()
    monkeypatch.setattr(language, "language_identifier", lambda _: identifier)
    monkeypatch.setattr(language, "identifier_version", lambda _: "1.0")
    return identifier


@pytest.mark.usefixtures("stand_in")
def test_the_identifier_gives_languages_and_the_odds_of_the_side_with_lower_ones(tmp_path: Path) -> None:
    pairs = batch(["e one", "e two", "f un", "e", ""], ["d eins", "f deux", "d drei", "1", ""])
    scorer = LanguageScorer(identifier="py3langid")
    found = trained(scorer, pairs, tmp_path).scores(pairs, np.ones(5, dtype=np.bool_))
    assert list(found) == list(scorer.columns)
    assert found["source_language"].to_pylist() == ["en", "en", "fr", "en", "und"]
    assert found["target_language"].to_pylist() == ["de", "fr", "de", "und", "und"]
    assert found["identified"].to_pylist() == [3.0, -3.0, -3.0, 0.0, 0.0]
    check_scorer(scorer, pa.Table.from_batches([pairs]))


@pytest.mark.usefixtures("stand_in")
def test_expected_languages_are_options_or_those_of_most_texts(tmp_path: Path) -> None:
    pairs = batch(["e one", "e two"], ["d eins", "d zwei"])
    scorer = LanguageScorer(identifier="py3langid", target_language="fr_CA")
    found = trained(scorer, pairs, tmp_path).scores(pairs, np.ones(2, dtype=np.bool_))
    assert found["identified"].to_pylist() == [-3.0, -3.0]
    with pytest.raises(ConfigError, match=r"target_language=tlh is not known.*It knows: de, en, fr.*identifier=null"):
        trained(LanguageScorer(identifier="py3langid", target_language="tlh"), pairs, tmp_path)
    with pytest.raises(DataError, match=r"finds no language in the source side.*Set score\.language\.source_language"):
        trained(LanguageScorer(identifier="py3langid"), batch(["1"], ["d eins"]), tmp_path)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> str:
        raise language_identifier.PackageNotFoundError

    monkeypatch.setattr(language_identifier, "version", missing)
    with pytest.raises(
        ConfigError, match=r"^score\.language\.identifier=py3langid needs .*pip install \"mtx\[language\]\"$"
    ):
        identity(LanguageScorer(identifier="py3langid"))
    assert "identifier" not in identity(LanguageScorer()), "without an identifier, no package counts"


def test_another_version_of_the_package_is_another_id(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for version in ("0.4.0", "0.5.0"):
        monkeypatch.setattr(language, "identifier_version", lambda _, version=version: version)
        found.append(identity(LanguageScorer(identifier="py3langid")))
    assert found[0] != found[1]


def test_the_packaged_identifier_tells_languages(stand_in: StandInIdentifier) -> None:
    pytest.importorskip("py3langid")
    identifier = Py3langidIdentifier()
    texts = [
        "Where is the nearest railway station?",
        "Wo ist der nächste Bahnhof, bitte?",
        "",
        "12 🎉",
        "\0",
        "\ud800 ?",
    ]
    languages, found = identifier.identify(texts, "en")
    assert languages[:5] == ["en", "de", "und", "und", "und"]
    assert found[0] > 0.5 > -0.5 > found[1]
    assert found[2:5].tolist() == [0.0, 0.0, 0.0]
    assert identifier.identify(texts, None)[1].tolist() == [0.0] * 6
    assert most_frequent_language(identifier, texts[1:2])[0] == "de"
    assert known_language(identifier, "pt-BR", "x") == "pt"
    del stand_in
