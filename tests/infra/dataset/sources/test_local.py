"""LocalDownloader: every format, every oddity of text, every message."""

import gzip
import json
import pickle
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.errors import ConfigError, MalformedPairError, MtxError, SourceError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA, ROWS_PER_BATCH
from mtx.infra.dataset.sources import local_files as files_module
from mtx.infra.dataset.sources.local import LocalDownloader

PAIRS = [("The cat sleeps.", "Die Katze schläft."), ("Two dogs.", "Zwei Hunde."), ("日本", "🎌 Japan"), ("", "leer")]
# Every character that some tool takes for a line's end or eats, except the tab and the two that TSV ends lines with.
ODD = [
    ("a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg", "\u00a0 spaces \u3000"),
    ("carriage\rreturn", "\rfirst"),
    ("nul\x00nul", "bom\ufeffin the middle"),
    ("x" * 100_000, "é" * 100_000),
    ('"quoted", said "she"', "back\\slash"),
]
ALL = PAIRS + ODD


def jsonl(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(json.dumps({"src": src, "tgt": tgt}, ensure_ascii=False) + "\n" for src, tgt in pairs).encode()


def tsv(pairs: list[tuple[str, str]]) -> bytes:
    return "".join(f"{src}\t{tgt}\n" for src, tgt in [("src", "tgt"), *pairs]).encode()


def csv(pairs: list[tuple[str, str]]) -> bytes:
    def field(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    return "".join(f"{field(src)},{field(tgt)}\n" for src, tgt in [("src", "tgt"), *pairs]).encode()


def parquet(pairs: list[tuple[str, str]]) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=PAIR_SCHEMA)
    pq.write_table(table, sink, row_group_size=3, write_page_checksum=True)
    return bytes(sink.getvalue())


FORMATS: dict[str, Callable[[list[tuple[str, str]]], bytes]] = {
    ".jsonl": jsonl,
    ".ndjson": jsonl,
    ".tsv": tsv,
    ".csv": csv,
    ".parquet": parquet,
}
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: bytes(pa.compress(data, codec="zstd", asbytes=True)),
}


def pairs_of(downloader: LocalDownloader, split: str = "train") -> list[tuple[str, str]]:
    return [(row["src"], row["tgt"]) for row in downloader.download(split)]


def write(path: Path, data: bytes | str) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def read(**options: Any) -> None:
    downloader = LocalDownloader(**options)
    downloader.info()
    list(downloader.download())


def message(error: type[MtxError] = SourceError, **options: Any) -> str:
    """Return the message that reading everything ends with."""
    with pytest.raises(error) as raised:
        read(**options)
    return str(raised.value)


def skipped(**options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    """Return the pairs that are left under `skip`, and the counts."""
    counts: dict[str, int] = {}
    batches = list(LocalDownloader(on_error="skip", **options).batches("train", counts))
    return [(row["src"], row["tgt"]) for batch in batches for row in batch.to_pylist()], counts


# Formats


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_texts_unchanged(tmp_path: Path, suffix: str, compression: str) -> None:
    data = COMPRESSIONS[compression](FORMATS[suffix](ALL))
    downloader = LocalDownloader(path=write(tmp_path / f"corpus.v1{suffix}{compression}", data))
    assert pairs_of(downloader) == ALL
    info = downloader.info()
    assert (info.name, info.languages, info.splits) == ("corpus.v1", ("src", "tgt"), ("train",))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_aligned_lines_give_the_texts_unchanged(tmp_path: Path, compression: str) -> None:
    for language, side in (("en", 0), ("de", 1)):
        data = "".join(pair[side] + "\n" for pair in ALL).encode()
        write(tmp_path / f"corpus.{language}{compression}", COMPRESSIONS[compression](data))
    downloader = LocalDownloader(
        source_path=tmp_path / f"corpus.en{compression}", target_path=tmp_path / f"corpus.de{compression}"
    )
    assert pairs_of(downloader) == ALL
    assert (downloader.info().name, downloader.info().languages) == ("corpus", ("en", "de"))


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".csv"])
@pytest.mark.parametrize("variant", ["no line end at the end", "windows line ends", "byte order mark", "blank lines"])
def test_variants_of_text_files_give_the_same_pairs(tmp_path: Path, suffix: str, variant: str) -> None:
    data = FORMATS[suffix](PAIRS)
    data = {
        "no line end at the end": data[:-1],
        "windows line ends": data.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + data,
        "blank lines": data.replace(b"\n", b"\n\n"),
    }[variant]
    assert pairs_of(LocalDownloader(path=write(tmp_path / f"a{suffix}", data))) == PAIRS


