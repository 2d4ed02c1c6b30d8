"""Encoded datasets: ids that decode to the text, in the form they are mapped from."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from mtx.data.encode import _blocks, encode_pairs, encoded_pairs, num_words
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.pair import TokenizerPair
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.rows import Rows
from mtx.infra.dataset.collate import TRAINED_IDS
from mtx.infra.dataset.pairs import PAIR_SCHEMA

NASTY = ["", "e\u0301", "العربية", "日本語。", "👩‍👩‍👧", "a\x00b", "x\u2028y", "<EOS>", "\u200f", "w" * 100_000]


def byte_pair() -> TokenizerPair:
    tokenizer = ByteTokenization().tokenizer
    return TokenizerPair("t", Path(), True, tokenizer, tokenizer, TRAINED_IDS, TRAINED_IDS)


def table(pairs: list[tuple[str, str]]) -> pa.Table:
    return pa.Table.from_pylist([{"src": src, "tgt": tgt} for src, tgt in pairs], schema=PAIR_SCHEMA)


def encoded(pairs: list[tuple[str, str]], scratch: Path) -> tuple[pa.Table, dict[str, int]]:
    counts: dict[str, int] = {}
    return pa.Table.from_batches(encode_pairs(table(pairs), byte_pair(), scratch=scratch, counts=counts)), counts


def test_ids_and_counts_worked_out_by_hand(tmp_path: Path) -> None:
    """Of 256 bytes, a, b, c, and the two of é are there: 251 are unused, on either side of a joint vocabulary."""
    rows, counts = encoded([("ab", "é"), ("", "c")], tmp_path)
    assert rows["source_ids"].to_pylist() == [[97 + 4, 98 + 4], []]
    assert rows["target_ids"].to_pylist() == [[0xC3 + 4, 0xA9 + 4], [99 + 4]]
    assert rows["num_target_bytes"].to_pylist() == [2, 1]
    assert counts == {
        "source_tokens": 2,
        "source_chars": 2,
        "source_unknown": 0,
        "source_bytes": 2,
        "source_words": 1,
        "source_unused": 251,
        "target_tokens": 3,
        "target_chars": 2,
        "target_unknown": 0,
        "target_bytes": 3,
        "target_words": 2,
        "target_unused": 251,
    }


def test_a_vocabulary_of_its_own_has_unused_entries_of_its_own(tmp_path: Path) -> None:
    vocabulary = {"<PAD>": 0, "<BOS>": 1, "<EOS>": 2, "<UNK>": 3, "red": 4, "green": 5, "blue": 9}  # 6 to 8 are none
    word = Tokenizer(models.WordLevel(vocabulary, unk_token="<UNK>"))
    word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pair = TokenizerPair("t", Path(), False, word, Tokenizer.from_str(word.to_str()), TRAINED_IDS, TRAINED_IDS)
    counts: dict[str, int] = {}
    list(encode_pairs(table([("red red blue", "what"), ("red", "blue")]), pair, scratch=tmp_path, counts=counts))
    assert (counts["source_unused"], counts["target_unused"]) == (1, 2)
    assert (counts["source_words"], counts["target_words"]) == (4, 2)
    assert (counts["source_unknown"], counts["target_unknown"]) == (0, 1)


@given(st.lists(st.text(st.sampled_from("ab日。 \t\n\x1c\x85\xa0\u2003\u3000\u200b"), max_size=9), max_size=6))
def test_words_are_what_python_splits(texts: list[str]) -> None:
    assert num_words(pa.array(texts, pa.large_string())) == sum(len(text.split()) for text in texts)


def test_any_text_comes_back_from_what_is_stored(tmp_path: Path) -> None:
    counts: dict[str, int] = {}
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("e", encode_pairs(table([(t, t) for t in NASTY]), byte_pair(), scratch=tmp_path, counts=counts))
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
    made = [pa.Table.from_batches(encode_pairs(t, byte_pair(), scratch=scratch, counts={})) for t in (whole, chunked)]
    assert made[0].equals(made[1])


def test_blocks_in_which_text_is_encoded_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [("a b a b a b", "c d c d c d"), ("", "x"), ("b a b a b", ""), (" e ", "d c"), ("f", "g h")]
    whole, counts = encoded(pairs, tmp_path)
    monkeypatch.setattr("mtx.data.pairs.ROWS_PER_BATCH", 1)
    assert [block.num_rows for block in _blocks(table(pairs))] == [5]
    assert encoded(pairs, tmp_path) == (whole, counts)
    monkeypatch.setattr("mtx.data.encode.BLOCK_BYTES", 1)
    assert [block.num_rows for block in _blocks(table(pairs))] == [1] * 5
    assert encoded(pairs, tmp_path) == (whole, counts)


def test_no_pair_gives_empty_columns(tmp_path: Path) -> None:
    rows, counts = encoded([], tmp_path)
    assert rows.num_rows == 0
    assert {name: count for name, count in counts.items() if count} == {"source_unused": 256, "target_unused": 256}


def test_a_large_vocabulary_takes_wider_ids(tmp_path: Path) -> None:
    vocab = {f"w{i}": i for i in range(70_000)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w0"))
    pair = TokenizerPair("t", Path(), True, tokenizer, tokenizer, TRAINED_IDS, TRAINED_IDS)
    rows = pa.Table.from_batches(encode_pairs(table([("w69999", "w1")]), pair, scratch=tmp_path, counts={}))
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
