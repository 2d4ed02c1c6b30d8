"""Encoded datasets: ids that decode to the text, in the form they are mapped from."""

import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from mtx.data.encoding_stage import PairEncoder, _text_blocks, encoded_pairs, joined_ids, token_counts
from mtx.data.filtering_stage import num_words
from mtx.data.token_rows import TRAINED_IDS, EncodedPairs
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA

NASTY = ["", "e\u0301", "العربية", "日本語。", "👩‍👩‍👧", "a\x00b", "x\u2028y", "<EOS>", "\u200f", "w" * 100_000]


def byte_pair() -> TokenizerPair:
    tokenizer = ByteTokenization().tokenizer
    return TokenizerPair("t", Path(), True, tokenizer, tokenizer, TRAINED_IDS, TRAINED_IDS)


def table(pairs: list[tuple[str, str]]) -> pa.Table:
    return pa.Table.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=PAIR_SCHEMA)


def encode(pairs: pa.Table, tokenizers: TokenizerPair, scratch: Path) -> tuple[pa.Table, dict[str, int]]:
    counts: dict[str, int] = {}
    batches = PairEncoder(tokenizers, scratch)(iter(pairs.to_batches()), 0, counts)
    return pa.Table.from_batches(batches), counts


def encoded(pairs: list[tuple[str, str]], scratch: Path) -> tuple[pa.Table, dict[str, int]]:
    return encode(table(pairs), byte_pair(), scratch)


def test_ids_and_counts_worked_out_by_hand(tmp_path: Path) -> None:
    """Of 256 bytes, a, b, c, and the two of é are there: 251 are unused, on either side of a joint vocabulary."""
    rows, counts = encoded([("ab", "é"), ("", "c")], tmp_path)
    assert rows["source_ids"].to_pylist() == [[97 + 4, 98 + 4], []]
    assert rows["target_ids"].to_pylist() == [[0xC3 + 4, 0xA9 + 4], [99 + 4]]
    assert rows["num_source_bytes"].to_pylist() == [2, 0]
    assert rows["num_target_bytes"].to_pylist() == [2, 1]
    assert counts == {"source_tokens": 2, "target_tokens": 3}
    assert token_counts(encoded_pairs(Rows(rows)), byte_pair()) == {
        "source_tokens": 2,
        "source_unknown": 0,
        "source_unused": 251,
        "target_tokens": 3,
        "target_unknown": 0,
        "target_unused": 251,
    }


def words_apart() -> TokenizerPair:
    vocabulary = {"<PAD>": 0, "<BOS>": 1, "<EOS>": 2, "<UNK>": 3, "red": 4, "green": 5, "blue": 9}  # 6 to 8 are none
    word = Tokenizer(models.WordLevel(vocabulary, unk_token="<UNK>"))
    word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TokenizerPair("t", Path(), False, word, Tokenizer.from_str(word.to_str()), TRAINED_IDS, TRAINED_IDS)


def test_a_vocabulary_of_its_own_has_unused_entries_of_its_own(tmp_path: Path) -> None:
    rows, _ = encode(table([("red red blue", "what"), ("red", "blue")]), words_apart(), tmp_path)
    counts = token_counts(encoded_pairs(Rows(rows)), words_apart())
    assert (counts["source_unused"], counts["target_unused"]) == (1, 2)
    assert (counts["source_unknown"], counts["target_unknown"]) == (0, 1)


@pytest.mark.parametrize("rows_at_once", [1, 2, 100])
def test_only_the_tokens_of_selected_pairs_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows_at_once: int
) -> None:
    monkeypatch.setattr("mtx.data.encoding_stage.ROWS_PER_COUNT", rows_at_once)
    texts = [("red red blue", "what"), ("green", "green what"), ("red", "blue")]
    rows, _ = encode(table(texts), words_apart(), tmp_path)
    counts = token_counts(encoded_pairs(Rows(rows), np.array([0, 2], dtype=np.uint32)), words_apart())
    assert (counts["source_tokens"], counts["target_tokens"]) == (4, 2)
    assert (counts["source_unused"], counts["target_unused"]) == (1, 2)
    assert (counts["source_unknown"], counts["target_unknown"]) == (0, 1)


@pytest.mark.parametrize("dtype", [np.uint32, np.int64])
def test_a_selection_of_all_rows_in_order_is_no_selection(tmp_path: Path, dtype: type) -> None:
    rows = Rows(encode(table([("a", "b")] * 3), byte_pair(), tmp_path)[0])
    assert encoded_pairs(rows, np.array([0, 1, 2], dtype=dtype)).selection is None
    for kept in ([0, 2, 1], [0, 1], [0, 1, 1], []):
        selection = encoded_pairs(rows, np.array(kept, dtype=dtype)).selection
        assert selection is not None
        assert selection.tolist() == kept


@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 5), max_size=4))
def test_parts_that_are_encoded_apart_join_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    scratch = tmp_path_factory.mktemp("scratch")
    whole = table([("a b", "c"), ("", "d e"), ("f", ""), ("g h i", "j"), ("k", "l")])
    edges = sorted({0, *cuts, whole.num_rows})
    parts = [whole.slice(low, high - low) for low, high in pairwise(edges)]
    batches = [encode(part, byte_pair(), scratch)[0].to_batches()[0] for part in parts]
    joined = pa.Table.from_batches(joined_ids(iter(batches), scratch=scratch))
    assert joined.equals(encode(whole, byte_pair(), scratch)[0])
    assert joined.column("source_ids").num_chunks == 1