def test_aligned_files_may_differ_in_their_line_ends(tmp_path: Path) -> None:
    paths = {
        "source_path": write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\nthree"),
        "target_path": write(tmp_path / "b.txt", "eins\nzwei\ndrei\n"),
    }
    downloader = LocalDownloader(**paths)
    assert pairs_of(downloader) == [("one", "eins"), ("", "zwei"), ("three", "drei")]
    assert downloader.info().languages == ("src", "tgt")


def test_lines_are_found_wherever_blocks_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [(f"source {i} " + "é" * (i % 7), f"target {i}") for i in range(300)]
    expected = LocalDownloader(path=write(tmp_path / "a.jsonl", jsonl(pairs)))
    for size in (1, 7, 64, 1000):
        monkeypatch.setattr(files_module, "BLOCK_BYTES", size)
        assert pairs_of(expected) == pairs
        assert pairs_of(LocalDownloader(path=write(tmp_path / "a.tsv", tsv(pairs)))) == pairs


def test_batches_are_full_but_for_the_last(tmp_path: Path) -> None:
    num_rows = 2 * ROWS_PER_BATCH + 5
    lines = b"".join(b'{"src":"%d","tgt":"x"}\n' % i for i in range(num_rows))
    batches = list(LocalDownloader(path=write(tmp_path / "a.jsonl", lines)).batches("train", {}))
    assert [batch.num_rows for batch in batches] == [ROWS_PER_BATCH, ROWS_PER_BATCH, 5]
    assert {batch.schema for batch in batches} == {PAIR_SCHEMA}
    assert pa.Table.from_batches(batches)["src"].to_pylist() == [str(i) for i in range(num_rows)]


def test_texts_that_look_like_something_else_stay_texts(tmp_path: Path) -> None:
    pairs = [("2020-01-01", "2020-01-01T00:00:00Z"), ("1", "1.50"), ("true", "null"), ("NaN", "nan"), ("NULL", "")]
    for suffix, make in FORMATS.items():
        assert pairs_of(LocalDownloader(path=write(tmp_path / f"a{suffix}", make(pairs)))) == pairs, suffix


