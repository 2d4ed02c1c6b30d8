"""The file and line of a row: counted off again, past blank, refused and folded lines."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.row_origin import row_origin


def origins(tmp_path: Path, **options: Any) -> list[Any]:
    """Return file names, unit and number of each row, after a check that the text in that line is that of the row."""
    downloader = LocalDownloader(on_error="skip", **options)
    rows = [pair for batch in downloader.batches("train", {}) for pair in batch.to_pylist()]
    found = []
    for number in range(len(rows)):
        origin = row_origin(downloader, "train", number)
        assert origin is not None
        name = Path(origin.files[0])
        if origin.unit == "line":
            content = gzip.decompress(name.read_bytes()) if name.suffix == ".gz" else name.read_bytes()
            assert rows[number]["src"].encode() in content.split(b"\n")[origin.number - 1]
        found.append(("+".join(Path(path).name for path in origin.files), origin.unit, origin.number))
    assert row_origin(downloader, "train", len(rows) + 10) is None
    return found


def test_json_lines_past_blank_and_refused_lines_of_several_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"src": "a", "tgt": "b"}\n\n{"src": 3}\n  \n{"src": "c", "tgt": "d"}')
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'no\n{"src": "e", "tgt": "f"}\n'))
    assert origins(tmp_path, path=str(tmp_path)) == [
        ("a.jsonl", "line", 1),
        ("a.jsonl", "line", 5),
        ("b.jsonl.gz", "line", 2),
    ]


def test_tables_with_and_without_header_and_fields_of_several_lines(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("src\ttgt\na\tb\n\nx\nc\td\n")
    assert origins(tmp_path, path=str(tmp_path / "a.tsv")) == [("a.tsv", "line", 2), ("a.tsv", "line", 5)]
    (tmp_path / "b.csv").write_text('a,"b\nb"\nc,d\n')
    assert origins(tmp_path, path=str(tmp_path / "b.csv"), header=False) == [("b.csv", "line", 1), ("b.csv", "line", 3)]


def test_line_aligned_files(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_bytes(b"a\n\xff\n\nb")
    (tmp_path / "a.de").write_bytes(b"c\nd\n\ne")
    paths = {"source_path": str(tmp_path / "a.en"), "target_path": str(tmp_path / "a.de")}
    assert origins(tmp_path, **paths) == [("a.en+a.de", "line", number) for number in (1, 3, 4)]


def test_formats_whose_pairs_are_no_lines_count_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.po").write_text(
        'msgid ""\nmsgstr "Language: de\\n"\n\nmsgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "d"\n'
    )
    assert origins(tmp_path, path=str(tmp_path / "a.po")) == [("a.po", "pair", 1), ("a.po", "pair", 2)]


def test_the_first_rows_of_a_corpus_that_is_cut(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("src\ttgt\n" + "a\tb\n" * 5)
    assert origins(tmp_path, path=str(tmp_path / "a.tsv"), n=2)[-1] == ("a.tsv", "line", 3)


@pytest.mark.parametrize("row", [0, 1])
def test_rows_of_a_split_of_its_own(tmp_path: Path, row: int) -> None:
    for name in ("train", "validation"):
        (tmp_path / f"{name}.tsv").write_text("src\ttgt\na\tb\nc\td\n")
    paths = {name: str(tmp_path / f"{name}.tsv") for name in ("train", "validation")}
    origin = row_origin(LocalDownloader(path=paths), "validation", row)
    assert origin is not None
    assert (Path(origin.files[0]).name, origin.number) == ("validation.tsv", row + 2)
