"""Files as people have them: odd names, long fields, headers, first lines that are no pair, repeated columns."""

import csv
import gzip
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import Mtx

from mtx.assumption_log import collected_assumptions
from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.sources import delimited
from mtx.infra.dataset.sources.local import LocalDownloader

TSV = b"src\ttgt\nlamp\tLampe\n"


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def read(path: Path, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    counts: dict[str, int] = {}
    batches = LocalDownloader(path=path, **options).batches("train", counts)
    return [(row["src"], row["tgt"]) for batch in batches for row in batch.to_pylist()], counts


def parquet(names: list[str]) -> bytes:
    made = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_arrays([pa.array([name]) for name in names], names), made)
    return bytes(made.getvalue())


# Names


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"gr\xfcn.tsv", TSV),
        (b"gr\xfcn.tsv.gz", gzip.compress(TSV, mtime=0)),
        (b"\xff\xfe.csv", TSV.replace(b"\t", b",")),
        (b"gr\xfcn.parquet", parquet(["src", "tgt"])),
        (b"gr\xfcn/lamps.jsonl", b'{"src": "src", "tgt": "tgt"}\n'),
        (b"gr\xfcn.de.po", b'msgid "src"\nmsgstr "tgt"\n'),
        (b"gr\xfcn.tmx", b'<tmx><tu><tuv lang="a"><seg>x</seg></tuv><tuv lang="b"><seg>y</seg></tuv></tu></tmx>'),
    ],
)
def test_names_that_are_not_utf8_are_read(tmp_path: Path, name: bytes, data: bytes) -> None:
    path = write(tmp_path / os.fsdecode(name), data)
    for place in (path, tmp_path):
        assert len(read(place)[0]) == 1
        LocalDownloader(path=place).info().name.encode()  # can be stored and printed
    empty = write(path, b"")
    with pytest.raises(SourceError) as raised:
        read(empty)
    assert r"\xfc" in str(raised.value) or r"\xff" in str(raised.value)
    str(raised.value).encode()


def test_line_aligned_files_with_names_that_are_not_utf8(tmp_path: Path) -> None:
    paths = [write(tmp_path / os.fsdecode(b"gr\xfcn." + language), language) for language in (b"de", b"en")]
    found = LocalDownloader(source_path=paths[0], target_path=paths[1])
    assert [(row["src"], row["tgt"]) for row in found.download()] == [("de", "en")]
    assert (found.info().name, found.info().languages) == (r"gr\xfcn", ("de", "en"))


def test_a_command_reads_a_name_that_is_not_utf8(mtx: Mtx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write(
        tmp_path / os.fsdecode(b"gr\xfcn.tsv"), b"src\ttgt\n" + b"".join(b"%d\tx%d\n" % (i, i) for i in range(9))
    )
    options = ["task=prepare", "downloader=local", "filter=none", "tokenizer=byte", "datamodule.test=null"]
    found = mtx(*options, f"downloader.path='{path}'", "datamodule.validation=null")
    assert found.code == 0, found.err
    assert found.report["name"] == r"gr\xfcn"


# CSV


@pytest.mark.parametrize("on_error", ["raise", "skip"])
@pytest.mark.parametrize("num_chars", [131_072, 131_073, 150_000])
@pytest.mark.parametrize("form", ["x", '"{}"', '"{}\n{}"'])
def test_long_fields_are_read(tmp_path: Path, on_error: str, num_chars: int, form: str) -> None:
    csv.field_size_limit(131_072)  # as in a new process
    text = "é" * num_chars
    path = write(tmp_path / "a.csv", f"src,tgt\na,b\n{form.replace('{}', text) if '{' in form else text},c\nd,e\n")
    pairs, counts = read(path, on_error=on_error)
    assert [len(source) for source, _ in pairs] == [1, num_chars * max(form.count("{}"), 1) + form.count("\n"), 1]
    assert counts == {}


def test_a_field_beyond_the_limit_and_other_faults_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delimited, "MAX_FIELD_CHARS", 1_000)
    for line, said in (
        ("x" * 1_001 + ",b", "a field has more than 1,000 characters; perhaps a quote is never closed"),
        ('"a,b', "a field begins with a quote that is never closed"),
        ('"a"x,b', "text follows the quote that ends a field"),
    ):
        path = write(tmp_path / "a.csv", f"src,tgt\n{line}\n")
        with pytest.raises(MalformedPairError) as raised:
            read(path, on_error="skip")
        assert f"{path}, line 2: the line is not valid CSV: {said}. A field with quotes" in str(raised.value)


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_line_ends_may_be_mixed_and_the_last_may_be_missing(tmp_path: Path, end: str, mark: bytes, ending: str) -> None:
    lines = ["src,tgt\r\n", "a,b\n", "c\rd,e\r\n", "f,g\n", "\r\n", f"h,i{end}"]
    comma = "," if ending == "csv" else "\t"
    path = write(tmp_path / f"a.{ending}", mark + "".join(lines).replace(",", comma).encode())
    last = "i\r" if (ending, end) == ("tsv", "\r") else "i"  # CSV takes a CR at the very end for a line end
    assert read(path) == ([("a", "b"), ("c\rd", "e"), ("f", "g"), ("h", last)], {})


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_mixed_line_ends_of_other_formats(tmp_path: Path, end: str, mark: bytes) -> None:
    lines = ['{"src": "a", "tgt": "b"}\r\n', '{"src": "c", "tgt": "d"}\n', "\r\n", '{"src": "e", "tgt": "f"}' + end]
    expected = [("a", "b"), ("c", "d"), ("e", "f")]
    assert read(write(tmp_path / "a.jsonl", mark + "".join(lines).encode())) == (expected, {})
    po = ['msgid "a"\r\n', 'msgstr "b"\n', "\r\n", 'msgid "c"\r\n', 'msgstr "d"\r\n', "\n", 'msgid "e"\n']
    data = mark + "".join([*po, f'msgstr "f"{end}']).encode()
    assert read(write(tmp_path / "de.po", data)) == (expected, {})
    for language in ("de", "en"):
        write(tmp_path / f"a.{language}", mark + f"1\r\n2\n\r\n3{end}".encode())
    found = LocalDownloader(source_path=tmp_path / "a.de", target_path=tmp_path / "a.en").download()
    assert [row["src"] for row in found] == ["1", "2", "", "3"]


