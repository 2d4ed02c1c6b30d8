"""What a terminal cannot show is replaced, and printing never fails for it."""

import io
import sys

import pytest

from mtx.output_encoding import replace_missing_characters
from mtx.progress.literal_console import PlainConsole

TEXT = "2.3 ± 0.1 × 5 – 3…4 ≥ 1 → “ü” 中 \U0001f600 e\u0301 \ud800"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "cp437", "koi8-r", "shift_jis", "utf-8", "utf-16"])
@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_every_text_is_printed_in_every_encoding(encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
        monkeypatch.setattr(sys, name, stream)
        replace_missing_characters()
        print(TEXT, file=stream)
        stream.flush()
        written = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert written.startswith("2.3 ")
        assert written.endswith("\\ud800\n"), "a lone surrogate is in no encoding"


def test_a_similar_character_is_taken_before_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    PlainConsole(width=200).print(TEXT)
    stream.flush()
    written = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert written == b'2.3 +/- 0.1 x 5 - 3...4 >= 1 -> "\\xfc" \\u4e2d \\U0001f600 e\\u0301 \\ud800\n'


def test_a_stream_without_reconfigure_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    replace_missing_characters()
    print("→")
    assert sys.stdout.getvalue() == "→\n"  # type: ignore[attr-defined]
