"""TMX: languages, inline codes, encodings, and what XML is attacked with."""

import gzip
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.errors import SourceError
from mtx.infra.dataset.language_names import likeness
from mtx.infra.dataset.sources import xml_decoding, xml_stream
from mtx.infra.dataset.sources.local import LocalDownloader

PAIRS = [("The cat.", "Die Katze."), ("a < b & c", "  é \u2028 \n "), ("", "leer")]
XML_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r\ufffe\uffff", exclude_categories=["Cs", "Cc"]))


def variant(language: str, text: str) -> str:
    return f'<tuv xml:lang="{language}"><seg>{text}</seg></tuv>'


def tmx(*units: str, head: str = '<?xml version="1.0"?>', srclang: str = "*all*") -> str:
    body = "\n".join(f"<tu>{unit}</tu>" for unit in units)
    return f'{head}\n<tmx version="1.4"><header srclang="{srclang}"/><body>\n{body}\n</body></tmx>\n'


def of_pairs(pairs: list[tuple[str, str]]) -> str:
    return tmx(*(variant("en", escape(source)) + variant("de", escape(target)) for source, target in pairs))


def write(path: Path, data: bytes | str) -> str:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def pairs_of(data: bytes | str, tmp_path: Path, **options: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    counts: dict[str, int] = {}
    downloader = LocalDownloader(path=write(tmp_path / "a.tmx", data), **options)
    rows = [row for batch in downloader.batches("train", counts) for row in batch.to_pylist()]
    return [(row["src"], row["tgt"]) for row in rows], counts


def languages_of(data: str, tmp_path: Path, **options: Any) -> tuple[str, str]:
    return LocalDownloader(path=write(tmp_path / "a.tmx", data), **options).info().languages


def message(data: bytes | str, tmp_path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as raised:
        pairs_of(data, tmp_path, **options)
    return str(raised.value)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
def test_texts_come_unchanged(tmp_path: Path, ending: str) -> None:
    data = of_pairs(PAIRS).encode()
    packed = {"": data, ".gz": gzip.compress(data), ".zst": pa.compress(data, codec="zstd", asbytes=True)}[ending]
    downloader = LocalDownloader(path=write(tmp_path / f"memory.tmx{ending}", packed))
    assert [(row["src"], row["tgt"]) for row in downloader.download()] == PAIRS
    assert (downloader.info().name, downloader.info().languages) == ("memory", ("en", "de"))
    assert [row["src"] for row in LocalDownloader(path=tmp_path / f"memory.tmx{ending}", n=2).download()] == [
        "The cat.",
        "a < b & c",
    ]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(XML_TEXT, XML_TEXT), min_size=1, max_size=5), st.sampled_from([1, 7, 1 << 18]))
def test_any_text_comes_back_wherever_chunks_are_cut(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], chunk_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xml_decoding, "CHUNK_BYTES", chunk_bytes)
        assert pairs_of(of_pairs(pairs), tmp_path_factory.mktemp("tmx")) == (pairs, {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "iso-8859-1", "windows-1252"])
def test_encodings_are_those_the_file_names(tmp_path: Path, encoding: str) -> None:
    named = encoding.removesuffix("-sig")
    text = tmx(variant("en", "a") + variant("de", "äöü"), head=f'<?xml version="1.0" encoding="{named}"?>')
    assert pairs_of(text.encode(encoding), tmp_path)[0] == [("a", "äöü")]


@pytest.mark.parametrize("encoding", ["utf-7", "no-such"])
def test_encodings_that_cannot_be_read_are_named(tmp_path: Path, encoding: str) -> None:
    text = tmx(variant("en", "a") + variant("de", "b"), head=f'<?xml version="1.0" encoding="{encoding}"?>')
    assert f"a.tmx names the encoding {encoding!r}, which Python does not know" in message(text, tmp_path)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        ("a<hi>b</hi>c", "abc"),
        ("a<bpt i='1'>&lt;b></bpt>bold<ept i='1'>&lt;/b></ept>.", "abold."),
        ("x<ph>code<sub>footnote</sub></ph>y", "xy"),
        ("x<it pos='begin'>code</it>y<ut>code</ut>z", "xyz"),
        ("<hi>a<ph>b<hi>c</hi></ph></hi>d<!-- note --><?pi?>e", "ade"),
        ("<![CDATA[<b>]]>&#x41;&amp;", "<b>A&"),
    ],
)
def test_codes_are_left_out_and_what_is_marked_is_kept(tmp_path: Path, unit: str, expected: str) -> None:
    assert pairs_of(tmx(variant("en", unit) + variant("de", "x")), tmp_path) == ([(expected, "x")], {})


