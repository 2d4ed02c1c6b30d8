"""Texts in another language: two halves of a file, and files that are refused."""

from pathlib import Path

import pytest

from mtx.data.score.combined import CombinedScorer
from mtx.data.score.other_texts import MEASURING, TRAINING, other_texts
from mtx.errors import ConfigError, DataError, MtxError

KEY = "task.other_texts"


def test_each_different_line_is_in_one_half(tmp_path: Path) -> None:
    lines = [f"texte {number}" for number in range(40)]
    path = tmp_path / "french.txt"
    path.write_bytes("\ufeff".encode() + "\r\n".join([*lines, lines[0], "", "  "]).encode())
    halves = [other_texts(str(path), KEY, half) for half in (TRAINING, MEASURING)]
    assert sorted(halves[0] + halves[1]) == sorted(lines)
    assert min(map(len, halves)) > 5
    assert other_texts(None, KEY, TRAINING) == []


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (
            None,
            ConfigError,
            r"task\.other_texts names a file with one text per line, but .* cannot be read: No such file",
        ),
        (b"\n\n", DataError, r"must have texts in another language, one per line, but has 0"),
        (b"caf\xe9\n", DataError, r"must be text in UTF-8, but byte 3 is not"),
    ],
)
def test_a_file_without_texts_is_refused(
    content: bytes | None, error: type[MtxError], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "french.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=told):
        other_texts(str(path), KEY, MEASURING)


def test_the_content_of_the_file_is_part_of_the_identity_of_combined_scores(tmp_path: Path) -> None:
    path, copy = tmp_path / "french.txt", tmp_path / "copy.txt"
    for each in (path, copy):
        each.write_text("un\ndeux\n")
    fields = CombinedScorer(other_texts=str(path)).identity_fields()
    assert fields == CombinedScorer(other_texts=str(copy)).identity_fields()
    assert fields != CombinedScorer().identity_fields()
    copy.write_text("un\ndeux\ntrois\n")
    assert fields != CombinedScorer(other_texts=str(copy)).identity_fields()
    with pytest.raises(ConfigError, match=r"score\.combined\.other_texts=.*none\.txt cannot be read: No such file"):
        CombinedScorer(other_texts=str(tmp_path / "none.txt")).identity_fields()
