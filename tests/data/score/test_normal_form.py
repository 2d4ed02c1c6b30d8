"""Normal forms of texts, with values worked out by hand."""

import unicodedata
from itertools import pairwise

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.score.character_scripts import NUM_CODES
from mtx.data.score.contamination import unspaced_characters, word_hashes
from mtx.data.score.normal_form import LEAST_COMPILED, folding_table, normal_pairs, normal_texts
from mtx.data.score.text_features import UNSPACED, character_table


def forms(*texts: str, with_punctuation: bool = True) -> list[str]:
    found = normal_texts(pa.array(texts, pa.large_string()), with_punctuation=with_punctuation)
    bounds = found.offsets.tolist()
    return ["".join(map(chr, found.codes[first:end])) for first, end in pairwise(bounds)]


def test_case_white_space_and_compatibility_characters_are_made_equal() -> None:
    assert forms("  Aé  ﬁB\t\n c ", "", " \u3000 ", "ＡＢ！", "e\u0301", "x\x00y", "\u00a8x") == [
        *("aé fib c", "", "", "ab!", "é", "x\x00y", "\u0308x"),
    ]


def test_without_punctuation_only_letters_marks_and_numbers_are_left() -> None:
    assert forms("Don't stop, 2-3!", "日本、語。", "שָׁלוֹם", "--- -", " … ", with_punctuation=False) == [
        *("dontstop23", "日本語", "שָׁלוֹם", "--- -", "..."),
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=5))
def test_the_form_is_that_of_the_standard_library(texts: list[str]) -> None:
    def expected(text: str) -> str:
        nfkc = unicodedata.normalize("NFKC", text.strip()).strip()
        words = "".join(" " if one.isspace() else one for one in nfkc)
        while "  " in words:
            words = words.replace("  ", " ")
        return "".join(one.lower() if len(one.lower()) == 1 else one for one in words)

    assert forms(*texts) == [expected(text) for text in texts]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("aB \t\u2028!é\u0301ﬁ語シ\u3099שָ😀\x00\u1112\u1161…\u00a0½ｶﾞ´™㍿")), max_size=6),
    st.booleans(),
)
def test_numpy_and_the_compiled_kernel_agree(texts: list[str], with_punctuation: bool) -> None:
    array = pa.array(["x", *texts, *[" a "] * LEAST_COMPILED], pa.large_string()).slice(1)
    one, other = (normal_texts(array, with_punctuation=with_punctuation, compiled=each) for each in (True, False))
    assert one.codes.tolist() == other.codes.tolist()
    assert one.offsets.tolist() == other.offsets.tolist()
    assert one.hashes().tolist() == one.hashes(compiled=False).tolist()
    for found, expected in zip(word_hashes(one), word_hashes(one, compiled=False), strict=True):
        assert found.tolist() == expected.tolist()


def test_the_compiled_kernel_expands_each_compatibility_character_as_the_library_does() -> None:
    codes = np.flatnonzero(~folding_table().is_plain)
    texts = [f" A{chr(code)}{chr(code)} b" for code in codes[(codes < 0xD800) | (codes > 0xDFFF)].tolist()]
    array = pa.array(texts, pa.large_string())
    for with_punctuation in (True, False):
        one, other = (
            normal_texts(array, with_punctuation=with_punctuation, compiled=compiled) for compiled in (True, False)
        )
        np.testing.assert_array_equal(one.offsets, other.offsets)
        np.testing.assert_array_equal(one.codes, other.codes)


def test_scripts_without_spaces_are_those_of_the_character_table() -> None:
    is_letter = np.array([unicodedata.category(chr(code)) != "Cn" for code in range(NUM_CODES)])
    expected = (character_table().flags & UNSPACED) != 0
    assert np.flatnonzero((unspaced_characters() != expected) & is_letter).tolist() == []


def test_equal_forms_have_equal_hashes_and_an_empty_text_has_0() -> None:
    hashes = normal_texts(pa.array(["Ab  c", "ab C", "abc", "", "ba c"], pa.large_string())).hashes().tolist()
    assert hashes[0] == hashes[1]
    assert hashes[3] == 0
    assert len(set(hashes)) == 4


def test_a_slice_of_texts_and_the_border_between_sides() -> None:
    texts = pa.array(["é", " A", "b ", "c"], pa.large_string())
    batch = pa.record_batch([texts.slice(1, 2), texts.slice(2, 2)], names=["src", "tgt"])
    found = normal_pairs(batch)
    assert "".join(map(chr, found.codes)) == "a\x01bb\x01c"
    assert found.offsets.tolist() == [0, 3, 6]
