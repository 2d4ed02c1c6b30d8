"""The scores of `RulesScorer`, worked out by hand."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.score.length_model import LengthModel
from mtx.data.score.rules import COLUMNS, RulesModel, RulesScorer, usual_scripts
from mtx.data.score.text_features import TextFeatures, character_table

FLAT = LengthModel(np.zeros(40), np.full(40, 0.5))


def batch(*pairs: tuple[str, str]) -> pa.RecordBatch:
    schema = pa.schema([("src", pa.large_string()), ("tgt", pa.large_string())])
    return pa.RecordBatch.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=schema)


def scored(*pairs: tuple[str, str], scripts: Any = (["LATIN"], ["LATIN"])) -> dict[str, list[float]]:
    found = RulesModel(FLAT, list(scripts)).scores(batch(*pairs))
    assert found.keys() == COLUMNS.keys()
    return {name: [round(value, 6) for value in array.to_pylist()] for name, array in found.items()}


def test_letters_are_the_share_of_visible_characters_of_the_side_with_fewer() -> None:
    assert scored(("ab 12", "abcd"), ("", "x"), ("дом é", "か\u3099"))["letters"] == [0.5, 0.0, 1.0]


@pytest.mark.parametrize(
    ("source", "target", "score"),
    [
        ("é", "Ã©", -1.0),
        ("it’s", "itâ€™s", -1.0),
        ("Ã©", "Ã©", 0.0),
        ("Ã©", "é", 0.0),
        ("x", "\ufffd\ufffd", -2.0),
        ("naïve Ünder", "größer ÄÖÜ", 0.0),
        ("д", "Ð´", -1.0),
    ],
)
def test_mojibake_counts_broken_sequences_that_only_the_target_has(source: str, target: str, score: float) -> None:
    assert scored((source, target))["mojibake"] == [score]


def test_a_sequence_does_not_reach_into_the_next_text() -> None:
    assert scored(("x", "Ã"), ("x", "©"))["mojibake"] == [0.0, 0.0]


def test_copies_are_shares_of_source_words_unless_the_source_is_short() -> None:
    found = scored(
        ("The green houses stand", "die GREEN houses da"),
        ("short one", "short one two"),
        ("short", "short"),
        ("彼は東京都に住んでいますよ", "彼は東京都に住んでいますよ!"),
    )
    assert found["copy"] == [-0.5, 0.0, -1.0, -1.0]


@pytest.mark.parametrize(
    ("source", "target", "score"),
    [
        ("in 1,000 days", "in 1.000 Tagen", 0.0),
        ("1000", "1,000", 0.0),
        ("10 of 20", "20 von 10", 0.0),
        ("12", "13", -2.0),
        ("12", "21", -1.0),
        ("no", "3", -1.0),
        ("12 a 34", "123 a 4", 0.0),
        ("page 7", "٧ صفحة", 0.0),
        ("７", "7", 0.0),
    ],
)
def test_digits_differ_by_their_number(source: str, target: str, score: float) -> None:
    assert scored((source, target))["digits"] == [score]


def test_digits_do_not_join_over_texts() -> None:
    assert scored(("1", "1"), ("23", "23"), ("", "4"))["digits"] == [0.0, 0.0, -1.0]


def test_markup_counts_tags_and_placeholders_and_tags_of_the_target_twice() -> None:
    found = scored(("<b>%s</b>", "%s"), ("x", "<b>x</b>"), ("{0} %d", "{0}"), ("a < b", "100 % sicher"))
    assert found["markup"] == [-2.0, -4.0, -1.0, 0.0]


def test_repetition_compares_the_shares_of_distinct_words() -> None:
    found = scored(("one two three four", "eins eins eins eins"), ("a a", "b c"), ("", ""))
    assert found["repetition"] == [-0.75, 0.0, 0.0]


def test_length_z_is_the_distance_in_deviations() -> None:
    assert scored(("abc", "a" * 7), ("abcdefg", "abc"))["length_z"] == [-round(np.log(2) / 0.5, 6)] * 2


def test_script_is_the_share_of_letters_in_usual_scripts() -> None:
    found = scored(("house", "дом"), ("a", "aд"), ("1", "2"), ("ａ", "a"))
    assert found["script"] == [0.0, 0.5, 1.0, 1.0]
    assert scored(("a", "д"), scripts=([], []))["script"] == [1.0]


def test_usual_scripts_cover_four_fifths_of_the_letters() -> None:
    names = character_table().script_names
    counts = np.zeros(256, dtype=np.int64)
    counts[names.index("CJK")], counts[names.index("HIRAGANA")], counts[names.index("LATIN")] = 50, 40, 10
    assert usual_scripts(counts) == ["CJK", "HIRAGANA"]


def test_a_model_comes_from_the_corpus_and_loads_again(tmp_path: Path) -> None:
    pairs = [("a" * (n % 30 + 1), "b" * 2 * (n % 30 + 1)) for n in range(900)]
    RulesScorer().train(lambda: iter([batch(*pairs[:400]), batch(*pairs[400:])]), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rules.json"], "no pickle"
    model = RulesScorer().load(tmp_path)
    z = model.scores(batch(("a" * 20, "b" * 40), ("a" * 20, "b" * 200)))["length_z"].to_pylist()
    assert z[0] > -1
    assert z[1] < -10


def test_buckets_with_few_pairs_join_the_one_below() -> None:
    source = np.array([10] * 300 + [1000] * 5)
    model = LengthModel.of(source, np.concatenate([np.full(300, 10), np.full(5, 9)]))
    assert model.z(np.array([1000]), np.array([1000]))[0] == 0.0
    assert LengthModel.of(np.array([3]), np.array([3])).z(np.array([3]), np.array([3]))[0] == 0.0
    assert LengthModel.of_json(model.to_json()).z(source, source).tolist() == model.z(source, source).tolist()


NASTY = [
    "", " ", "\x00", "a\x00b", "\U0001f600é", "שלום 12", "e\u0301", "\ufeffx", "ß" * 3000, "ｶﾀｶﾅ", "\U0002070e漢",
    "\u2028", "I\u0307",
]  # fmt: skip


def test_scores_of_nasty_texts_are_numbers_and_do_not_depend_on_the_batch() -> None:
    pairs = [(one, other) for one in NASTY for other in NASTY]
    model = RulesModel(FLAT, [["LATIN"], ["LATIN"]])
    together = model.scores(batch(*pairs))
    for name, array in together.items():
        assert not np.isnan(array.to_numpy()).any(), name
        alone = [model.scores(batch(pair))[name][0].as_py() for pair in pairs]
        assert array.to_pylist() == alone, name
    sliced = model.scores(batch(*pairs).slice(7, 40))
    assert all(sliced[name].to_pylist() == together[name].slice(7, 40).to_pylist() for name in COLUMNS)
    assert all(len(array) == 0 for array in model.scores(batch()).values())


def test_lengths_letters_and_words_agree_with_python() -> None:
    features = TextFeatures(pa.array(NASTY, pa.large_string()))
    assert features.num_chars.tolist() == [len(text) for text in NASTY]
    table = character_table()
    letters = [sum(bool(table.flags[ord(character)] & 1) for character in text) for text in NASTY]
    assert features.num_letters.tolist() == letters
    visible = [sum(not character.isspace() for character in text) for text in NASTY]
    assert features.num_visible.tolist() == visible
    words = TextFeatures(pa.array(["One one TWO", "one", "漢字漢字"], pa.large_string())).words
    assert words.num_words.tolist() == [3, 1, 4]
    assert words.num_distinct.tolist() == [2, 1, 3]


def test_a_long_text_needs_memory_in_proportion() -> None:
    model = RulesModel(FLAT, [["LATIN"], ["LATIN"]])
    character_table()
    tracemalloc.start()
    model.scores(batch(("word " * 200_000, "Wort " * 200_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 150 * 2_000_000