def test_a_language_stands_for_its_countries_and_the_very_name_goes_first(tmp_path: Path) -> None:
    near, exact = variant("en-GB", "colour"), variant("EN_us", "color")
    data = tmx(near + exact + variant("de-AT", "Farbe"), exact + near + variant("de", "Farbe"))
    options = {"source_language": "en-US", "target_language": "de"}
    assert pairs_of(data, tmp_path, **options) == ([("color", "Farbe")] * 2, {})
    assert languages_of(data, tmp_path, **options) == ("en-US", "de")
    options["source_language"] = "en"
    assert pairs_of(data, tmp_path, **options) == (
        [("colour", "Farbe"), ("color", "Farbe")],
        {"further_variant": 2},
    )


def test_of_several_texts_in_a_language_the_first_is_taken_and_the_others_counted(tmp_path: Path) -> None:
    data = tmx(variant("en", "a") + variant("de", "1") + variant("de", "2") + variant("de", "3"))
    assert pairs_of(data, tmp_path, on_error="raise") == ([("a", "1")], {"further_variant": 2})


def test_units_that_lack_a_language_are_counted_and_never_an_error(tmp_path: Path) -> None:
    no_text = '<tuv xml:lang="de"><note>x</note></tuv>'
    data = tmx(variant("en", "a"), variant("en", "b") + variant("de", "2"), "", variant("en", "c") + no_text)
    assert pairs_of(data, tmp_path) == ([("b", "2")], {"missing_translation": 3})
    assert "has no pair of texts (left out: missing_translation 1)" in message(
        tmx(variant("en", "c") + no_text), tmp_path, source_language="en", target_language="de"
    )


def test_what_the_header_calls_the_source_comes_first(tmp_path: Path) -> None:
    unit = variant("de-DE", "b") + variant("en-US", "a")
    assert languages_of(tmx(unit, srclang="en"), tmp_path) == ("en-US", "de-DE")
    assert languages_of(tmx(unit), tmp_path) == ("de-DE", "en-US")
    assert languages_of(tmx(unit), tmp_path, target_language="de") == ("en-US", "de")
    assert languages_of(tmx(unit).replace("xml:lang", "lang"), tmp_path) == ("de-DE", "en-US")


def test_languages_that_cannot_be_told_are_listed(tmp_path: Path) -> None:
    data = tmx(variant("en", "a") + variant("de", "b") + variant("fr", "c"))
    assert "exactly two languages are needed, but the file has de, en, fr. Choose two" in message(data, tmp_path)
    text = message(data, tmp_path, source_language="en", target_language="nl")
    assert "there is no text in the language 'nl'; present: de, en, fr. Choose one" in text
    assert "downloader.target_language=NAME" in text
    assert pairs_of(data, tmp_path, source_language="fr", target_language="en")[0] == [("c", "a")]
    assert "a.tmx has no unit (tu) with texts in two languages" in message(tmx(variant("en", "a")), tmp_path)


# Attacks


def laughs(levels: int) -> str:
    entities = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, levels))
    return f'<?xml version="1.0"?><!DOCTYPE tmx [<!ENTITY l0 "ha">{entities}]>'


@pytest.mark.parametrize(
    "declarations",
    [
        laughs(10),
        '<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE tmx [<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;]>',
        '<!DOCTYPE tmx SYSTEM "tmx14.dtd" [<!ATTLIST tuv xml:lang CDATA "de">]>',
    ],
)
def test_declarations_are_refused_before_anything_is_expanded(tmp_path: Path, declarations: str) -> None:
    data = tmx(variant("en", "&l9;&x;") + variant("de", "b"), head=declarations)
    tracemalloc.start()
    started = time.perf_counter()
    text = message(data, tmp_path, on_error="skip")
    seconds, peak = time.perf_counter() - started, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "a.tmx, line 1: mtx refuses to read the file, because its DOCTYPE contains declarations" in text
    assert seconds < 2
    assert peak < 5 << 20


def test_a_document_type_alone_is_passed_over_and_never_fetched(tmp_path: Path) -> None:
    secret = write(tmp_path / "tmx14.dtd", '<!ENTITY x "secret">')
    head = f'<!DOCTYPE tmx SYSTEM "{secret}">'
    assert pairs_of(tmx(variant("en", "a") + variant("de", "b"), head=head), tmp_path) == ([("a", "b")], {})
    text = message(tmx(variant("en", "a &x; b") + variant("de", "b"), head=head), tmp_path)
    assert "the entity '&x;', which XML does not define, and mtx never fetches a DOCTYPE" in text


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("<x>" * 300 + "</x>" * 300, "its elements are nested more than 200 deep"),
        ("".join(f"<n{i}/>" for i in range(6000)), "it has more than 5,000 different names of elements and attributes"),
        (
            "".join(f"<n a{i}=''/>" for i in range(6000)),
            "it has more than 5,000 different names of elements and attributes",
        ),
        (f"<!--{'x' * (5 << 20)}-->", "it has a tag or a comment of more than 4 MB"),
        (f"<n a='{'x' * (5 << 20)}'/>", "it has a tag or a comment of more than 4 MB"),
    ],
)
def test_markup_that_only_fills_memory_is_refused(tmp_path: Path, unit: str, said: str) -> None:
    assert f"mtx refuses to read the file, because {said}" in message(tmx(unit, PAIR_UNIT), tmp_path)


