"""Rules for bytes of UTF-8 give what rules for characters give."""

import re
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtx.data.filter.default import CONTROL_CHARACTER
from mtx.data.text_bytes import ROWS_AT_ONCE, has_control_character, num_words, text_buffers

# White space of each length in UTF-8, characters that share a byte with one, and others of one to four bytes.
CHARACTERS = " \t\x1c\x85\xa0\u1680\u2003\u2028\u3000" + "\u200b\u2010\u00a1\u00c5\u3001\u1681\ue000" + "aé日😀"
TEXTS = st.lists(st.text(st.sampled_from(CHARACTERS) | st.characters(codec="utf-8"), max_size=12), max_size=8)
CHARACTERS_OF_ALL = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]


def large(texts: list[str]) -> pa.LargeStringArray:
    return pa.array(texts, pa.large_string())


@given(TEXTS)
def test_words_are_those_of_str_split(texts: list[str]) -> None:
    assert num_words(large(texts)) == sum(len(text.split()) for text in texts)


def test_each_character_separates_words_if_it_is_white_space() -> None:
    texts = [f"a{char}b" for char in CHARACTERS_OF_ALL]
    assert num_words(large(texts)) == len(texts) + sum(map(str.isspace, CHARACTERS_OF_ALL))


def test_words_of_more_texts_than_are_looked_at_at_once_and_of_a_slice() -> None:
    texts = large(["one two", "", "  ", "drei"] * ROWS_AT_ONCE)
    assert num_words(texts) == 3 * ROWS_AT_ONCE
    assert num_words(texts.slice(3, 2)) == 3
    assert num_words(texts.slice(0, 0)) == 0


def test_each_control_character_is_found_and_no_other() -> None:
    for char in CHARACTERS_OF_ALL[:0x2100]:
        expected = re.fullmatch(CONTROL_CHARACTER.replace("{80}", "80").replace("{9f}", "9f"), char) is not None
        assert has_control_character(large([f"a{char}", "ab"])) is expected, hex(ord(char))


@pytest.mark.parametrize("char", ["\x00", "\x80", "\x9f", "\x7f"])
def test_a_control_character_is_found_in_the_last_row_only_if_the_row_is_part_of_the_slice(char: str) -> None:
    texts = large(["ab"] * ROWS_AT_ONCE + [char])
    assert has_control_character(texts)
    assert not has_control_character(texts.slice(0, ROWS_AT_ONCE))


def test_buffers_of_a_slice_begin_at_its_first_text() -> None:
    data, ends = text_buffers(large(["one", "zwei", "", "三"]).slice(1))
    assert (data.tobytes().decode(), ends.tolist()) == ("zwei三", [0, 4, 4, 7])