def test_parquet_of_other_text_types_and_of_objects(tmp_path: Path) -> None:
    texts = pa.array(["a", "b", "a"])
    table = pa.table({"src": texts.dictionary_encode(), "tgt": texts.cast(pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert pairs_of(LocalDownloader(path=tmp_path / "a.parquet")) == [("a", "a"), ("b", "b"), ("a", "a")]
    objects = pa.table({"id": [1, 2], "translation": [{"de": "eins", "en": "one"}, {"de": "zwei", "en": "two"}]})
    pq.write_table(objects, tmp_path / "b.parquet")
    downloader = LocalDownloader(path=tmp_path / "b.parquet", source_language="en")
    assert pairs_of(downloader) == [("one", "eins"), ("two", "zwei")]
    assert downloader.info().languages == ("en", "de")


# Columns and languages


@pytest.mark.parametrize(
    ("row", "options", "languages"),
    [
        ({"src": "a", "tgt": "b", "id": 1}, {}, ("src", "tgt")),
        ({"source": "a", "target": "b"}, {"source_language": "en"}, ("en", "tgt")),
        ({"en": "a", "de": "b"}, {"source_language": "en", "target_language": "de"}, ("en", "de")),
        ({"translation": {"en": "a", "de": "b"}, "score": 0.5}, {}, ("en", "de")),
        ({"translation": {"en": "a", "score": 0.5, "de": "b"}}, {}, ("en", "de")),
        ({"translation": {"de": "b", "en": "a"}}, {"target_language": "de"}, ("en", "de")),
        ({"x": "a", "src": "?", "tgt": "b"}, {"source_column": "x", "target_column": "tgt"}, ("src", "tgt")),
        # Named by the languages goes before src and tgt.
        (
            {"src": "?", "tgt": "?", "en": "a", "de": "b"},
            {"source_language": "en", "target_language": "de"},
            ("en", "de"),
        ),
    ],
)
def test_columns_are_found_by_name(
    tmp_path: Path, row: dict[str, Any], options: dict[str, str], languages: tuple[str, str]
) -> None:
    downloader = LocalDownloader(path=write(tmp_path / "a.jsonl", json.dumps(row)), **options)
    assert pairs_of(downloader) == [("a", "b")]
    assert downloader.info().languages == languages


def test_without_a_header_the_first_two_columns_or_those_numbered_are_taken(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "0.9\tone\teins\n0.8\ttwo\tzwei\n")
    assert pairs_of(LocalDownloader(path=path, header=False)) == [("0.9", "one"), ("0.8", "two")]
    numbered = LocalDownloader(path=path, header=False, source_column="2", target_column=3)
    assert pairs_of(numbered) == [("one", "eins"), ("two", "zwei")]
    named = LocalDownloader(path=path, header=False, source_language="en", target_language="de")
    assert named.info().languages == ("en", "de")


def test_tsv_takes_quotes_for_characters_and_csv_does_not(tmp_path: Path) -> None:
    line = '"say ""hi"""{}"b"\n'
    assert pairs_of(LocalDownloader(path=write(tmp_path / "a.tsv", line.format("\t")), header=False)) == [
        ('"say ""hi"""', '"b"')
    ]
    assert pairs_of(LocalDownloader(path=write(tmp_path / "a.csv", line.format(",")), header=False)) == [
        ('say "hi"', "b")
    ]


def test_csv_fields_may_hold_line_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'src,tgt\n"one\ntwo\r\nthree",x\ny,z\n')
    assert pairs_of(LocalDownloader(path=path)) == [("one\ntwo\r\nthree", "x"), ("y", "z")]


# Splits, n, identity


def test_each_split_has_its_file_and_n_cuts_training_only(tmp_path: Path) -> None:
    paths = {split: write(tmp_path / f"{split}.jsonl", jsonl(PAIRS)) for split in ("validation", "train")}
    downloader = LocalDownloader(path=paths, n=2)
    assert downloader.info().splits == ("train", "validation")
    assert pairs_of(downloader) == PAIRS[:2]
    assert pairs_of(downloader, "validation") == PAIRS
    assert downloader.info().name == "train"


def test_held_out_splits_follow_the_languages_of_the_training_split(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "de": "b"}}')
    test = write(tmp_path / "b.jsonl", '{"translation": {"de": "d", "en": "c"}}')
    assert pairs_of(LocalDownloader(path={"train": train, "test": test}), "test") == [("c", "d")]


@pytest.mark.parametrize("suffix", FORMATS)
def test_n_takes_the_first_pairs_and_reads_no_line_beyond(tmp_path: Path, suffix: str) -> None:
    data = FORMATS[suffix](PAIRS)
    if suffix != ".parquet":
        data += b"\xff\n"  # an error, where it is read
    assert pairs_of(LocalDownloader(path=write(tmp_path / f"a{suffix}", data), n=3)) == PAIRS[:3]
    assert pairs_of(LocalDownloader(path=write(tmp_path / f"b{suffix}", FORMATS[suffix](PAIRS)), n=99)) == PAIRS


def test_n_counts_pairs_and_not_what_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"no\n" + jsonl(PAIRS) + b"no\n")
    pairs, counts = skipped(path=path, n=4)
    assert (pairs, counts) == (PAIRS, {"malformed_json": 1})


