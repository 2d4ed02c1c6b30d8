"""Test sets of sacrebleu are read from its folder by name, and nothing is downloaded."""

from pathlib import Path

import pytest

from mtx.data.validation_sets import validation_downloaders
from mtx.errors import SourceError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SACREBLEU", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("name", "stem", "ending"), [("wmt20", "wmt20", "ref"), ("wmt14/full", "wmt14_full", "refA")])
def test_a_set_has_its_pairs_and_languages(folder: Path, name: str, stem: str, ending: str) -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / f"{stem}.en-de.src").write_text("One.\nTwo\x00 e\u0301.\n", encoding="utf-8")
    (folder / name / f"{stem}.en-de.{ending}").write_text("Eins.\nZwei.\n", encoding="utf-8")
    (folder / name / f"{stem}.en-de.refB").write_text("Other.\nOther.\n", encoding="utf-8")
    (found,) = validation_downloaders({"news": f"sacrebleu:{name}:en-de"}).values()
    assert [*found.download()] == [{"src": "One.", "tgt": "Eins."}, {"src": "Two\x00 e\u0301.", "tgt": "Zwei."}]
    assert found.info().languages == ("en", "de")
    assert found.info().name == f"{name}-en-de"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "sacrebleu:wmt20:en-de",
            r"is not in .*wmt20 for en-de, and mtx downloads none. .*: sacrebleu -t wmt20 -l en-de ",
        ),
        ("sacrebleu:wmt20", r"is sacrebleu:NAME:SOURCE-TARGET, but is 'sacrebleu:wmt20'. Type sacrebleu:wmt20:en-de"),
        ("sacrebleu:../x:en-de", "is sacrebleu:NAME:SOURCE-TARGET"),
    ],
)
def test_what_is_not_there_is_told_with_what_to_type(folder: Path, text: str, told: str) -> None:
    with pytest.raises(SourceError, match=f"validation set 'news': .*{told}"):
        validation_downloaders({"news": text})