def test_pairs_are_found_by_their_place_in_the_selection(tmp_path: Path) -> None:
    rows, _ = encoded([("a", "b"), ("cc", "dd"), ("eee", "f")], tmp_path)
    pairs: EncodedPairs = encoded_pairs(Rows(rows), np.array([2, 0], dtype=np.uint32))
    assert len(pairs) == 2
    assert pairs.num_source_tokens.tolist() == [3, 1]
    assert pairs.row_numbers(np.array([1, 0, 1])).tolist() == [0, 2, 0]
    with pytest.raises(IndexError, match="rows are numbered from 0 to 1, but row 2 was asked for"):
        pairs.row_numbers(np.array([0, 2]))


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab日。 \t\n\x1c\x85\xa0\u2003\u3000\u200b"), max_size=9), max_size=6))
def test_words_are_what_python_splits(texts: list[str]) -> None:
    assert num_words(pa.array(texts, pa.large_string())) == sum(len(text.split()) for text in texts)


def test_any_text_comes_back_from_what_is_stored(tmp_path: Path) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("e", encoded([(t, t) for t in NASTY], tmp_path)[0])
    pairs = encoded_pairs(layer.read("e"))
    decode = ByteTokenization().tokenizer.decode
    assert [decode(pairs.source[row].tolist()) for row in range(len(NASTY))] == NASTY
    assert [decode(pairs.target[row].tolist()) for row in range(len(NASTY))] == NASTY
    assert pairs.source.ids.dtype == np.uint16
    assert not pairs.source.ids.flags.owndata, "ids are mapped, not copied"


@settings(max_examples=30, deadline=None)
@given(pairs=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=7), cut=st.integers(0, 7))
def test_chunks_of_the_input_do_not_matter(tmp_path_factory, pairs: list[tuple[str, str]], cut: int) -> None:  # type: ignore[no-untyped-def]
    scratch = tmp_path_factory.mktemp("scratch")
    whole = table(pairs)
    chunked = pa.concat_tables([whole.slice(0, cut), whole.slice(cut)])
    made = [encode(t, byte_pair(), scratch)[0] for t in (whole, chunked)]
    assert made[0].equals(made[1])


def test_blocks_in_which_text_is_encoded_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("a b a b a b", "c d c d c d"), ("", "x"), ("b a b a b", ""), (" e ", "d c"), ("f", "g h")]
    whole, counts = encoded(pairs, tmp_path)
    monkeypatch.setattr("mtx.data.bounded_pair_batches.ROWS_PER_BATCH", 1)
    assert [block.num_rows for block in _text_blocks(iter(table(pairs).to_batches()))] == [5]
    assert encoded(pairs, tmp_path) == (whole, counts)
    monkeypatch.setattr("mtx.data.encoding_stage.BLOCK_BYTES", 1)
    assert [block.num_rows for block in _text_blocks(iter(table(pairs).to_batches()))] == [1] * 5
    assert encoded(pairs, tmp_path) == (whole, counts)


def test_no_pair_gives_empty_columns(tmp_path: Path) -> None:
    rows, counts = encoded([], tmp_path)
    assert rows.num_rows == 0
    assert counts == {"source_tokens": 0, "target_tokens": 0}
    found = token_counts(encoded_pairs(Rows(rows)), byte_pair())
    assert {name: count for name, count in found.items() if count} == {"source_unused": 256, "target_unused": 256}


def test_a_large_vocabulary_takes_wider_ids(tmp_path: Path) -> None:
    vocab = {f"w{i}": i for i in range(70_000)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    pair = TokenizerPair("t", Path(), True, tokenizer, tokenizer, TRAINED_IDS, TRAINED_IDS)
    rows, _ = encode(table([("w69999", "w1")]), pair, tmp_path)
    assert rows["source_ids"].type == pa.large_list(pa.uint32())
    assert rows["source_ids"].to_pylist() == [[69_999]]


def test_nothing_is_left_in_the_scratch_folder(tmp_path: Path) -> None:
    encoded([("a", "b")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_rows_in_several_chunks_are_joined() -> None:
    batch = pa.record_batch({"source_ids": pa.array([[1, 2]]), "target_ids": pa.array([[3]])})
    pairs = encoded_pairs(Rows(pa.Table.from_batches([batch, batch])))
    assert pairs.source.offsets.tolist() == [0, 2, 4]
    assert pairs.target[1].tolist() == [3]


def test_joining_parts_takes_no_memory_for_each_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Held in memory, lengths, offsets and numbers of bytes would take more than 32 bytes a row: 3.2 MB."""
    monkeypatch.setattr("mtx.data.encoding_stage.ROWS_PER_COUNT", 1000)

    def parts() -> Iterator[pa.RecordBatch]:
        offsets, ids = pa.array(np.arange(5001)), pa.array(np.zeros(5000, dtype=np.uint16))
        rows, num_bytes = pa.LargeListArray.from_arrays(offsets, ids), pa.array(np.ones(5000, dtype=np.int64))
        columns = {"source_ids": rows, "target_ids": rows, "num_source_bytes": num_bytes, "num_target_bytes": num_bytes}
        for _ in range(20):
            yield pa.record_batch(columns)

    tracemalloc.start()
    (joined,) = joined_ids(parts(), scratch=tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert joined.num_rows == 100_000
    assert joined["source_ids"].offsets[-1].as_py() == 100_000
    assert peak < 1_000_000
