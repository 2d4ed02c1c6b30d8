"""Many files as one corpus: folders, patterns, lists; what is passed over; and files that harm as they are read."""

import gzip
import json
import logging
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.errors import ConfigError, MalformedPairError, SourceError
from mtx.infra.dataset.sources import local_files as files_module
from mtx.infra.dataset.sources.local import LocalDownloader


def write(path: Path, data: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def jsonl(*sources: str) -> str:
    return "".join(json.dumps({"src": source, "tgt": source.upper()}) + "\n" for source in sources)


def sources_of(path: Any = None, **options: Any) -> list[str]:
    return [row["src"] for row in LocalDownloader(path=path, **options).download()]


def message(path: Any = None, error: type[SourceError] = SourceError, **options: Any) -> str:
    with pytest.raises(error) as raised:
        sources_of(path, **options)
    return str(raised.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files whose order by path is a, b, c, d, e, f."""
    write(tmp_path / "data" / "B" / "2.tsv", "src\ttgt\na\tA\n")
    write(tmp_path / "data" / "a" / "10.jsonl.gz", gzip.compress(jsonl("b").encode()))
    write(tmp_path / "data" / "a" / "9.csv", "src,tgt\nc,C\n")
    write(tmp_path / "data" / "a" / "9" / "x.ndjson", jsonl("z"))
    write(tmp_path / "data" / "a-z.jsonl", jsonl("e", "f"))
    write(tmp_path / "data" / ".hidden" / "x.jsonl", jsonl("no"))
    write(tmp_path / "data" / ".x.jsonl", jsonl("no"))
    return tmp_path / "data"


def test_a_folder_is_one_corpus_in_the_order_of_its_paths(folder: Path) -> None:
    # By the parts of the paths: "B" < "a" < "a-z.jsonl", and within a: "10.jsonl.gz" < "9" < "9.csv".
    assert sources_of(folder) == ["a", "b", "z", "c", "e", "f"]
    assert sources_of(folder, n=3) == ["a", "b", "z"]
    assert LocalDownloader(path=folder).info().name == "data"
    assert LocalDownloader(path=f"{folder}/").info().splits == ("train",)


def test_the_order_is_not_that_of_the_file_system(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sources_of(folder)
    identity = LocalDownloader(path=folder).info().identity
    walk = os.walk

    def shuffled(*args: Any, **kwargs: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        for root, folders, names in walk(*args, **kwargs):
            random.Random(1).shuffle(names)
            folders.reverse()
            yield root, folders, names

    monkeypatch.setattr(os, "walk", shuffled)
    assert sources_of(folder) == expected
    assert LocalDownloader(path=folder).info().identity == identity


def test_identity_is_that_of_the_contents_in_order(folder: Path, tmp_path: Path) -> None:
    files = [write(tmp_path / f"{name}.jsonl", jsonl(name)) for name in ("one", "two")]
    info = LocalDownloader(path=files).info()
    assert LocalDownloader(path=files[::-1]).info().revision != info.revision
    moved = [write(tmp_path / "other" / f"{number}.jsonl", file.read_bytes()) for number, file in enumerate(files)]
    assert LocalDownloader(path=moved[0].parent).info().identity == info.identity
    alone = LocalDownloader(path=files[0]).info().identity
    assert LocalDownloader(path=[files[0]]).info().identity == alone
    assert LocalDownloader(path=f"{tmp_path}/on*.jsonl").info().identity == alone


def test_patterns_and_lists(folder: Path) -> None:
    assert sources_of(f"{folder}/**/*.jsonl*") == ["b", "e", "f"]
    assert sources_of(f"{folder}/a*/*.[cj]s*") == ["b", "c"]
    assert sources_of([folder / "a-z.jsonl", f"{folder}/a/*.csv", str(folder / "B")]) == ["e", "f", "c", "a"]
    assert sources_of(f"{folder}/.*.jsonl") == ["no"]
    odd = write(folder / "[1].jsonl", jsonl("odd"))
    assert sources_of(odd) == ["odd"]  # a file of that name goes before the pattern


def test_each_split_may_be_any_of_these(folder: Path) -> None:
    downloader = LocalDownloader(
        path={"train": folder / "a", "test": [folder / "a-z.jsonl"], "validation": f"{folder}/*/2.*"}
    )
    assert downloader.info().splits == ("train", "validation", "test")
    assert [[row["src"] for row in downloader.download(split)] for split in ("train", "validation", "test")] == [
        ["b", "z", "c"],
        ["a"],
        ["e", "f"],
    ]


def test_text_files_match_pattern_by_pattern(tmp_path: Path) -> None:
    for name, text in {"1.en": "a\n", "2.en": "b\n", "1.de": "A\n", "2.de": "B\n"}.items():
        write(tmp_path / name, text)
    downloader = LocalDownloader(source_path=f"{tmp_path}/*.en", target_path=f"{tmp_path}/*.de")
    assert [tuple(row.values()) for row in downloader.download()] == [("a", "A"), ("b", "B")]
    assert downloader.info().languages == ("en", "de")
    write(tmp_path / "3.en", "c\n")
    text = message(source_path=f"{tmp_path}/*.en", target_path=f"{tmp_path}/*.de")
    assert "downloader.source_path and downloader.target_path must have the same number of files" in text
    assert "but have 3 files (1.en, 2.en, 3.en) and 2 (1.de, 2.de)" in text


def skipped_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the assumptions about skipped files. At most two others are about the names of the columns."""
    assert all(message.startswith("assumed: ") for message in caplog.messages)
    assert len(set(caplog.messages)) == len(caplog.messages)
    found = [message for message in caplog.messages if "skipped" in message]
    assert len(caplog.messages) - len(found) <= 2
    return found


def test_what_is_passed_over_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(7):
        write(folder / f"notes{number}.md", "x")
    write(folder / "a" / "empty.jsonl", "")
    (folder / "link.jsonl").symlink_to(folder / "nowhere")
    with caplog.at_level(logging.WARNING):
        assert sources_of(folder) == ["a", "b", "z", "c", "e", "f"]
    (said,) = skipped_of(caplog)
    assert "of the files of downloader.path, 5 are read and 9 skipped: " in said
    assert f"{folder}/a/empty.jsonl (empty), {folder}/link.jsonl (a broken link)" in said
    assert f"{folder}/notes0.md (unknown ending)" in said
    assert said.endswith(" and 4 more")


def test_files_without_rows_among_others_are_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(folder / "0.jsonl", "\n\n")
    with caplog.at_level(logging.WARNING):
        assert sources_of(folder) == ["a", "b", "z", "c", "e", "f"]
    assert skipped_of(caplog) == [
        f"assumed: the file is skipped, because {folder}/0.jsonl has no line with a JSON object"
    ]


def test_a_folder_or_pattern_without_a_file_to_read(tmp_path: Path) -> None:
    write(tmp_path / "x" / "readme.md", "x")
    text = message(tmp_path / "x")
    assert (
        f"the folder {tmp_path}/x has no file that mtx can read; found: {tmp_path}/x/readme.md (unknown ending). Known"
        in text
    )
    text = message(f"{tmp_path}/x/readme.*")
    assert f"the pattern {tmp_path}/x/readme.* has no file that mtx can read" in text
    text = message(f"{tmp_path}/x/read*.tsv")
    assert f"no file matches {tmp_path}/x/read*.tsv. Similar names in {tmp_path}/x: readme.md." in text
    assert "Set another pattern with downloader.path=PATTERN" in text
    assert f"Its folder {tmp_path}/y does not exist either." in message(f"{tmp_path}/y/*.tsv")


def test_a_pattern_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("Invalid pattern")  # what some versions of Python say to "**y"

    monkeypatch.setattr(Path, "glob", refuse)
    text = message(f"{tmp_path}/**y/a.tsv")
    assert (
        f"{tmp_path}/**y/a.tsv is not a valid pattern of paths: ** is a whole part of a path, as in corpus/**/*.tsv. "
        "Correct downloader.path=PATTERN" in text
    )


def test_a_pattern_that_python_refuses_for_another_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise ValueError("another reason")

    monkeypatch.setattr(Path, "glob", refuse)
    text = message(f"{tmp_path}/**/a*.tsv")
    assert "whole part" not in text
    assert f"{tmp_path}/**/a*.tsv is not a valid pattern of paths: " in text


def test_a_file_named_twice(folder: Path) -> None:
    (folder / "again.jsonl").symlink_to(folder / "a-z.jsonl")
    assert f"downloader.path lists {folder}/again.jsonl more than once" in message(
        [folder / "a-z.jsonl", folder / "again.jsonl"]
    )


def test_lists_hold_paths() -> None:
    paths = "the path of a file, a list of paths, or paths for each split"
    one_split = "downloader.path.train is the path of a file, or a list of paths, but is "
    cases: list[tuple[Any, str]] = [
        ([], f"downloader.path must be {paths}, but is []"),
        ([1], f"downloader.path is {paths}, or null, but is [1]"),
        ({"train": ["a", 5]}, f"{one_split}['a', 5]"),
        ({"train": {"train": "a"}}, f"{one_split}{{'train': 'a'}}"),
    ]
    for path, said in cases:
        with pytest.raises(ConfigError, match=re.escape(said)):
            LocalDownloader(path=path)


def test_a_folder_that_may_not_be_looked_into(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    assert f"{folder} cannot be read: Permission denied" in message(folder)


def test_links_to_folders_are_not_followed(folder: Path) -> None:
    (folder / "round").symlink_to(folder)
    assert sources_of(folder) == ["a", "b", "z", "c", "e", "f"]


def test_refusals_name_file_and_line(folder: Path) -> None:
    bad = write(folder / "a" / "8.jsonl", jsonl("x") + "no\n")
    assert message(folder, MalformedPairError).startswith(f"{bad}, line 2: the line is not valid JSON")
    counts: dict[str, int] = {}
    assert len(list(LocalDownloader(path=folder, on_error="skip").batches("train", counts))) == 1
    assert counts == {"malformed_json": 1}


def test_a_change_in_any_file_is_noticed(folder: Path) -> None:
    downloader = LocalDownloader(path=folder)
    downloader.info()
    write(folder / "a" / "9.csv", "src,tgt\nchanged,C\n")
    with pytest.raises(SourceError, match=r"9\.csv was changed while mtx read the file"):
        list(downloader.download())


# Several formats


TUVS = '<tuv xml:lang="en-US"><seg>t</seg></tuv><tuv xml:lang="de"><seg>T</seg></tuv>'
TMX = f"<tmx><header/><body><tu>{TUVS}</tu></body></tmx>"


def test_files_of_any_format_take_the_languages_that_one_tells(tmp_path: Path) -> None:
    write(tmp_path / "x" / "1.jsonl", jsonl("plain"))
    write(tmp_path / "x" / "2.jsonl", '{"translation": {"en": "o", "de": "O"}}')
    write(tmp_path / "x" / "3.jsonl", '{"translation": {"de": "P", "en": "p"}}')
    write(tmp_path / "x" / "4.tmx", TMX)
    write(tmp_path / "x" / "5.po", 'msgid "m"\nmsgstr "M"\n')
    pq.write_table(pa.table({"src": ["q"], "tgt": ["Q"]}), tmp_path / "x" / "6.parquet")
    downloader = LocalDownloader(path=tmp_path / "x")
    assert downloader.info().languages == ("en", "de")
    assert [tuple(row.values()) for row in downloader.download()] == [
        ("plain", "PLAIN"),
        ("o", "O"),
        ("p", "P"),
        ("t", "T"),
        ("m", "M"),
        ("q", "Q"),
    ]


def test_files_in_other_languages_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "x" / "1.tmx", TMX)
    french = write(tmp_path / "x" / "2.tmx", TMX.replace('"de"', '"fr"'))
    text = message(tmp_path / "x")
    assert f"{french}: there is no text in the language 'de'; present: en-US, fr" in text


# Files that harm


@pytest.mark.parametrize("ending", ["jsonl", "tsv", "csv", "po"])
def test_lines_that_end_with_carriage_returns_alone_are_told(tmp_path: Path, ending: str) -> None:
    data = {
        "po": 'msgid "a"\rmsgstr "b"\r',
        "jsonl": jsonl("a", "b"),
        "tsv": "src\ttgt\na\tb\n",
        "csv": "src,tgt\na,b\n",
    }
    path = write(tmp_path / f"a.{ending}", data[ending].replace("\n", "\r"))
    text = message(path, on_error="skip")
    assert f"{path} has carriage returns (\\r) instead of line ends (\\n)" in text
    assert "tr '\\r' '\\n' <old >new" in text
    other = write(tmp_path / "b.txt", "b\n")
    assert "carriage returns" in message(source_path=path, target_path=other)


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(files_module, "MAX_LINE_BYTES", 2 << 20)
    path = write(tmp_path / "a.jsonl", jsonl("x" * (1 << 20), "b"))
    assert len(sources_of(path)) == 2
    write(path, jsonl("x" * (3 << 20)))
    text = message(path, on_error="skip")
    assert f"{path} has a line longer than 2 MB, which is the maximum" in text


def test_what_fills_the_disk_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files_module, "UNCHECKED_BYTES", 1 << 20)
    path = write(tmp_path / "a.parquet.gz", gzip.compress(b"\0" * (10 << 20)))
    assert f"{path} gives more than 200 times its size, so the content cannot be text" in message(path)


def test_byte_order_marks_are_dropped_from_each_file(tmp_path: Path) -> None:
    make: dict[str, Callable[[str], str]] = {"jsonl": jsonl, "tsv": lambda text: f"src\ttgt\n{text}\tx\n"}
    for number, (ending, form) in enumerate(make.items()):
        write(tmp_path / "x" / f"{number}.{ending}", b"\xef\xbb\xbf" + form("a\ufeff").encode())
    assert sources_of(tmp_path / "x") == ["a\ufeff"] * 2