def test_identity_is_that_of_the_content_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one = LocalDownloader(path=write(tmp_path / "a.jsonl", jsonl(PAIRS))).info()
    moved = LocalDownloader(path=write(tmp_path / "other" / "b.jsonl", jsonl(PAIRS)), name="c").info()
    assert (one.identity, one.revision) == (moved.identity, moved.revision)
    assert moved.name == "c"
    assert str(tmp_path) not in json.dumps(one.identity)


def test_identity_changes_with_content_format_and_options(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", tsv(PAIRS))
    changed = [
        LocalDownloader(path=path),
        LocalDownloader(path=write(tmp_path / "b.tsv", tsv(PAIRS[:-1]))),
        LocalDownloader(path=write(tmp_path / "b.csv", tsv(PAIRS).replace(b"\t", b","))),
        LocalDownloader(path=path, n=2),
        LocalDownloader(path=path, header=False),
        LocalDownloader(path=path, source_language="en"),
        LocalDownloader(path=path, on_error="skip"),
        LocalDownloader(path={"train": path, "test": path}),
        LocalDownloader(source_path=path, target_path=path),
    ]
    identities = [json.dumps(downloader.info().identity, sort_keys=True) for downloader in changed]
    assert len(set(identities)) == len(changed)
    assert len({downloader.info().revision for downloader in changed[:3]}) == 3


def test_it_pickles_also_after_use(tmp_path: Path) -> None:
    downloader = LocalDownloader(path=write(tmp_path / "a.jsonl", jsonl(PAIRS)))
    downloader.info()
    copy = pickle.loads(pickle.dumps(downloader))
    assert copy == downloader
    assert pairs_of(copy) == PAIRS


def test_a_change_while_reading_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS))
    downloader = LocalDownloader(path=path)
    downloader.info()
    write(tmp_path / "a.jsonl", jsonl(PAIRS[:2]))
    with pytest.raises(SourceError, match="was changed while mtx read the file"):
        list(downloader.download())
    rows = downloader.download()
    next(rows)
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file or directory"):
        list(rows)


def test_the_home_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.jsonl", jsonl(PAIRS))
    assert pairs_of(LocalDownloader(path="~/a.jsonl")) == PAIRS


# Rows that are no pair


BAD_JSON = {
    "malformed_json": [
        '{"src": "a" "tgt": "b"}',
        "text",
        '{"src": "a", "tgt": "b"} {"src": "c", "tgt": "d"}',
        "[" * 200_000,
    ],
    "not_an_object": ['["a", "b"]', "null", '"text"'],
    "repeated_key": ['{"src": "a", "src": "b", "tgt": "c"}'],
    "missing_text": ['{"src": "a"}', '{"src": null, "tgt": "b"}'],
    "not_text": ['{"src": 1, "tgt": "b"}', '{"src": "a", "tgt": ["b"]}', '{"src": true, "tgt": "b"}'],
    "lone_surrogate": ['{"src": "\\ud800", "tgt": "b"}', '{"src": "a", "tgt": "\\ude00\\ud83d"}'],
}


@pytest.mark.parametrize(("reason", "line"), [(reason, line) for reason, lines in BAD_JSON.items() for line in lines])
def test_lines_of_json_that_are_no_pair_are_refused_or_counted(tmp_path: Path, reason: str, line: str) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS[:2]) + line.encode() + b"\n" + jsonl(PAIRS[2:]))
    assert message(MalformedPairError, path=path).startswith(f"{path}, line 3: ")
    assert skipped(path=path) == (PAIRS, {reason: 1})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            '{"src": "a" "tgt": "b"}',
            'the line is not valid JSON (at character 13): \'{"src": "a" "tgt"',
        ),
        ("[" * 200_000, "the JSON of this line is nested too deeply: '[[["),
        ('["a"]', 'the line is not an object like {"src": …, "tgt": …}: \'["a"]\''),
        ('{"src": "a", "src": "b", "tgt": "c"}', "the key 'src' occurs more than once"),
        ('{"src": "a", "id": 1}', "there is no key 'tgt'; present: src, id"),
        ('{"src": null, "tgt": "b"}', "'src' is null"),
        ('{"src": 1, "tgt": "b"}', "'src' must be a text, but is a number"),
        ('{"src": {}, "tgt": "b"}', "'src' must be a text, but is an object"),
        ('{"src": "\\ud800", "tgt": "b"}', "'src' contains half of a surrogate pair, which is not a character"),
    ],
)
def test_messages_for_lines_of_json_say_what_and_what_next(tmp_path: Path, line: str, said: str) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS) + line.encode())
    text = message(MalformedPairError, path=path)
    assert text.startswith(f"{path}, line 5: {said}")
    assert text.endswith("Correct the row, or set downloader.on_error=skip to count and leave out such rows")


