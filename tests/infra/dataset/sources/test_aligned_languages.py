"""The languages of line-aligned files: what the names state, and what the config says."""

from pathlib import Path

import pytest

from mtx.assumption_log import collected_assumptions
from mtx.errors import SourceError
from mtx.infra.dataset.sources.local import LocalDownloader


def languages_of(folder: Path, names: tuple[str, str], **said: str) -> tuple[str, str]:
    for name in names:
        (folder / name).write_text("text\n")
    return LocalDownloader(source_path=folder / names[0], target_path=folder / names[1], **said).info().languages


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("lamps.de-en.de", "lamps.de-en.en"), {"source_language": "en", "target_language": "de"}),
        (("lamps.de-en.de", "lamps.de-en.en"), {"source_language": "en"}),
        (("lamps.de.txt", "lamps.en.txt"), {"target_language": "de"}),
        (("train-de.txt", "train-en.txt"), {"source_language": "eng"}),
        (("a_deu", "a_eng"), {"target_language": "de_AT"}),
        (("A.DE", "A.EN"), {"source_language": "en"}),
        (("German.txt", "English.txt"), {"source_language": "en", "target_language": "de"}),
        (("x.zh_Hant", "y.ja"), {"source_language": "ja", "target_language": "zh"}),
    ],
)
def test_swapped_languages_are_refused(tmp_path: Path, names: tuple[str, str], said: dict[str, str]) -> None:
    with pytest.raises(SourceError, match="the files' names state that the source") as raised:
        languages_of(tmp_path, names, **said)
    assert f"downloader.source_path={tmp_path / names[1]} downloader.target_path={tmp_path / names[0]}" in str(
        raised.value
    )


@pytest.mark.parametrize(
    ("names", "said", "languages"),
    [
        (("lamps.de-en.de", "lamps.de-en.en"), {"source_language": "de"}, ("de", "en")),
        (("x.src", "x.tgt"), {"source_language": "en", "target_language": "de"}, ("en", "de")),
        (("a.de-en", "a.en-de"), {"source_language": "de", "target_language": "en"}, ("de", "en")),  # pairs
        (("old.txt", "new.txt"), {"source_language": "en", "target_language": "de"}, ("en", "de")),
        (("de.1", "de.2"), {"source_language": "en", "target_language": "de"}, ("en", "de")),
        (("a.de", "a.de_AT"), {"source_language": "de_AT", "target_language": "de"}, ("de_AT", "de")),
    ],
)
def test_other_names_are_not(
    tmp_path: Path, names: tuple[str, str], said: dict[str, str], languages: tuple[str, str]
) -> None:
    assert languages_of(tmp_path, names, **said) == languages


def test_a_language_that_the_names_do_not_state_and_languages_of_the_names_are_assumptions(tmp_path: Path) -> None:
    with collected_assumptions() as assumed:
        assert languages_of(tmp_path, ("a.de", "a.en"), source_language="fr", target_language="en") == ("fr", "en")
    (what,) = assumed
    assert "a.de is in 'fr', because downloader.source_language says so, though its name says 'de'" in what
    with collected_assumptions() as assumed:
        assert languages_of(tmp_path, ("train-de.txt", "train-en.txt")) == ("de", "en")
    assert "the languages are 'de' and 'en', by the names of" in assumed[0]
