"""XLIFF 1.2 and 2.0: units, languages, states, inline codes."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.errors import SourceError
from mtx.infra.dataset.sources.local import LocalDownloader

XML_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\ufffe\uffff", exclude_categories=["Cs", "Cc"]))


def first(*units: str, languages: str = 'source-language="en" target-language="de"') -> str:
    body = "".join(units)
    return f'<xliff version="1.2"><file {languages} original="x"><body><group>{body}</group></body></file></xliff>'


def second(*units: str, languages: str = 'srcLang="en" trgLang="de"') -> str:
    body = "".join(f"<unit id='u'>{one}</unit>" for one in units)
    space = "urn:oasis:names:tc:xliff:document:2.0"
    return f'<xliff xmlns="{space}" version="2.0" {languages}><file id="f">{body}</file></xliff>'


def unit(source: str, target: str, more: str = "") -> str:
    return f"<trans-unit id='1'{more}><source>{source}</source>{target}</trans-unit>"


def segment(source: str, target: str, more: str = "") -> str:
    return f"<segment{more}><source>{source}</source>{target}</segment>"


def pairs_of(data: str, tmp_path: Path, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    (tmp_path / "a.xlf").write_text(data, encoding="utf-8", newline="")
    counts: dict[str, int] = {}
    downloader = LocalDownloader(path=tmp_path / "a.xlf", **options)
    rows = [row for batch in downloader.batches("train", counts) for row in batch.to_pylist()]
    return [(row["src"], row["tgt"]) for row in rows], counts


def message(data: str, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as raised:
        pairs_of(data, tmp_path, **options)
    return str(raised.value)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(XML_TEXT, XML_TEXT.filter(len)), min_size=1, max_size=4))
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    tmp_path = tmp_path_factory.mktemp("xliff")
    for form, one in ((first, unit), (second, segment)):
        data = form(*(one(escape(source), f"<target>{escape(target)}</target>") for source, target in pairs))
        assert pairs_of(data, tmp_path) == (pairs, {})


def test_codes_are_left_out_and_what_is_marked_is_kept(tmp_path: Path) -> None:
    old = (
        "a<g id='1'>b</g><x id='2'/><bpt id='3'>&lt;b></bpt>c<ph id='4'>code<sub>note</sub></ph><mrk mtype='x'>d</mrk>"
    )
    new = "a<pc id='1'>b</pc><ph id='2'/><sc id='3'/>c<mrk id='m'>d</mrk><cp hex='0001'/>"
    assert pairs_of(first(unit(old, "<target>x</target>")), tmp_path)[0] == [("abcd", "x")]
    assert pairs_of(second(segment(new, "<target>x</target>")), tmp_path)[0] == [("abcd", "x")]


def test_proposals_notes_and_gaps_are_no_units(tmp_path: Path) -> None:
    proposal = "<alt-trans><source>old</source><target>alt</target></alt-trans><note>hm</note>"
    segmented = "<seg-source><mrk mtype='seg'>a</mrk></seg-source>"
    data = first(unit("a", f"{segmented}<target>b</target>{proposal}"))
    assert pairs_of(data, tmp_path) == ([("a", "b")], {})
    match = "<mtc:matches xmlns:mtc='m'><mtc:match><source>old</source><target>alt</target></mtc:match></mtc:matches>"
    gap = "<ignorable><source> </source><target> </target></ignorable>"
    data = second(match + segment("a", "<target>b</target>") + gap + segment("c", "<target>d</target>"))
    assert pairs_of(data, tmp_path) == ([("a", "b"), ("c", "d")], {})


def test_what_is_not_or_not_surely_translated_is_counted(tmp_path: Path) -> None:
    data = first(
        unit("a", ""),
        unit("b", "<target/>"),
        unit("c", "<target state='needs-review-translation'>3</target>"),
        unit("d", "<target state='new'>4</target>"),
        unit("e", "<target state='translated'>5</target>"),
        unit("f", "<target>6</target>", " approved='no'"),
        unit("g", "<target state='final'>7</target>", " approved='yes'"),
    )
    assert pairs_of(data, tmp_path) == ([("e", "5"), ("g", "7")], {"untranslated": 2, "fuzzy": 3})
    pairs, counts = pairs_of(data, tmp_path, keep_fuzzy=True)
    assert ([source for source, _ in pairs], counts) == (["c", "d", "e", "f", "g"], {"untranslated": 2})
    data = second(segment("a", "<target>1</target>", " state='initial'") + segment("b", "<target>2</target>"))
    assert pairs_of(data, tmp_path) == ([("b", "2")], {"fuzzy": 1})


def test_languages_are_those_of_the_file_in_the_direction_wanted(tmp_path: Path) -> None:
    data = first(unit("a", "<target>b</target>"), languages='source-language="en-US" target-language="de"')
    assert pairs_of(data, tmp_path, source_language="de", target_language="en")[0] == [("b", "a")]
    assert pairs_of(data, tmp_path, target_language="en")[0] == [("b", "a")]
    assert LocalDownloader(path=tmp_path / "a.xlf").info().languages == ("en-US", "de")
    assert LocalDownloader(path=tmp_path / "a.xlf", target_language="en").info().languages == ("de", "en")
    text = message(data, tmp_path, target_language="fr")
    assert "the languages of the file are en-US and de, but requested are any and fr" in text
    assert "downloader.source_language=NAME" in text
    assert pairs_of(first(unit("a", "<target>b</target>"), languages=""), tmp_path)[0] == [("a", "b")]


def test_a_document_without_a_file(tmp_path: Path) -> None:
    assert "a.xlf has no <file> element of XLIFF" in message("<xliff/>", tmp_path)


def test_attacks_are_refused_as_in_tmx(tmp_path: Path) -> None:
    data = '<!DOCTYPE x [<!ENTITY a "b">]>' + first(unit("&a;", "<target>b</target>"))
    assert "its DOCTYPE contains declarations, such as entities" in message(data, tmp_path)


# Several languages


def files(*languages: tuple[str, str]) -> str:
    """Return a document with a `file` of one unit for each pair of languages."""
    parts = (
        f'<file source-language="{source}" target-language="{target}"><body>'
        f"{unit(f'{source} {place}', f'<target>{target} {place}</target>')}</body></file>"
        for place, (source, target) in enumerate(languages)
    )
    return f'<xliff version="1.2">{"".join(parts)}</xliff>'


TWO = files(("en", "de"), ("en", "fr"), ("en-US", "de-AT"))


@pytest.mark.parametrize(
    ("data", "wanted", "pairs", "left_out"),
    [
        (TWO, {"source_language": "en", "target_language": "de"}, [("en 0", "de 0"), ("en-US 2", "de-AT 2")], 1),
        (TWO, {"target_language": "de"}, [("en 0", "de 0"), ("en-US 2", "de-AT 2")], 1),
        (TWO, {"target_language": "fr"}, [("en 1", "fr 1")], 2),
        (TWO, {"source_language": "fr"}, [("fr 1", "en 1")], 2),
        (TWO, {"source_language": "de", "target_language": "en"}, [("de 0", "en 0"), ("de-AT 2", "en-US 2")], 1),
        (files(("en", "de"), ("en", "de")), {}, [("en 0", "de 0"), ("en 1", "de 1")], 0),
        (files(("en", "de"), ("en-GB", "de")), {}, [("en 0", "de 0"), ("en-GB 1", "de 1")], 0),
    ],
)
def test_the_files_of_other_languages_are_passed_over(
    tmp_path: Path, data: str, wanted: dict[str, str], pairs: list[tuple[str, str]], left_out: int
) -> None:
    assert pairs_of(data, tmp_path, **wanted) == (pairs, {"other_language": left_out} if left_out else {})


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({}, "parts of the file have others: en to de, en to fr, en-US to de-AT. Choose one pair, for example with"),
        ({"source_language": "en"}, "downloader.source_language=en downloader.target_language=de or"),
        ({"target_language": "en"}, "downloader.source_language=fr downloader.target_language=en"),
        ({"target_language": "ja"}, "are en and de, or en and fr, or en-US and de-AT, but requested are any and ja"),
        ({"source_language": "de", "target_language": "fr"}, "but requested are de and fr"),
    ],
)
def test_languages_that_are_left_to_choose_or_are_missing(tmp_path: Path, wanted: dict[str, str], said: str) -> None:
    assert said in message(TWO, tmp_path, **wanted)