def test_objects_of_languages_that_are_no_pair(tmp_path: Path) -> None:
    good = '{"translation": {"en": "a", "de": "b"}}\n'
    for reason, said, line in (
        ("missing_text", "there is no key 'de'; present: en, fr", '{"translation": {"en": "a", "fr": "b"}}'),
        ("missing_text", "'translation' is null", '{"translation": null}'),
        ("not_text", "'translation' must be an object with two languages, but is a text", '{"translation": "a"}'),
        ("repeated_key", "the key 'en' occurs more than once", '{"translation": {"en": "a", "en": "c", "de": "b"}}'),
    ):
        path = write(tmp_path / "a.jsonl", good + line)
        assert f"line 2: {said}" in message(MalformedPairError, path=path)
        assert skipped(path=path) == ([("a", "b")], {reason: 1})


def test_a_bad_first_line_does_not_hide_the_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", b"no\n" + jsonl(PAIRS))
    assert "line 1: the line is not valid JSON" in message(MalformedPairError, path=path)
    assert skipped(path=path) == (PAIRS, {"malformed_json": 1})


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".csv"])
def test_bytes_that_are_no_utf8(tmp_path: Path, suffix: str) -> None:
    data = FORMATS[suffix]([("ab", "cd"), ("ab?", "cd"), ("ab", "ef")]).replace(b"?", b"\xff")
    path = write(tmp_path / f"a{suffix}", data)
    number = 2 if suffix == ".jsonl" else 3
    text = message(MalformedPairError, path=path)
    assert f"{path}, line {number}: byte " in text
    assert "of the line (0xff) is not valid UTF-8" in text
    assert skipped(path=path) == ([("ab", "cd"), ("ab", "ef")], {"invalid_utf8": 1})


def test_aligned_lines_that_are_no_utf8_take_their_partners_along(tmp_path: Path) -> None:
    source = write(tmp_path / "a.txt", b"one\ntwo\nthree\nfour\n")
    target = write(tmp_path / "b.txt", b"eins\nzw\xe4i\ndrei\nvier\n")
    text = message(MalformedPairError, source_path=source, target_path=target)
    assert text.startswith(
        f"{target}, line 2: byte 3 of the line (0xe4) is not valid UTF-8. If the whole file has another"
    )
    assert "ISO-8859-1. Correct the row, or set downloader.on_error=skip" in text
    pairs, counts = skipped(source_path=source, target_path=target)
    assert pairs == [("one", "eins"), ("three", "drei"), ("four", "vier")]
    assert counts == {"invalid_utf8": 1}


@pytest.mark.parametrize(("start", "kind"), [(b"\x1f\x8b", "gzip (.gz)"), (b"\x28\xb5\x2f\xfd", "zstd (.zst)")])
def test_files_of_another_kind_are_recognised(tmp_path: Path, start: bytes, kind: str) -> None:
    path = write(tmp_path / "a.jsonl", start + b"abc\n")
    assert f"; the file looks like {kind}" in message(MalformedPairError, path=path)


