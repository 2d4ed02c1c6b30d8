"""What a long stage shows while it runs."""

import io
import re
import sys

import pyarrow as pa
import pytest

from mtx.data.progress import track
from mtx.infra.dataset.pairs import PAIR_SCHEMA


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def batches() -> list[pa.RecordBatch]:
    return [pa.record_batch([["a" * 100] * 50, ["b" * 100] * 50], schema=PAIR_SCHEMA) for _ in range(3)]


def test_a_terminal_sees_pairs_and_megabytes_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    assert sum(batch.num_rows for batch in track(batches(), "reading [x]", total=150)) == 150
    shown = terminal.getvalue()
    assert "reading [x]" in shown
    assert "150/150" in shown
    assert re.search(r"[\d,]+ pairs/s, [\d,]+\.\d MB/s", shown)


def test_elsewhere_nothing_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    assert list(track(batches(), "reading")) == batches()
    assert file.getvalue() == ""
