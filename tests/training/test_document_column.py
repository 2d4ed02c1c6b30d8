"""The documents of held-out pairs: from the column that an option names, or from a column called document."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mtx import compose_datamodule
from mtx.errors import ConfigError
from mtx.infra.dal.arrow_rows import Rows
from mtx.training.held_out_documents import document_numbers


def rows(**columns: pa.Array) -> Rows:
    return Rows(pa.table({"src": pa.nulls(len(next(iter(columns.values()))), pa.string()), **columns}))


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (["b", "a", None, "b"], [0, 1, -1, 0]),
        (pa.array(["e\u0301", "\u00e9", "日本\0", "e\u0301"], pa.large_string()), [0, 1, 2, 0]),
        ([30, 7, 30], [0, 1, 0]),
        ([True, False, None], [0, 1, -1]),
        (pa.array([], pa.string()), []),
    ],
)
def test_documents_are_numbered_by_first_occurrence(values: pa.Array, numbers: list[int]) -> None:
    found = document_numbers(rows(talk=pa.array(values)), "talk")
    assert found is not None
    assert found.tolist() == numbers
    assert found.dtype == "int64"


def test_a_column_called_document_is_taken_without_being_named() -> None:
    found = document_numbers(rows(document=pa.array(["x", "y"])), None)
    assert found is not None
    assert found.tolist() == [0, 1]
    assert document_numbers(rows(talk=pa.array(["x", "y"])), None) is None
    assert document_numbers(rows(document=pa.array([0.5, 1.5])), None) is None  # no names


def test_a_named_column_that_names_no_documents_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"datamodule\.document_column names a column .*, but 'tlak' is none. Choose"):
        document_numbers(rows(talk=pa.array(["x"])), "tlak")
    with pytest.raises(ConfigError, match="needs a column of text, integers or Booleans, but 'talk' holds double"):
        document_numbers(rows(talk=pa.array([0.5])), "talk")


def test_documents_travel_from_the_source_to_the_held_out_pairs(tmp_path: Path) -> None:
    lines = [json.dumps({"src": f"source {i}", "tgt": f"target {i}", "talk": f"talk {i % 3}"}) for i in range(60)]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines))
    source = ["downloader=local", f"downloader.path={tmp_path}/corpus.jsonl", "downloader.columns=[talk]"]
    languages = ["downloader.source_language=en", "downloader.target_language=de"]
    plain = ["tokenizer=byte", "datamodule.validation=20", "datamodule.test=null", f"storage.root={tmp_path}/store"]
    made = compose_datamodule([*source, *languages, *plain, "datamodule.document_column=talk"])
    made.prepare_data()
    assert made.ids is not None
    pairs = made.storage.repo.get(made.ids.filtered["validation"]).rows
    found = made.documents("validation")
    assert found is not None
    assert len(found) == len(pairs) == 20
    talks = {(number, int(row["src"].split()[1]) % 3) for number, row in zip(found.tolist(), pairs, strict=True)}
    assert len(talks) == len(dict(talks)) == 3  # one number for each talk