def test_parquet_rows_that_are_no_pair(tmp_path: Path) -> None:
    broken = pa.array([b"ok", b"a\xff", b"ok", b"ok"]).view(pa.string())
    pq.write_table(pa.table({"src": broken, "tgt": ["b", "c", None, "d"]}), tmp_path / "a.parquet")
    path = str(tmp_path / "a.parquet")
    assert f"{path}, row 2: the source text is not valid UTF-8 from its byte 2 on" in message(
        MalformedPairError, path=path
    )
    assert skipped(path=path) == ([("ok", "b"), ("ok", "d")], {"invalid_utf8": 1, "missing_text": 1})
    pq.write_table(pa.table({"src": ["a"], "tgt": pa.array([None], pa.string())}), tmp_path / "a.parquet")
    assert f"{path}, row 1: the target text is null" in message(MalformedPairError, path=path)


def test_rows_with_other_numbers_of_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "src\ttgt\na\tb\nc\nd\te\tf\ng\th\n")
    said = f"{path}, line 3: each line must have 2 columns, like the first line, but this line has 1."
    assert said in message(MalformedPairError, path=path)
    assert skipped(path=path) == ([("a", "b"), ("g", "h")], {"wrong_column_count": 2})


def test_csv_that_cannot_be_parsed_stops_whatever_on_error_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'src,tgt\na,b\n"c,d\ne,f\n')
    for on_error in ("raise", "skip"):
        text = message(MalformedPairError, path=path, on_error=on_error)
        assert f"{path}, line 3: the line is not valid CSV: a field begins with a quote that is never closed" in text
        assert "rename the file to .tsv if tabs separate its columns" in text


def test_nothing_left_is_said_with_what_was_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"src": "a", "tgt": 1}\n{"src": null, "tgt": "b"}\n')
    text = message(path=path, on_error="skip")
    assert f"{path} has no pair of texts (left out: not_text 1, missing_text 1)" in text


# Files that cannot be read


def test_a_missing_file_says_what_is_close(tmp_path: Path) -> None:
    write(tmp_path / "corpus.jsonl.gz", b"x")
    write(tmp_path / "readme", b"x")
    text = message(path=tmp_path / "corpus.jsonl")
    assert f"there is no file {tmp_path / 'corpus.jsonl'}. Similar names in {tmp_path}: corpus.jsonl.gz." in text
    assert "downloader.path=FILE" in text
    assert "has no file with a similar name" in message(path=tmp_path / "zzz.tsv")
    assert f"Its folder {tmp_path / 'no'} does not exist either." in message(path=tmp_path / "no" / "a.tsv")
    text = message(path={"train": tmp_path / "zzz.tsv"})
    assert "downloader.path.train=FILE" in text


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path / "corpus.en", "text")
    text = message(source_path=tmp_path, target_path=tmp_path)
    assert f"{tmp_path} is a folder, but the language of its files is unknown" in text
    assert f"'downloader.source_path={tmp_path}/*.en'" in text


