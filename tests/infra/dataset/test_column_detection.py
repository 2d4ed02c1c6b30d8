"""Where the texts are: the rules that all sources share. The sources' own tests read the messages."""

import pyarrow as pa
import pytest

from mtx.errors import SourceError
from mtx.infra.dataset.column_detection import (
    Columns,
    RequestedColumns,
    are_column_names,
    find_columns,
    pair_columns,
    schema_keys,
)

TRANSLATION = {"translation": ["en", "de"]}
PLAIN: dict[str, list[str]] = {"src": [], "tgt": []}


@pytest.mark.parametrize(
    ("present", "wanted", "expected"),
    [
        (PLAIN, RequestedColumns(), Columns("src", "tgt", ("src", "tgt"))),
        (PLAIN, RequestedColumns(pair="de-en"), Columns("src", "tgt", ("de", "en"))),
        (PLAIN, RequestedColumns(pair="de-en", source_language="en"), Columns("src", "tgt", ("en", "de"))),
        (PLAIN, RequestedColumns(pair="de-en", target_language="de"), Columns("src", "tgt", ("en", "de"))),
        (PLAIN, RequestedColumns(pair="plain_text"), Columns("src", "tgt", ("src", "tgt"))),
        ({"de": [], "en": []}, RequestedColumns(pair="en-de"), Columns("en", "de", ("en", "de"))),
        (TRANSLATION, RequestedColumns(), Columns("en", "de", ("en", "de"), "translation")),
        (TRANSLATION, RequestedColumns(pair="de-en"), Columns("de", "en", ("de", "en"), "translation")),
        (TRANSLATION, RequestedColumns(pair="de_en"), Columns("de", "en", ("de", "en"), "translation")),
        (
            TRANSLATION,
            RequestedColumns(pair="de-en", source_language="en"),
            Columns("en", "de", ("en", "de"), "translation"),
        ),
        (TRANSLATION, RequestedColumns(pair="fr-nl"), Columns("en", "de", ("en", "de"), "translation")),
        (
            {"translation": ["zh-TW", "en", "nl"]},
            RequestedColumns(pair="en-zh-TW"),
            Columns("en", "zh-TW", ("en", "zh-TW"), "translation"),
        ),
        (PLAIN | TRANSLATION, RequestedColumns(), Columns("src", "tgt", ("src", "tgt"))),
        (
            PLAIN | TRANSLATION,
            RequestedColumns(source_column="tgt", target_column="src", source_language="x", target_language="y"),
            Columns("tgt", "src", ("x", "y")),
        ),
    ],
)
def test_where_the_texts_are(present: dict[str, list[str]], wanted: RequestedColumns, expected: Columns) -> None:
    assert find_columns(present, wanted, "here") == expected


def test_a_schema_has_keys_where_objects_hold_texts() -> None:
    inner = pa.struct([("en", pa.string()), ("score", pa.float64()), ("de", pa.large_string())])
    schema = pa.schema([("id", pa.int64()), ("translation", inner)])
    assert schema_keys(schema) == {"id": [], "translation": ["en", "de"]}


def test_a_missing_object_has_no_texts() -> None:
    batch = pa.RecordBatch.from_pylist([{"translation": {"en": "a", "de": "b"}}, {"translation": None}])
    source, target = pair_columns(batch, Columns("de", "en", ("de", "en"), "translation"))
    assert (source.to_pylist(), target.to_pylist()) == (["b", None], ["a", None])


@pytest.mark.parametrize(
    ("names", "languages"),
    [
        (["en", "fr"], ("en", "fr")),
        (["EN", "DE"], ("EN", "DE")),
        (["en_US", "pt-BR"], ("en_US", "pt-BR")),
        (["eng", "deu"], ("eng", "deu")),
        (["English", "japanese"], ("en", "ja")),
        (["zh_Hans", "en"], ("zh_Hans", "en")),
        (["id", "en"], ("id", "en")),  # Indonesian, because nothing else is there
        (["id", "en", "de"], ("en", "de")),  # an identifier
        (["new", "score", "fi", "sv"], ("fi", "sv")),
        (["en", "en_score", "de", "de_text"], ("en", "de")),
    ],
)
def test_two_columns_named_by_languages_are_found(
    names: list[str], languages: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    found = find_columns(dict.fromkeys(names, ()), RequestedColumns(), "a.tsv")
    assert found.languages == languages
    assert (found.source, found.target) == tuple(name for name in names if name in (found.source, found.target))
    assert "in the order of the columns" in caplog.text
    assert f"downloader.source_column={found.target}" in caplog.text
    swapped = find_columns(dict.fromkeys(names, ()), RequestedColumns(source_language=languages[1]), "a.tsv")
    assert (swapped.source, swapped.target) == (found.target, found.source)


def test_more_than_two_languages_are_to_be_chosen_and_fewer_are_none() -> None:
    with pytest.raises(SourceError, match=r"source_column=en downloader\.target_column=fr or "):
        find_columns(dict.fromkeys(["en", "fr", "ja"], ()), RequestedColumns(), "a.tsv")
    found = find_columns(
        dict.fromkeys(["en", "fr", "ja"], ()), RequestedColumns(target_language="ja", source_language="en"), ""
    )
    assert found.languages == ("en", "ja")
    for names in (
        ["en", "text"],
        ["id", "text"],
        ["is_dup", "no_text"],
        ["new", "min", "text"],
        ["src", "tt"],
        ["src", "tet"],
    ):
        with pytest.raises(SourceError, match="no two text columns"):
            find_columns(dict.fromkeys(names, ()), RequestedColumns(), "a.tsv")
    with pytest.raises(SourceError, match=r"\"downloader\.source_column='my text'\" downloader\.target_column=b"):
        find_columns(dict.fromkeys(["my text", "b"], ()), RequestedColumns(), "a.tsv")


@pytest.mark.parametrize(
    ("fields", "is_header"),
    [
        (["src", "tgt"], True),
        (["Source", " TARGET "], True),
        (["en", "de_AT"], True),
        (["German", "English", "score"], True),
        (["target", "source"], True),
        (["The lamp.", "Die Lampe."], False),
        (["en", "en"], False),
        (["src", "The lamp."], False),
        (["", ""], False),
    ],
)
def test_a_first_line_looks_like_names_of_columns(fields: list[str], is_header: bool) -> None:
    assert are_column_names(fields) is is_header
