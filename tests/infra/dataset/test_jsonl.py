"""The two ways to read JSON Lines give the same pairs, whatever the lines hold."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.infra.dataset.columns import Columns
from mtx.infra.dataset.pairs import Refusals
from mtx.infra.dataset.sources.files import SourceFile
from mtx.infra.dataset.sources.jsonl import parse_block, parse_lines

FILE = SourceFile(path=Path("a.jsonl"), format="jsonl", compression=None, stem="a", stamp=(1, 0))
FLAT = Columns("src", "tgt", ("src", "tgt"))
NESTED = Columns("en", "de", ("en", "de"), parent="translation")

texts = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["2020-01-01", "}\n{", "\u2028", "", "-NaN "]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
odd_lines = st.sampled_from(
    [
        b"",
        b" \t\r",
        b"no",
        b'{"src":"a","tgt":"b"}{"src":"c","tgt":"d"}',
        b'{"src":"a",',
        b'"tgt":"b"}',
        b'{"src":"a","src":"b","tgt":"c"}',
        b'{"src":"a","tgt":"b","x":1,"x":2}',
        b'{"src":"\\ud83d\\ude00","tgt":"\\ud83d"}',
        b'{"src":"a","tgt":"b","x":"\\udead"}',
        b'{"src":"a","tgt":"b","x":Inf}',
        b'{"src":"a","tgt":"b","x":-NaN}',
        b'{"src":"a","tgt":"b","x":-Infinity}',
        b'{"src":"a","tgt":"b","x":1e999}',
        b'{"src":"a","tgt":"b","x":01}',
        b'{"src":"a","tgt":"b","x":"\xff"}',
        b'{"src":"\xed\xa0\x80","tgt":"b"}',
        b'{"src":"a","tgt":"b"} ',
        b'{"src":"a","tgt":"b"}]',
        b'\xef\xbb\xbf{"src":"a","tgt":"b"}',
        b'{"src":"a",\r"tgt":"b"}',
        b'{"translation":{"en":"a","de":null}}',
        b'{"translation":{"en":"a","en":"c","de":"b"}}',
        b'{"x":' + b"9" * 5000 + b',"src":"a","tgt":"b","translation":{"en":"a","de":"b"}}',
        b'{"x":' + b"[" * 5000 + b"]" * 5000 + b',"src":"a","tgt":"b","translation":{"en":"a","de":"b"}}',
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """Draw a line: mostly an object with both texts in it, in any order and spelling, sometimes anything."""
    if draw(st.integers(0, 1)) == 0:
        return draw(odd_lines)
    found = draw(st.dictionaries(texts, values, max_size=2))
    found |= {"src": draw(texts), "tgt": draw(texts), "translation": {"de": draw(texts), "en": draw(texts)}}
    if draw(st.integers(0, 9)) == 0:
        found[draw(st.sampled_from(["src", "tgt", "translation"]))] = draw(values)
    keys = draw(st.permutations(list(found)))
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\r", ":\t")]))
    line = json.dumps({key: found[key] for key in keys}, ensure_ascii=draw(st.booleans()), separators=separators)
    return line.encode()


def by_line(block: bytes, columns: Columns) -> tuple[list[tuple[str, str]], dict[str, int]]:
    refusals = Refusals("skip")
    return list(parse_lines(FILE, 1, block, columns, refusals)), refusals.counts


@settings(max_examples=200, deadline=None)
@given(
    st.lists(lines(), min_size=1, max_size=3),
    st.sampled_from([b"\n", b"\r\n"]),
    st.booleans(),
    st.sampled_from([FLAT, NESTED]),
)
def test_a_block_parsed_at_once_is_what_its_lines_are(
    found: list[bytes], end: bytes, last: bool, columns: Columns
) -> None:
    block = end.join(found) + (end if last else b"")
    batch = parse_block(block, columns)
    if batch is not None:
        pairs = [(row["src"], row["tgt"]) for row in batch.to_pylist()]
        assert by_line(block, columns) == (pairs, {})


@pytest.mark.parametrize("columns", [FLAT, NESTED])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_plain_blocks_are_parsed_at_once(columns: Columns, end: str) -> None:
    found = [
        {"id": i, "src": f"é{i}", "tgt": "NaN, }\n{ Information", "translation": {"de": "\u2028", "en": str(i)}}
        for i in range(9)
    ]
    block = "".join(json.dumps(row, ensure_ascii=False) + end for row in found).encode()
    batch = parse_block(block, columns)
    assert batch is not None
    assert [tuple(row.values()) for row in batch.to_pylist()] == by_line(block, columns)[0]


@pytest.mark.parametrize(
    "block",
    [
        b'{"src":"a","tgt":"b"}{"src":"c","tgt":"d"}\n{"src":"e",\n"tgt":"f"}\n',  # three objects on three lines
        b'{"src":"a","tgt":"b"}\n\n{"src":"e","tgt":"f"}\n',
        b'{"src":"a","tgt":"b"}{"src":"e","tgt":"f"}\n',
        b'{"src":"a","tgt":"b","x":Inf}\n',
        b'{"src":"a","tgt":"b","x":-NaN}\n',
        b'{"src":"a","tgt":"b","x":"\xff"}\n',
        b'{"src":"a","tgt":null}\n',
        b'{"src":"a","src":"a","tgt":"b"}\n',
        b'{"src":"a","tgt":"\\udc00"}\n',
        b'{"src":"a","tgt":1}\n',
    ],
)
def test_whatever_is_odd_is_left_to_the_lines(block: bytes) -> None:
    assert parse_block(block, FLAT) is None


def test_what_only_one_of_the_two_parsers_can_read_is_read() -> None:
    deep = b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b',"src":"a","tgt":"b"}'
    assert by_line(deep + b"\nno\n", FLAT) == ([("a", "b")], {"malformed_json": 1})
    assert by_line(b'{"x":1e999,"src":"a","tgt":"b"}', FLAT) == ([("a", "b")], {})
    assert by_line(b'{"x":"\\ud800","src":"a","tgt":"b"}', FLAT) == ([("a", "b")], {})