def test_an_unknown_ending_lists_those_known(tmp_path: Path) -> None:
    text = message(path=write(tmp_path / "a.txt", "text"))
    assert ".csv, .parquet, .tmx, .xlf, .xliff, .po, .mo, .zip, each optionally followed by .gz or .zst" in text
    assert "downloader.source_path=FILE downloader.target_path=FILE" in text


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    assert f"a{suffix} is empty: 0 bytes" in message(path=write(tmp_path / f"a{suffix}", b""))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.jsonl", b"\n \n", "has no line with a JSON object"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0), "has no line with a JSON object"),
        ("a.tsv", b"\n", "has no line with text"),
        ("a.tsv", b"src\ttgt\n", "has no pair of texts"),
        ("a.csv", b"src,tgt\n", "has no pair of texts"),
        ("a.parquet", parquet([]), "has no pair of texts"),
    ],
)
def test_a_file_without_pairs(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    assert said in message(path=write(tmp_path / name, data))


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("compression", [".gz", ".zst"])
@pytest.mark.parametrize("suffix", FORMATS)
def test_an_archive_cut_short_always_stops(tmp_path: Path, suffix: str, compression: str, on_error: str) -> None:
    whole = COMPRESSIONS[compression](FORMATS[suffix]([(f"s{i}", f"t{i}") for i in range(5000)]))
    path = write(tmp_path / f"a{suffix}{compression}", whole[: len(whole) // 2])
    text = message(path=path, on_error=on_error)
    assert (
        f"{path} is not a complete {'gzip' if compression == '.gz' else 'zstd'} file: it ends too early or is damaged"
        in text
    )
    assert "copy or download the file again" in text


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_a_file_that_is_no_archive(tmp_path: Path, compression: str) -> None:
    path = write(tmp_path / f"a.jsonl{compression}", jsonl(PAIRS))
    assert f"{path} is not a complete " in message(path=path)


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    data = gzip.compress(jsonl(PAIRS[:2])) + gzip.compress(jsonl(PAIRS[2:]))
    assert pairs_of(LocalDownloader(path=write(tmp_path / "a.jsonl.gz", data))) == PAIRS


@pytest.mark.parametrize("data", [b"PAR1 text", jsonl(PAIRS), parquet(PAIRS)[:-20]])
def test_parquet_that_is_no_parquet(tmp_path: Path, data: bytes) -> None:
    path = write(tmp_path / "a.parquet", data)
    assert f"{path} is not a valid Parquet file" in message(path=path)


def test_the_row_groups_of_parquet_that_were_read_take_no_memory(tmp_path: Path) -> None:
    rng, num_groups, length = random.Random(0), 12, 30
    with pq.ParquetWriter(tmp_path / "a.parquet", PAIR_SCHEMA, use_dictionary=False) as writer:
        for _ in range(num_groups):
            text = rng.randbytes(ROWS_PER_BATCH * length // 2).hex()  # which compresses to half at best
            texts = [text[start : start + length] for start in range(0, len(text), length)]
            writer.write_batch(pa.record_batch([texts, texts[::-1]], schema=PAIR_SCHEMA))
    group_bytes = 2 * length * ROWS_PER_BATCH
    assert (tmp_path / "a.parquet").stat().st_size > num_groups * group_bytes / 2
    before, held = pa.total_allocated_bytes(), []
    for batch in LocalDownloader(path=tmp_path / "a.parquet").batches("train", {}):
        del batch
        held.append(pa.total_allocated_bytes() - before)
    assert len(held) >= num_groups
    assert max(held) < 6 * group_bytes


def test_a_flipped_bit_in_parquet_with_checksums_is_noticed(tmp_path: Path) -> None:
    data = bytearray(parquet([("abcdefgh", "ijklmnop")]))
    data[data.index(b"abcdefgh")] ^= 1
    assert "is not a valid Parquet file" in message(path=write(tmp_path / "a.parquet", bytes(data)))


@pytest.mark.parametrize("n", [None, 1])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_unequal_line_counts_always_stop_with_both_counts(tmp_path: Path, on_error: str, n: int | None) -> None:
    one = write(tmp_path / "a.en", "1\n2\n3\n")
    two = write(tmp_path / "a.de", "1\n2\n3\n4\n5")
    text = message(source_path=one, target_path=two, on_error=on_error, n=n)
    assert f"{one} has 3 and {two} has 5" in text
    assert "has 5 and" in message(source_path=two, target_path=one, on_error=on_error, n=n)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS))

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pa, "OSFile", refuse)
    assert f"{path} cannot be read: Permission denied" in message(path=path)


# Columns that are not there


@pytest.mark.parametrize(("suffix", "where"), [(".jsonl", ", line 1"), (".tsv", ", line 1"), (".parquet", "")])
def test_missing_columns_list_those_present(tmp_path: Path, suffix: str, where: str) -> None:
    path = tmp_path / f"a{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": ["a"], "label": ["b"]}), path)
    else:
        write(path, '{"text": "a", "label": "b"}\n' if suffix == ".jsonl" else "text\tlabel\na\tb\n")
    text = message(path=path)
    assert f"{path}{where}: no two text columns were found; present: text, label." in text
    assert ("set downloader.header=false" in text) == (suffix == ".tsv")
    text = message(path=path, source_column="txt", target_column="label")
    assert f"{path}{where}: there is no column 'txt'; present: text, label." in text
    assert "downloader.source_column=NAME" in text
    assert "downloader.target_column is not set" in message(path=path, source_column="text")
    assert "but both are 'text'" in message(path=path, source_column="text", target_column="text")


