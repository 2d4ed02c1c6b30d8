"""Where the texts are: the rules that all sources share. The sources' own tests read the messages."""

import pyarrow as pa
import pytest

from mtx.infra.dataset.column_detection import Columns, RequestedColumns, find_columns, pair_columns, schema_keys

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
