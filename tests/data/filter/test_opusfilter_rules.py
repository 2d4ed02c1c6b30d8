"""The rules of OpusFilter and OpusCleaner decide as their definitions say, at the bounds too; worked out by hand."""

from typing import Any

import pyarrow as pa
import pytest

from mtx.data.filter.opus_config_file import OPUSCLEANER, OPUSFILTER
from mtx.data.filter.opus_rule import Sides
from mtx.data.filter.opusfilter_comparisons import edit_distance
from mtx.errors import ConfigError

WORDS_80 = " ".join(["ab"] * 80)


def keeps(rule: str, source: str, target: str, **parameters: Any) -> bool:
    made = {**OPUSFILTER, **OPUSCLEANER}[rule](**parameters)
    pairs = [("x y", "x y"), (source, target), ("", "")]  # other pairs in the batch change nothing
    sides = Sides(*(pa.array(list(side), pa.large_string()) for side in zip(*pairs, strict=True)))
    return bool(made.keeps(sides)[1])


@pytest.mark.parametrize(
    ("rule", "source", "target", "parameters", "expected"),
    [
        ("LengthFilter", "a b", "a", {"min_length": 1, "max_length": 2}, True),
        ("LengthFilter", "a b c", "a", {"min_length": 1, "max_length": 2}, False),
        ("LengthFilter", "a", "", {}, False),
        ("LengthFilter", "", "", {}, False),
        ("LengthFilter", "", "", {"pass_empty": True}, True),
        ("LengthFilter", "a", "", {"pass_empty": True}, False),
        ("LengthFilter", "e\u0301a", "ab", {"unit": "char", "max_length": 3}, True),
        ("LengthFilter", "e\u0301a", "ab", {"unit": ["char", "word"], "max_length": [2, 9]}, False),
        ("LengthFilter", "日本語", "a b", {"unit": "character", "max_length": 3}, True),
        ("LengthFilter", "a\u2003b\x1cc", "a", {"min_length": [3, 1]}, True),  # as str.split
        ("LengthRatioFilter", "a b c", "a", {"threshold": 3}, False),  # below, not at most
        ("LengthRatioFilter", "a b c", "a", {"threshold": 3.1}, True),
        ("LengthRatioFilter", "", "", {}, True),
        ("LengthRatioFilter", "a", "", {"threshold": 1e9}, False),
        ("LengthRatioFilter", "abc", "abcd", {"threshold": 1.34, "unit": "char"}, True),
        ("LongWordFilter", "aaaa b", "c", {"threshold": 4}, False),
        ("LongWordFilter", "aaaa b", "c", {"threshold": [5, 1]}, False),
        ("LongWordFilter", "aaaa b", "", {"threshold": [5, 1]}, True),
        ("AverageWordLengthFilter", "aaaa bb", "ccc", {"min_length": 3, "max_length": 3}, True),
        ("AverageWordLengthFilter", "aaaa b", "ccc", {"min_length": 3, "max_length": 3}, False),
        ("AverageWordLengthFilter", "", "", {}, False),
        ("AverageWordLengthFilter", "", "", {"pass_empty": True}, True),
        ("HtmlTagFilter", "a <b>c", "d", {}, False),
        ("HtmlTagFilter", "a < b > c", "d </b>", {}, True),  # no tag that opens
        ("HtmlTagFilter", "a", "<!-- <b> -->", {}, True),
        ("RegExpFilter", "a1", "b", {"regexps": r"\d"}, False),
        ("RegExpFilter", "a1", "b2", {"regexps": [r"\d", "b"], "accept_match": True}, True),
        ("RegExpFilter", "a1", "c2", {"regexps": [r"\d", "b"], "accept_match": True}, False),
        ("RegExpFilter", "ÄÖ", "b", {"regexps": r"\p{Lu}{2}"}, False),
        ("AlphabetRatioFilter", "abc1", "abc1", {"threshold": 0.75}, True),
        ("AlphabetRatioFilter", "abc1", "ab1", {"threshold": 0.75}, False),
        ("AlphabetRatioFilter", "a b", "日 本", {"exclude_whitespace": True, "threshold": 1}, True),
        ("AlphabetRatioFilter", "a b", "a b", {"threshold": [0.6, 0.7]}, False),
        ("AlphabetRatioFilter", "", "", {"threshold": 1}, True),
        ("CharacterScoreFilter", "abc 12", "где", {"scripts": ["Latin", "Cyrillic"]}, True),
        ("CharacterScoreFilter", "abc", "где", {"scripts": ["Latin", "Latin"]}, False),
        ("CharacterScoreFilter", "abcд", "é", {"scripts": ["Latin", "latin"], "thresholds": [0.75, 1]}, True),
        ("CharacterScoreFilter", "123", "", {"scripts": ["Han", "Han"]}, True),
        ("TerminalPunctuationFilter", "a.", "b", {"threshold": -0.69}, False),  # −log 2 = −0.693
        ("TerminalPunctuationFilter", "a.", "b", {"threshold": -0.7}, True),
        ("TerminalPunctuationFilter", "a?!…", "b.", {"threshold": -1.6}, False),  # −log(1 + 2 + 2) = −1.609
        ("TerminalPunctuationFilter", "a?!…", "b.", {"threshold": -1.61}, True),
        ("NonZeroNumeralsFilter", "1 20", "12", {"threshold": 1}, True),
        ("NonZeroNumeralsFilter", "1", "2", {"threshold": 0.5}, False),
        ("NonZeroNumeralsFilter", "12", "1", {"threshold": 0.66}, True),  # 2 · 1 / 3
        ("NonZeroNumeralsFilter", "12", "1", {"threshold": 0.67}, False),
        ("NonZeroNumeralsFilter", "a", "00", {"threshold": 1}, True),
        ("LongestCommonSubstringFilter", "abcdefghij", "xabcdefghix", {"threshold": 0.9}, False),
        ("LongestCommonSubstringFilter", "abcdefghij", "xabcdefghyj", {"threshold": 0.9}, True),
        ("LongestCommonSubstringFilter", "abcdef", "xxabxx", {"threshold": 0.3}, False),
        ("LongestCommonSubstringFilter", "", "a", {"threshold": 0.1}, True),
        ("SimilarityFilter", "abcdefghij", "abcdefghix", {"threshold": 0.9}, False),
        ("SimilarityFilter", "abcdefghij", "abcdefghxx", {"threshold": 0.9}, True),
        ("SimilarityFilter", "ABC", "abc", {"threshold": 0.9}, True),
        ("SimilarityFilter", "ABC", "abc", {"threshold": 0.9, "lowercase": True}, False),
        ("SimilarityFilter", "the cat sat", "the dog sat", {"threshold": 0.66, "unit": "word"}, False),
        ("SimilarityFilter", "", "", {}, False),
        ("RepetitionFilter", "abcabcabc", "x", {}, False),
        ("RepetitionFilter", "abcabc", "x", {}, True),
        ("RepetitionFilter", "abc abc  abc", "x", {}, False),
        ("RepetitionFilter", "abcabc", "x", {"threshold": 1}, False),
        ("RepetitionFilter", "x", "aaa", {}, True),  # a part has at least three characters
        ("RepetitionFilter", "x", "aaaaaaaaa", {}, False),
        ("RepetitionFilter", "x", "ab" * 20, {"min_length": 1, "max_length": 1}, False),
        ("max_length", WORDS_80, "a", {"MAXLENGTH": 80}, True),
        ("max_length", WORDS_80, "a", {"MAXLENGTH": 79}, False),
        ("max_length", "a", " ", {}, False),
        ("max_word_length", "aaa\tbbb c", "d", {"MAXWORDLENGTH": 6}, False),  # only a space separates words
        ("max_word_length", "aaa bbb", "d", {"MAXWORDLENGTH": 3}, True),
        ("src_trg_ratio", "a b c", "a b", {"RATIO": 0.6}, True),
        ("src_trg_ratio", "a b", "a", {"RATIO": 0.6}, False),
        ("src_trg_ratio", "a b", "a", {"RATIO": 0.6, "LOG": True}, True),  # log 2 / log 3 = 0.63
        ("src_trg_ratio", "", "a", {"RATIO": 0.0}, False),
        ("remove_empty_lines", "a", "\u3000", {}, False),
        ("remove_empty_lines", "a", "b", {}, True),
        ("num_mismatch", "1,000 and 2", "1.000 und 02", {}, True),
        ("num_mismatch", "1 and 2", "1", {}, True),  # (1 + 1) / (1 + 1)
        ("num_mismatch", "1", "2", {}, False),  # (0 + 1) / (2 + 1)
        ("num_mismatch", "-5", "5", {}, False),
        ("num_mismatch", "a", "b", {"RATIO": 2.0}, True),
    ],
)
def test_a_rule_decides_by_its_definition(
    rule: str, source: str, target: str, parameters: dict[str, Any], expected: bool
) -> None:
    assert keeps(rule, source, target, **parameters) == expected


