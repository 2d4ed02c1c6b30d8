"""The two ways to read JSON Lines give the same pairs, whatever the lines hold."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.errors import MalformedPairError
from mtx.infra.dataset.column_detection import Columns
from mtx.infra.dataset.pair_stream import Refusals
from mtx.infra.dataset.sources import jsonl
from mtx.infra.dataset.sources.format_protocol import ReadOptions
from mtx.infra.dataset.sources.jsonl import parse_block, parse_lines
from mtx.infra.dataset.sources.local_files import SourceFile

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


@pytest.mark.parametrize("bad", [b"no", b"", b'{"src":1,"tgt":"b"}', b'{"src":"a","tgt":"\xff"}', b"[" * 200_000])
@pytest.mark.parametrize("where", [0, 17_000, 49_999])
def test_a_bad_line_slows_down_only_the_lines_near_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: bytes, where: int
) -> None:
    found = [b'{"src":"source %d","tgt":"target"}\n' % i for i in range(50_000)]  # two megabytes, in one block
    found.insert(where, bad + b"\n")
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(found))
    parsed = []
    by_json = jsonl.parsed_object
    monkeypatch.setattr(jsonl, "parsed_object", lambda line: parsed.append(line) or by_json(line))
    refusals = Refusals("skip")
    file = SourceFile(path=path, format="jsonl", compression=None, stem="a", stamp=(1, 0))
    batches = list(jsonl.read(file, FLAT, ReadOptions(), refusals, None))
    assert [text for batch in batches for text in batch["src"].to_pylist()] == [f"source {i}" for i in range(50_000)]
    assert sum(refusals.counts.values()) == (1 if bad else 0)
    assert len(parsed) <= jsonl.PART_BYTES / 30


def test_places_and_n_hold_where_a_block_is_cut_into_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    found = [b'{"src":"%d","tgt":"t"}\n' % i for i in range(20_000)]
    for number in (5_000, 15_000):
        found[number] = b"no\n"
    path.write_bytes(b"".join(found))
    file = SourceFile(path=path, format="jsonl", compression=None, stem="a", stamp=(1, 0))
    with pytest.raises(MalformedPairError, match=r"a\.jsonl, line 5001: the line is not valid JSON"):
        list(jsonl.read(file, FLAT, ReadOptions(), Refusals("raise"), None))
    for limit, counts in ((5_000, {}), (5_001, {"malformed_json": 1}), (19_998, {"malformed_json": 2})):
        refusals = Refusals("skip")
        batches = list(jsonl.read(file, FLAT, ReadOptions(), refusals, limit))
        assert sum(batch.num_rows for batch in batches) == limit
        assert refusals.counts == counts
