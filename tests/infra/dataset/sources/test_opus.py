"""OPUS archives: which members are the texts, and archives that are damaged or made to harm."""

import gzip
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mtx.errors import MalformedPairError, SourceError
from mtx.infra.dataset.sources import local_files
from mtx.infra.dataset.sources.local import LocalDownloader

MEMBERS = {
    "README": "About.",
    "LICENSE": "Free.",
    "Bible.de-en.de": "eins\n\ndrei\u2028!\r\n",
    "Bible.de-en.en": "one\ntwo\nthree",
    "Bible.de-en.xml": "<x/>",
    "Bible.de-en.ids": "1\n2\n3\n",
}
PAIRS = [("eins", "one"), ("", "two"), ("drei\u2028!", "three")]


def archive(path: Path, members: dict[str, str] | list[tuple[str, str]], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as made:
        for name, text in members.items() if isinstance(members, dict) else members:
            made.writestr(name, text)
    return path


def pairs_of(path: Path, **options: Any) -> list[tuple[str, str]]:
    return [(row["src"], row["tgt"]) for row in LocalDownloader(path=path, **options).download()]


def message(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as raised:
        pairs_of(path, **options)
    return str(raised.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_two_texts_are_found_and_nothing_is_unpacked(tmp_path: Path, method: int) -> None:
    path = archive(tmp_path / "de-en.txt.zip", MEMBERS, method)
    downloader = LocalDownloader(path=path)
    assert pairs_of(path) == PAIRS
    assert (downloader.info().languages, downloader.info().name) == (("de", "en"), "de-en.txt")
    assert pairs_of(path, n=2) == PAIRS[:2]
    assert pairs_of(path, source_language="en") == [(target, source) for source, target in PAIRS]
    assert [entry.name for entry in tmp_path.iterdir()] == ["de-en.txt.zip"]


def test_texts_without_the_pair_in_their_names_are_found_by_the_languages(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"x/corpus.en": "one\n", "x/corpus.de": "eins\n", "x/": ""})
    assert pairs_of(path, source_language="en", target_language="de") == [("one", "eins")]
    text = message(path)
    assert "the archive must have two line-aligned texts" in text
    assert "but the archive has x/corpus.de, x/corpus.en. Choose the texts with downloader.source_language=NAME" in text


def test_several_pairs_of_languages_are_listed(tmp_path: Path) -> None:
    more = {"Bible.en-fr.en": "one\n", "Bible.en-fr.fr": "un\n"}
    path = archive(tmp_path / "a.zip", MEMBERS | more)
    said = "the archive has several: Bible.de-en.de with Bible.de-en.en, Bible.en-fr.en with Bible.en-fr.fr"
    assert said in message(path)
    assert pairs_of(path, target_language="fr") == [("one", "un")]


def test_unequal_lengths_are_told_by_member(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", MEMBERS | {"Bible.de-en.en": "one\n"})
    for n in (None, 1):
        text = message(path, n=n)
        assert f"Bible.de-en.de in {path} has 3 and Bible.de-en.en in {path} has 1" in text


def test_lines_that_are_no_utf8_are_told_by_member(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", MEMBERS)
    with zipfile.ZipFile(path, "w") as made:
        made.writestr("a.de-en.de", b"eins\nzw\xe4i\n")
        made.writestr("a.de-en.en", b"one\ntwo\n")
    with pytest.raises(
        MalformedPairError, match=r"a\.de-en\.de in .*a\.zip, line 2: byte 3 of the line .* is not valid UTF-8"
    ):
        pairs_of(path)
    assert pairs_of(path, on_error="skip") == [("eins", "one")]


def test_an_archive_within_gzip_is_read(tmp_path: Path) -> None:
    packed = tmp_path / "b.zip.gz"
    packed.write_bytes(gzip.compress(archive(tmp_path / "a.zip", MEMBERS).read_bytes()))
    assert pairs_of(packed) == PAIRS


# Damage and harm


def test_a_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", MEMBERS, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(b"three")] ^= 1
    path.write_bytes(data)
    assert f"{path} is not a zip archive that mtx can read: its archive is damaged" in message(path)


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.99])
def test_an_archive_cut_short(tmp_path: Path, keep: float) -> None:
    data = archive(tmp_path / "a.zip", MEMBERS).read_bytes()
    (tmp_path / "a.zip").write_bytes(data[: int(len(data) * keep)])
    assert "is not a zip archive that mtx can read: " in message(tmp_path / "a.zip")


@pytest.mark.parametrize("offset_of_end", [8, 10])
def test_members_that_are_damaged_or_packed_unusually(tmp_path: Path, offset_of_end: int) -> None:
    path = archive(tmp_path / "a.zip", MEMBERS)
    data = bytearray(path.read_bytes())
    start = data.index(b"PK\x01\x02")
    while start >= 0:  # flags (8) or method (10) of each entry of the directory
        data[start + offset_of_end : start + offset_of_end + 2] = struct.pack("<H", 1 if offset_of_end == 8 else 98)
        start = data.find(b"PK\x01\x02", start + 4)
    path.write_bytes(data)
    text = message(path)
    assert ("is encrypted, and mtx cannot decrypt archives" in text) == (offset_of_end == 8)
    assert ("it uses a feature that is not supported" in text) == (offset_of_end == 10)


@pytest.mark.parametrize("folder", ["../", "/etc/", "a/../../", "..\\", "\x1b[2J"])
def test_members_with_names_that_lead_out_are_not_trusted(tmp_path: Path, folder: str) -> None:
    path = archive(tmp_path / "a.zip", {f"{folder}x.de-en.{language}": "text\n" for language in ("de", "en")})
    text = message(path)
    assert "is not safe to read: " in text
    assert "has a name that leads out of the archive or cannot be printed" in text
    assert "\x1b" not in text


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_members_of_one_name_are_not_trusted(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", [*MEMBERS.items(), ("Bible.de-en.en", "other\n\n\n")])
    assert "'Bible.de-en.en' occurs more than once" in message(path)


def test_a_member_that_fills_the_disk_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = archive(tmp_path / "a.zip", {"x.de-en.de": "\n" * 300_000, "x.de-en.en": "\n" * 300_000})
    assert len(pairs_of(path)) == 300_000
    monkeypatch.setattr(local_files, "UNCHECKED_BYTES", 100_000)
    text = message(path)
    assert "has 300,000 bytes compressed to " in text
    assert "a ratio above 200, so it cannot be text" in text


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_files, "MAX_LINE_BYTES", 5 << 20)
    path = archive(tmp_path / "a.zip", {"x.de-en.de": "x" * (12 << 20), "x.de-en.en": "x\n"})
    assert "x.de-en.de in" in (text := message(path))
    assert "has a line longer than 5 MB, which is the maximum" in text


def test_an_archive_without_files(tmp_path: Path) -> None:
    assert "a.zip has no file in it" in message(archive(tmp_path / "a.zip", {}))


@pytest.mark.parametrize(
    "others",
    [
        ["__MACOSX/._x.de-en.de", "__MACOSX/._x.de-en.en", "__MACOSX/._.DS_Store", ".DS_Store"],
        ["._x.de-en.de", "._x.de-en.en"],
        ["__MACOSX/x.de-en.de", "__MACOSX/x.de-en.en"],
        ["folder/.git/x.de-en.de", "folder/.git/x.de-en.en"],
        ["Thumbs.db", "desktop.ini", "folder/", "folder/.DS_Store"],
    ],
)
@pytest.mark.parametrize("folder", ["", "corpus/"])
def test_what_an_operating_system_adds_is_passed_over(tmp_path: Path, others: list[str], folder: str) -> None:
    texts = {f"{folder}x.de-en.{language}": f"{language} 1\n{language} 2\n" for language in ("de", "en")}
    path = archive(tmp_path / "a.zip", dict.fromkeys(others, "\0\5\x16\7Mac OS X\n") | texts)
    rows = list(LocalDownloader(path=path).download())
    assert [(row["src"], row["tgt"]) for row in rows] == [("de 1", "en 1"), ("de 2", "en 2")]


def test_an_archive_with_hidden_files_alone_has_none(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"__MACOSX/._x.de-en.de": "\0", "__MACOSX/._x.de-en.en": "\0"})
    assert "has no file in it" in message(path)