@pytest.mark.parametrize("rule", sorted(OPUSFILTER))
def test_the_rules_take_any_text(rule: str) -> None:
    parameters: dict[str, Any] = {"scripts": ["Latin", "Arabic"]} if rule == "CharacterScoreFilter" else {}
    parameters |= {"regexps": "a"} if rule == "RegExpFilter" else {}
    texts = ["", "\x00", "e\u0301" * 20, "שלום\u200f", "日本語。" * 3, "\U0001f600" * 5, "a" * 5000, " \u2028 ", "<"]
    made = OPUSFILTER[rule](**parameters)
    sides = Sides(pa.array(texts, pa.large_string()), pa.array(texts[::-1], pa.large_string()))
    assert len(made.keeps(sides)) == len(texts)
    empty = pa.array([], pa.large_string())
    assert len(made.keeps(Sides(empty, empty))) == 0
    one = [bool(made.keeps(Sides(sides.texts[0].slice(k, 1), sides.texts[1].slice(k, 1)))[0]) for k in range(9)]
    assert made.keeps(sides).tolist() == one  # a pair is judged by itself


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("kitten", "sitting", 3), ("", "abc", 3), ("a" * 200, "a" * 199 + "b", 1), ("ab", "ba", 2)],
)
def test_the_edit_distance_is_levenshtein_s(one: str, other: str, expected: int) -> None:
    assert edit_distance(one, other) == edit_distance(other, one) == expected


@pytest.mark.parametrize(
    ("rule", "parameters", "message"),
    [
        ("RegExpFilter", {"regexps": "("}, "RegExpFilter has the pattern '(', which is not valid"),
        ("CharacterScoreFilter", {"scripts": ["Klingon", "Latin"]}, "'Klingon' is not the name of a Unicode script"),
        ("SimilarityFilter", {"weights": [1, 1, 2]}, "mtx has only equal weights: [1, 1, 1]"),
    ],
)
def test_parameters_that_no_rule_can_use_are_refused(rule: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        OPUSFILTER[rule](**parameters)
    assert message in str(error.value)