def test_long_tags_and_comments_are_no_harm_up_to_a_limit(tmp_path: Path) -> None:
    comment = f"<!--{'x' * (3 << 20)}-->"
    units = [PAIR_UNIT] + [PAIR_UNIT + comment] * 3
    assert pairs_of(tmx(*units), tmp_path) == ([("a", "b")] * 4, {})


PAIR_UNIT = variant("en", "a") + variant("de", "b")


def test_a_text_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(pairs_of(of_pairs([("x" * 6_000_000, "y")]), tmp_path)[0][0][0]) == 6_000_000
    monkeypatch.setattr(xml_stream, "MAX_TEXT_CHARS", 100_000)
    assert len(pairs_of(of_pairs([("x" * 100_000, "y")]), tmp_path)[0][0][0]) == 100_000
    said = "because it has a text of more than 100,000 characters"
    assert said in message(of_pairs([("x" * 100_001, "y")]), tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        of_pairs(PAIRS)[:-20],
        of_pairs(PAIRS).replace("</seg>", "", 1),
        "",
        "text",
        of_pairs(PAIRS) + "<more/>",
    ],
)
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_what_is_no_xml_always_stops(tmp_path: Path, data: bytes | str, on_error: str) -> None:
    text = message(data, tmp_path, on_error=on_error)
    assert "the file is not valid XML (" in text or "is empty: 0 bytes" in text


def test_memory_is_bounded_however_long_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_decoding, "CHUNK_BYTES", 16_000)

    def units() -> Iterator[str]:
        for i in range(10_000):
            yield f"<tu>{variant('en', f'sentence {i} ' * 10)}{variant('de', f'Satz {i} ' * 10)}</tu>\n"

    path = tmp_path / "a.tmx"
    path.write_text(f"<tmx><header/><body>{''.join(units())}</body></tmx>")
    downloader = LocalDownloader(path=path)
    downloader.info()
    likeness("en", "de")  # loads Babel's names of languages, once in a process
    tracemalloc.start()
    num_rows = sum(1 for _ in xml_stream.markup_pairs(*reader_of(downloader)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_rows == 10_000
    assert peak < path.stat().st_size / 10


def reader_of(downloader: LocalDownloader) -> tuple[Any, Any]:
    from mtx.infra.dataset.pair_stream import Refusals
    from mtx.infra.dataset.sources.tmx import _PairsReader

    columns = downloader._columns["train"][0]
    assert columns is not None
    file = downloader._parts["train"][0][0]
    return file, _PairsReader(file, columns, Refusals("raise"))


# Several languages

THREE = tmx(*[variant("de", "Lampe") + variant("en", "lamp") + variant("fr", "lampe")] * 3, srclang="en-US")


@pytest.mark.parametrize(
    ("wanted", "languages", "pair"),
    [
        ({"target_language": "de"}, ("en", "de"), ("lamp", "Lampe")),
        ({"target_language": "fr"}, ("en", "fr"), ("lamp", "lampe")),
        ({"target_language": "fr_FR"}, ("en", "fr_FR"), ("lamp", "lampe")),
        ({"source_language": "fr", "target_language": "de"}, ("fr", "de"), ("lampe", "Lampe")),
        ({"source_language": "de", "target_language": "en"}, ("de", "en"), ("Lampe", "lamp")),
    ],
)
def test_the_header_tells_the_source_among_several_languages(
    tmp_path: Path, wanted: dict[str, str], languages: tuple[str, str], pair: tuple[str, str]
) -> None:
    assert pairs_of(THREE, tmp_path, **wanted) == ([pair] * 3, {})
    assert languages_of(THREE, tmp_path, **wanted) == languages


def test_a_unit_may_have_a_source_of_its_own(tmp_path: Path) -> None:
    data = THREE.replace("<tu>", '<tu srclang="fr">')
    assert pairs_of(data, tmp_path, target_language="de")[0] == [("lampe", "Lampe")] * 3


@pytest.mark.parametrize(
    ("wanted", "srclang", "said"),
    [
        (
            {},
            "en",
            "By its header, en is the source. Choose one of the others, for example with downloader.target_lang",
        ),
        ({}, "*all*", "the file has de, en, fr. Choose two with downloader.source_language="),
        ({}, "ja", "the file has de, en, fr. Choose two"),
        ({"source_language": "en"}, "en", "the file has de, en, fr. Choose two"),
        ({"target_language": "en"}, "en", "the file has de, en, fr. Choose two"),
        ({"target_language": "de"}, "*all*", "the file has de, en, fr. Choose two"),
    ],
)
def test_languages_that_are_left_to_choose(tmp_path: Path, wanted: dict[str, str], srclang: str, said: str) -> None:
    with pytest.raises(SourceError) as raised:
        pairs_of(THREE.replace("en-US", srclang), tmp_path, **wanted)
    assert said in str(raised.value)