def test_two_columns_of_one_name(tmp_path: Path) -> None:
    assert "2 columns are called 'src'" in message(path=write(tmp_path / "a.tsv", "src\tsrc\ttgt\na\tb\tc\n"))


def test_a_header_that_is_no_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", b"src\ttgt\xff\na\tb\n")
    assert f"{path}, line 1: byte 4 of the line" in message(MalformedPairError, path=path)


def test_a_file_of_one_column_without_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "one\ntwo\n")
    assert "no two text columns were found; present: 1." in message(path=path, header=False)


def test_wrong_languages_list_those_present(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "de": "b", "fr": "c"}}')
    text = message(path=path, source_language="nl", target_language="de")
    assert "'translation' has no language 'nl'; present: de, en, fr. Choose one" in text
    assert "downloader.source_language=NAME" in text
    text = message(path=path, source_language="en")
    assert "two languages are needed, but 'translation' has en, de, fr. Choose two with" in text
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a"}}')
    assert "two languages are needed, but 'translation' has en." in message(path=path)


def test_a_parquet_column_that_holds_no_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"src": ["a"], "tgt": [1]}), tmp_path / "a.parquet")
    text = message(path=tmp_path / "a.parquet")
    assert "the target column must contain text, but has the type int64" in text
    assert "downloader.target_column=NAME" in text


# Options


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({}, "none of them"),
        ({"path": "a", "source_path": "b"}, "path, source_path"),
        ({"path": "a", "source_path": "b", "target_path": "c"}, "path, source_path, target_path"),
        ({"source_path": "b"}, "source_path"),
    ],
)
def test_path_or_both_others_and_nothing_else(options: dict[str, str], given: str) -> None:
    with pytest.raises(ConfigError, match=f"downloader.package=NAME, and nothing else of these; set: {given}$"):
        LocalDownloader(**options)  # type: ignore[arg-type]


def test_a_path_is_a_text() -> None:
    with pytest.raises(
        ConfigError,
        match=r"downloader.path is the path of a file, .*, or paths for each split, or null, but is 5",
    ):
        LocalDownloader(path=5)  # type: ignore[arg-type]


def test_splits_are_those_there_are_with_train() -> None:
    with pytest.raises(
        ConfigError, match="a path, or paths for the splits train, validation, test, including train, but it has 'dev'"
    ):
        LocalDownloader(path={"train": "a.tsv", "dev": "b.tsv"})
    with pytest.raises(ConfigError, match=r"downloader.path must be a path, .* but train is missing"):
        LocalDownloader(path={"test": "b.tsv"})
    with pytest.raises(ConfigError, match="must have the same splits, but have train, test and train"):
        LocalDownloader(source_path={"train": "a", "test": "b"}, target_path="c")


def test_a_split_without_a_file(tmp_path: Path) -> None:
    downloader = LocalDownloader(path=write(tmp_path / "a.jsonl", jsonl(PAIRS)))
    with pytest.raises(SourceError, match=re.escape("there is no file for the split 'test'; present: train")):
        list(downloader.batches("test", {}))


def test_n_is_at_least_one() -> None:
    with pytest.raises(ConfigError, match=r"downloader.n is an integer of at least 1, or null, but is 0"):
        LocalDownloader(path="a.tsv", n=0)


def test_on_error_lists_its_choices() -> None:
    with pytest.raises(ConfigError, match=r"downloader.on_error is one of skip, raise, but is 'skp'"):
        LocalDownloader(path="a.tsv", on_error="skp")  # type: ignore[arg-type]
