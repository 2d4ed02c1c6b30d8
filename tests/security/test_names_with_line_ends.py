"""Names of files and options cannot write lines of their own into a message."""

from pathlib import Path
from typing import Any

import pytest

from mtx.errors import SourceError, choices
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.redaction_and_escaping import one_line

ENDS = ["\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\u2029"]


@pytest.mark.parametrize("end", ENDS)
def test_a_line_end_is_shown_as_an_escape(end: str) -> None:
    shown = one_line(f"train{end}mtx: all is well")
    assert len(shown.splitlines()) == 1
    assert shown.startswith("train\\")
    assert choices("a", [f"a{end}b"]) == one_line(f"a{end}b")


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("place", ["a similar name", "the name", "the folder", "an empty file", "in a folder"])
def test_messages_about_files_stay_on_their_line(tmp_path: Path, end: str, place: str) -> None:
    bad = f"train{end}mtx: all is well.jsonl"
    path = tmp_path / "trian.jsonl"
    if place == "a similar name":
        (tmp_path / bad).write_text('{"src": "a", "tgt": "b"}\n')
    elif place == "the name":
        path = tmp_path / bad
    elif place == "the folder":
        path = tmp_path / bad / "trian.jsonl"
    elif place == "an empty file":
        path = tmp_path / bad
        path.write_text("")
    else:
        (tmp_path / "in").mkdir()
        path = tmp_path / "in"
        (path / bad).write_text("")
    with pytest.raises(SourceError) as error:
        LocalDownloader(path=str(path)).info()
    assert not any(line.startswith("mtx: all is well") for line in str(error.value).splitlines())
    assert "mtx: all is well" in str(error.value) or place == "a similar name"


BROKEN: dict[str, tuple[bytes, dict[str, Any]]] = {
    ".csv": (b'src,tgt\n"a,b\n', {}),
    ".tsv": (b"src\ttgt\na\tb\tc\td\n", {}),
    ".jsonl": (b'{"src": "a", "tgt": 3}\n', {}),
    ".tmx": (b"<tmx", {}),
    ".xlf": (b"<xliff", {}),
    ".mo": (b"no catalogue", {"target_language": "de"}),
    ".zip": (b"no archive", {}),
    ".parquet": (b"PAR1", {}),
    ".jsonl.gz": (b"\x1f\x8b\x08", {}),
}


def read(source: LocalDownloader) -> None:
    source.info()
    list(source.batches("train", {}))


@pytest.mark.parametrize("ending", BROKEN)
@pytest.mark.parametrize("end", ["\n", "\u2028"])
def test_messages_of_readers_stay_on_their_line(tmp_path: Path, ending: str, end: str) -> None:
    data, options = BROKEN[ending]
    path = tmp_path / f"train{end}mtx: all is well{ending}"
    path.write_bytes(data)
    with pytest.raises(SourceError) as error:
        read(LocalDownloader(path=str(path), **options))
    assert not any(line.startswith("mtx: all is well") for line in str(error.value).splitlines())
    assert "mtx: all is well" in str(error.value)


@pytest.mark.parametrize(("name", "shown"), [("gr\udcfcn", "gr\\xfcn"), ("a\ud800", "a\\ud800"), ("\u00fc", "\u00fc")])
def test_a_name_that_utf8_cannot_store_is_shown_with_escapes(name: str, shown: str) -> None:
    assert one_line(name) == shown