# Headers


@pytest.mark.parametrize(
    ("head", "is_told"),
    [
        ("src\ttgt", True),
        ("Source\tTarget", True),
        ("en\tde_AT", True),
        ("German\tEnglish", True),
        ("target\tsource\tscore", True),
        ("\ufeffsrc\ttgt", True),
        ("The lamp.\tDie Lampe.", False),
        ("src\tDie Lampe.", False),
    ],
)
def test_a_header_that_is_read_as_a_pair_is_told(tmp_path: Path, head: str, is_told: bool) -> None:
    rest = "\tx" * (head.count("\t") - 1)
    path = write(tmp_path / "a.tsv", f"{head}\na\tb{rest}\n")
    with collected_assumptions() as assumed:
        assert len(read(path, header=False)[0]) == 2
    assert any("look like names" in what for what in assumed) is is_told
    if is_told:
        assert "because downloader.header=false, though they look like names of columns" in assumed[-1]
        assert "set downloader.header=true" in assumed[-1]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"src;tgt", "The columns seem to be separated by semicolons, not by commas as in CSV"),
        (b"src\ttgt", "separated by tabs (rename the file to .tsv)"),
        (b"src|tgt", "separated by vertical bars"),
        (
            b"qu\xe4lle,tgt",
            "byte 3 of the line (0xe4) is not valid UTF-8. If the whole file has another encoding, conv",
        ),
    ],
)
def test_a_first_line_of_another_kind_of_table_is_told(tmp_path: Path, head: bytes, said: str) -> None:
    with pytest.raises(SourceError) as raised:
        read(write(tmp_path / "a.csv", head + b"\na,b\n"))
    assert said in str(raised.value)


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl"])
@pytest.mark.parametrize(
    ("codec", "told"),
    [
        ("utf-16", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("utf-16-be", "UTF-16BE"),
        ("utf-16-le", "UTF-16LE"),
        ("utf-32-be", "UTF-32BE"),
        ("utf-32-le", "UTF-32LE"),
    ],
)
def test_a_file_in_utf_16_or_utf_32_is_told_with_the_command_that_converts_it(
    tmp_path: Path, ending: str, codec: str, told: str
) -> None:
    separator = "," if ending == ".csv" else "\t"
    text = '{"src": "ä", "tgt": "b"}\n' if ending == ".jsonl" else f"src{separator}tgt\n\u65e5\u672c{separator}Grün\n"
    path = write(tmp_path / f"a{ending}", text.encode(codec))
    for on_error in ("raise", "skip"):
        with pytest.raises(SourceError) as raised:
            read(path, on_error=on_error)
        assert f"is in {told}, but mtx reads UTF-8. Convert the file with `iconv -f {told} -t UTF-8" in str(
            raised.value
        )


@pytest.mark.parametrize("head", ["a\0b\tc", "\0\0\0\tx", "\0\tb\0", "日本\t語"])
def test_texts_with_zero_characters_are_texts(tmp_path: Path, head: str) -> None:
    path = write(tmp_path / "a.tsv", f"src\ttgt\n{head}\n")
    assert read(path)[0] == [tuple(head.split("\t"))]


def test_carriage_returns_among_other_line_ends_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "\ufeffsrc\ttgt\r\na\tb\nc\td\re\tf\rg\th")
    with pytest.raises(SourceError) as raised:
        read(path)
    assert r"has 4 and carriage returns (\r), which end no line, because other lines end with \n. Convert" in str(
        raised.value
    )
    assert read(path, on_error="skip")[0] == [("a", "b")]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.tsv.xz", "Convert the file with `xz -dk "),
        ("a.tar.xz", "Convert the file with `tar -xf "),
        ("a b.json", "Convert the file with `jq -c '.[]' '"),
        ("A.RAR", "Convert the file with `unrar x "),
        ("a.doc", ". Set downloader.path to another file"),
    ],
)
def test_a_file_of_an_unknown_kind_is_told_with_the_command_that_converts_it(
    tmp_path: Path, name: str, told: str
) -> None:
    with pytest.raises(SourceError) as raised:
        read(write(tmp_path / name, TSV))
    assert told in str(raised.value)


