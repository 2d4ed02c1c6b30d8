"""Texts as words: found by the library, kept in the store, mapped back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.token_rows import TRAINED_IDS
from mtx.data.tokenize import word_index as module
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.tokenizer_artifact import TokenizerPair
from mtx.data.tokenize.word_index import WordIndex, cut_words, get_or_build_words, load_words
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA


def texts_of(words: WordIndex) -> list[list[str]]:
    return [
        [words.distinct[number] for number in words.numbers[start:end]]
        for start, end in zip(words.offsets[:-1], words.offsets[1:], strict=True)
    ]


def pair_of(tokenization: Tokenization) -> TokenizerPair:
    tokenizer = tokenization.tokenizer
    return TokenizerPair("tokenizer-1", Path(), True, tokenizer, tokenizer, TRAINED_IDS, TRAINED_IDS)


def stored(root: Path, rows: list[dict[str, str]]) -> tuple[Store, str]:
    store = Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    data = pa.Table.from_pylist(rows, schema=PAIR_SCHEMA)
    dataset = TranslationDataset(name="n", stage="filtered", split="train", languages=("x", "y"), data=data)
    store.repo.add(dataset)
    return store, dataset.id


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(max_size=30), max_size=5))
@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_words_are_those_of_the_tokenizer(
    trained: dict[str, Tokenization], nasty: list[str], kind: str, texts: list[str]
) -> None:
    tokenizer, texts = trained[kind].tokenizer, [*texts, *nasty]
    distinct, stream = cut_words(tokenizer, lambda: iter([texts]))
    found = [[distinct[number] for number in row] for rows in stream for row in rows]
    normal = [tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text for text in texts]
    assert found == [[word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text)] for text in normal]
    assert len(set(distinct)) == len(distinct)


def test_words_are_built_once_and_mapped(tmp_path: Path, trained: dict[str, Tokenization]) -> None:
    store, filtered_id = stored(tmp_path, [{"src": "a cat", "tgt": "ein Kater"}, {"src": "", "tgt": "a cat"}])
    runner = StageRunner(store)
    words_id = get_or_build_words(runner, filtered_id, pair_of(trained["bpe"]))
    assert get_or_build_words(runner, filtered_id, pair_of(trained["bpe"])) == words_id
    assert runner.built == [words_id]
    words = load_words(store, words_id)
    assert texts_of(words["source"]) == [["a", "Ġcat"], []]
    assert texts_of(words["target"]) == [["ein", "ĠKater"], ["a", "Ġcat"]]
    assert not words["source"].numbers.flags.owndata, "mapped, not copied"
    assert sorted(path.name for path in (tmp_path / "words").iterdir()) == ["locks", words_id]


@pytest.mark.parametrize("rows", [[], [{"src": "", "tgt": ""}]], ids=["no row", "no word"])
def test_nothing_is_no_matter(tmp_path: Path, trained: dict[str, Tokenization], rows: list[dict[str, str]]) -> None:
    store, filtered_id = stored(tmp_path, rows)
    words = load_words(store, get_or_build_words(StageRunner(store), filtered_id, pair_of(trained["bpe"])))
    assert texts_of(words["source"]) == [[]] * len(rows)


def test_more_rows_than_are_cut_at_a_time_stay_in_order(
    trained: dict[str, Tokenization], monkeypatch: pytest.MonkeyPatch, as_words: Callable[..., WordIndex]
) -> None:
    monkeypatch.setattr(module, "ROWS_PER_CALL", 3)
    words = as_words(trained["bpe"].tokenizer, [f"n {number % 7}" for number in range(20)])
    assert texts_of(words) == [["n", f"Ġ{number % 7}"] for number in range(20)]


def test_a_build_that_dies_leaves_nothing(
    tmp_path: Path, trained: dict[str, Tokenization], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, filtered_id = stored(tmp_path, [{"src": "a", "tgt": "b"}])

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(module, "_write_words", die)
        with pytest.raises(KeyboardInterrupt):
            get_or_build_words(StageRunner(store), filtered_id, pair_of(trained["bpe"]))
    assert [path.name for path in (tmp_path / "words").iterdir()] == ["locks"]
    words = load_words(store, get_or_build_words(StageRunner(store), filtered_id, pair_of(trained["bpe"])))
    assert texts_of(words["target"]) == [["b"]]
