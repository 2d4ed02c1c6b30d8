"""What tokenizers learn from: which texts, in which order, and which characters of them."""

import pyarrow as pa
import pytest

from mtx.data.tokenize.training_text import ALPHABET_GAP, ROWS_PER_BATCH, alphabet, restricted_texts, training_texts
from mtx.errors import ConfigError, DataError, EmptyDatasetError
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.row_views import SelectedRows

ROWS = [{"src": f"s{i}", "tgt": f"t{i}"} for i in range(10)]


def table(num_rows: int, chunk: int) -> pa.Table:
    rows = [{"id": i, "src": f"s{i}", "tgt": f"t{i}"} for i in range(num_rows)]
    return pa.concat_tables([pa.Table.from_pylist(rows[i : i + chunk]) for i in range(0, num_rows, chunk)])


def forms() -> list[object]:
    selected = SelectedRows([Rows(table(12, 5))], [12], Rows(pa.table({"row": pa.array(range(10), pa.uint32())})), [3])
    return [ROWS, Rows.of(ROWS), Rows(table(10, 3)), table(10, 4), selected]


@pytest.mark.parametrize("data", forms())
@pytest.mark.parametrize(
    ("side", "max_pairs", "expected"),
    [
        ("source", 100, [f"s{i}" for i in range(10)]),
        ("target", 10, [f"t{i}" for i in range(10)]),
        ("source", 4, ["s0", "s2", "s5", "s7"]),  # 0, 2.5, 5, 7.5
        ("target", 1, ["t0"]),
        ("both", 2, ["s0", "s5", "t0", "t5"]),
    ],
)
def test_texts_are_those_of_the_side_evenly_spaced(make_dataset, data, side, max_pairs, expected) -> None:
    stream = training_texts(make_dataset(data), side=side, max_pairs=max_pairs)
    assert sorted(text for batch in stream() for text in batch) == expected
    assert list(stream()) == list(stream())


def test_texts_come_in_batches_column_by_column(make_dataset) -> None:
    stream = training_texts(make_dataset(table(ROWS_PER_BATCH + 5, 10_000)), side="both", max_pairs=10**9)
    assert [len(batch) for batch in stream()] == [ROWS_PER_BATCH, ROWS_PER_BATCH, 5, 5]
    assert [batch[0][0] for batch in stream()] == ["s", "t", "s", "t"]


def test_texts_are_in_the_normal_form_asked_for(make_dataset) -> None:
    stream = training_texts(
        make_dataset([{"src": "e\u0301", "tgt": "①"}]), side="both", max_pairs=1, normalization="NFKC"
    )
    assert list(stream()) == [["é"], ["1"]]


def test_the_alphabet_is_the_most_frequent_characters() -> None:
    """a ×90, b ×8, c and d ×1 each: 100 characters."""
    text = "a" * 90 + "b" * 8 + "dc"
    assert alphabet(iter([[text[:50]], [text[50:]]]), 0.9) == {"a"}
    assert alphabet(iter([[text]]), 0.91) == {"a", "b"}
    assert alphabet(iter([[text]]), 0.99) == {"a", "b", "c"}
    assert alphabet(iter([[text]]), 1.0) == {"a", "b", "c", "d"}
    assert alphabet(iter([[text + ALPHABET_GAP * 1000]]), 0.9) == {"a"}


def test_other_characters_give_way_to_a_gap() -> None:
    batches = [["abc", "aaa", ""], ["cab神"]]
    assert list(restricted_texts(iter(batches), {"a", "b"})) == [
        [f"ab{ALPHABET_GAP}", "aaa", ""],
        [f"{ALPHABET_GAP}ab{ALPHABET_GAP}"],
    ]


@pytest.mark.parametrize("data", [[], [{"src": "", "tgt": " \n　"}], Rows.of([{"src": "", "tgt": ""}])])
def test_no_text_is_refused(make_dataset, data) -> None:
    with pytest.raises(EmptyDatasetError, match=r"needs text to learn from, but the src and tgt of \d pairs hold none"):
        training_texts(make_dataset(data), side="both", max_pairs=10)


def test_an_empty_side_is_refused_even_where_the_other_has_text(make_dataset) -> None:
    with pytest.raises(EmptyDatasetError, match="but the tgt of 1 pairs hold none"):
        training_texts(make_dataset([{"src": "a", "tgt": ""}]), side="target", max_pairs=10)


def test_a_manifest_alone_is_refused(make_dataset) -> None:
    with pytest.raises(DataError, match=r"this is only a manifest. Read the dataset with its rows: repo.get"):
        training_texts(make_dataset(None), side="both", max_pairs=10)


@pytest.mark.parametrize("data", [[{"source_ids": [1], "src": "a"}], Rows.of([{"source_ids": [1], "src": "a"}])])
def test_rows_without_texts_are_refused(make_dataset, data) -> None:
    with pytest.raises(DataError, match=r"these rows have source_ids, src: tgt is missing. Use .* raw or filtered"):
        training_texts(make_dataset(data), side="both", max_pairs=10)


@pytest.mark.parametrize(
    ("value", "message"), [("\ud800", "cannot be encoded as UTF-8"), (None, "None is no text"), (7, "7 is no text")]
)
def test_what_is_no_text_is_refused(make_dataset, value, message) -> None:
    with pytest.raises(DataError, match=rf"cannot learn from this text: .*{message}.*without lone surrogates"):
        training_texts(make_dataset([{"src": value, "tgt": "b"}]), side="both", max_pairs=10)


def test_an_unknown_side_is_refused(make_dataset) -> None:
    with pytest.raises(ConfigError, match="side is one of source, both, target, but is 'sources'"):
        training_texts(make_dataset(ROWS), side="sources", max_pairs=10)  # type: ignore[arg-type]