def test_names_of_columns_are_an_assumption_once(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write(tmp_path / f"{name}.tsv", TSV)
    with collected_assumptions() as assumed:
        assert len(read(tmp_path)[0]) == 3
        assert len(read(tmp_path / "a.tsv", source_column="src", target_column="tgt")[0]) == 1
    assert len(assumed) == 1
    assert "the first line of TSV files has the names of the columns, such as 'src' and 'tgt'" in assumed[0]


# JSON Lines


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        ('{"corpus": "lamps", "version": 2}', "missing_text"),
        ('{"src": "no target"}', "missing_text"),
        ("{}", "missing_text"),
        ('{"translation": {}}', "missing_text"),
        ('{"translation": {"en": "a"}}', "missing_text"),
        ('{"translation": null}', "missing_text"),
        ("null", "not_an_object"),
        ("[1, 2]", "not_an_object"),
        ("# comment", "malformed_json"),
        ('{"src": 1, "tgt": 2}', "not_text"),
    ],
)
@pytest.mark.parametrize("times", [1, 3])
def test_first_lines_that_are_no_pair_are_left_out(tmp_path: Path, first: str, reason: str, times: int) -> None:
    path = write(tmp_path / "a.jsonl", f"{first}\n" * times + '{"src": "a", "tgt": "b"}\n' * 2)
    assert read(path, on_error="skip") == ([("a", "b")] * 2, {reason: times})
    with pytest.raises(SourceError, match=r"line 1.*set downloader\.on_error=skip"):
        read(path)


def test_a_file_without_a_pair_and_a_choice_of_languages_stay_errors(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", '{"a": "b"}\n{"c": "d"}\n')
    with pytest.raises(SourceError, match=r"line 1: no two text columns were found; present: a\."):
        read(path, on_error="skip")
    path = write(tmp_path / "a.jsonl", '{"translation": {"en": "a", "de": "b", "fr": "c"}}\n{"src": "a", "tgt": "b"}\n')
    with pytest.raises(SourceError, match="exactly two languages are needed"):
        read(path, on_error="skip")


# Repeated columns


@pytest.mark.parametrize(
    ("names", "columns", "repeated"),
    [
        (["src", "tgt", "src"], "none", "src"),
        (["src", "tgt", "tgt"], "none", "tgt"),
        (["en", "de", "de"], "none", "de"),
        (["src", "tgt", "score", "score"], "all", "score"),
        (["src", "tgt", "score", "score"], ["score"], "score"),
        (["source", "target", "source"], "all", "source"),
        (["src", "tgt", "score", "score"], "none", None),
        (["src", "tgt", "x", "score", "score"], ["x"], None),
        (["src", "tgt", "SRC"], "none", None),
    ],
)
def test_columns_of_the_same_name(tmp_path: Path, names: list[str], columns: Any, repeated: str | None) -> None:
    line = "\t".join(names)
    for path in (
        write(tmp_path / "a.parquet", parquet(names)),
        write(tmp_path / "a.tsv", f"{line}\n{line}\n"),
        write(tmp_path / "a.csv", f"{line}\n{line}\n".replace("\t", ",")),
    ):
        if repeated is None:
            assert read(path, columns=columns)[0] == [(names[0], names[1])]
            continue
        with pytest.raises(SourceError) as raised:
            read(path, columns=columns)
        assert f"2 columns are called {repeated!r}" in str(raised.value)
        assert "Give each column its own name" in str(raised.value)


def test_a_language_that_an_object_has_twice(tmp_path: Path) -> None:
    inner = pa.StructArray.from_arrays([pa.array(["a"]), pa.array(["b"]), pa.array(["c"])], ["en", "de", "en"])
    pq.write_table(pa.table({"translation": inner}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match="'translation' has a language more than once: en, de, en"):
        read(tmp_path / "a.parquet")
