"""Prefixes of sources by part of a mixture: which pairs get which, and that the split ignores them."""

from pathlib import Path

import pyarrow as pa
import pytest

from mtx.data.filter.none import NoFilter
from mtx.data.normalise import (
    DefaultNormaliser,
    check_prefix_names,
    for_evaluation,
    untagged_message,
    without_prefixes,
)
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader

TAGS = {"de": ">>de<< ", "fr": ">>fr<< "}


def prepared(folder: Path, prefix: dict[str, str] | str) -> tuple[Store, StageIds]:
    for name, word in (("de", "Zeile"), ("fr", "ligne")):
        (folder / f"{name}.tsv").write_text("".join(f"line {n}\t{word} {n}\n" for n in range(60)))
    files = {
        name: LocalDownloader(
            path=str(folder / f"{name}.tsv"), header=False, source_language="en", target_language=name
        )
        for name in ("de", "fr")
    }
    recipe = Recipe(
        downloader=MixtureDownloader(sources=files, languages=("en", "mul")),
        held_out=HeldOut(validation=20),
        filter=NoFilter(),
        tokenizer=ByteTokenization(),
        normalise=DefaultNormaliser(source_prefix=prefix),
    )
    store = Store(root=folder / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    return store, prepare(recipe, store)


def test_each_part_has_its_prefix_and_a_sentence_is_held_out_in_all_parts(tmp_path: Path) -> None:
    store, ids = prepared(tmp_path, TAGS)
    rows = {split: list(store.repo.get(ids.split[split]).rows) for split in ("train", "validation")}
    for pair in (*rows["train"], *rows["validation"]):
        assert pair["src"].startswith(TAGS["de"] if pair["tgt"].startswith("Zeile") else TAGS["fr"])
    sentences = {split: {pair["src"].split("<< ")[1] for pair in rows[split]} for split in rows}
    assert len(rows["validation"]) == 20
    assert len(sentences["validation"]) == 10  # each with both tags
    assert not sentences["validation"] & sentences["train"]


def test_in_both_directions_no_training_pair_shares_a_side_with_a_held_out_one(tmp_path: Path) -> None:
    """Each corpus line is read both ways; some sentences have several translations."""
    path = tmp_path / "both.tsv"
    path.write_text("".join(f"line {n}\tZeile {n // 2}\n" for n in range(120)))
    ways = {"de": {"source_column": "1", "target_column": "2"}, "en": {"source_column": "2", "target_column": "1"}}
    files = {name: LocalDownloader(path=str(path), header=False, **columns) for name, columns in ways.items()}
    counts = {}
    for drop_leaks in (True, "either_side"):
        recipe = Recipe(
            downloader=MixtureDownloader(sources=files, languages=("mul", "mul")),
            held_out=HeldOut(validation=20, test=10, drop_leaks=drop_leaks),
            filter=NoFilter(),
            tokenizer=ByteTokenization(),
            normalise=DefaultNormaliser(source_prefix={"de": ">>de<< ", "en": ">>en<< "}),
        )
        store = Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)
        ids = prepare(recipe, store)
        sides = {
            split: {
                text.removeprefix(">>de<< ").removeprefix(">>en<< ")
                for pair in store.repo.get(ids.split[split]).rows
                for text in (pair["src"], pair["tgt"])
            }
            for split in ("train", "validation", "test")
        }
        counts[drop_leaks] = len(sides["train"] & (sides["validation"] | sides["test"]))
        assert sides["train"]
    assert counts[True] > 0
    assert counts["either_side"] == 0


def test_a_prefix_of_an_unknown_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"source_prefix has 'es', which is neither a part.*present: de, fr"):
        prepared(tmp_path, {"es": ">>es<< "})


def test_the_prefixes_decide_the_id_of_a_split_and_their_order_does_not(tmp_path: Path) -> None:
    """Both normalisers give the same texts, but the hashes of the split ignore only the prefixes of parts."""
    splits = [
        prepared(tmp_path, prefix)[1].split
        for prefix in (TAGS, dict(reversed(TAGS.items())), {"de": ">>x<< ", "fr": ">>x<< "}, ">>x<< ")
    ]
    assert splits[0] == splits[1]
    assert not set(splits[2].values()) & set(splits[3].values())


def test_the_longest_prefix_that_matches_is_removed_once() -> None:
    sources = [">>a", ">>de<< a", ">>de<< >>b", "c", ">>fr<< d"]
    batch = pa.record_batch([pa.array(sources, pa.large_string())] * 2, schema=PAIR_SCHEMA)
    for prefixes in ((">>", ">>de<< "), (">>de<< ", ">>")):
        (found,) = without_prefixes([batch], prefixes)
        assert found.column("src").to_pylist() == ["a", "a", ">>b", "c", "fr<< d"]
        assert found.column("tgt").to_pylist() == sources


def test_the_text_to_translate_may_have_a_prefix_and_the_log_warns_without_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    check_prefix_names(DefaultNormaliser(source_prefix={"de": ">>de<< ", "predict": ""}), ["de"], "predict")
    check_prefix_names(DefaultNormaliser(source_prefix=">>de<< "), ["de"], "predict")
    check_prefix_names(DefaultNormaliser(source_prefix={"de": ">>de<< "}), ["de"])
    assert not caplog.text
    check_prefix_names(DefaultNormaliser(source_prefix={"de": ">>de<< "}), ["de"], "predict")
    assert "no prefix for the text of datamodule.predict_from" in caplog.text
    with pytest.raises(ConfigError, match="source_prefix has 'predict'"):
        check_prefix_names(DefaultNormaliser(source_prefix={"predict": "a"}), ["de"])


def test_an_evaluation_set_has_its_own_prefix() -> None:
    tagged = DefaultNormaliser(source_prefix=TAGS, form="NFC")
    assert for_evaluation(tagged, "de", is_tagged=False) == DefaultNormaliser(source_prefix=">>de<< ", form="NFC")
    assert for_evaluation(tagged, "news", is_tagged=False) is tagged  # which warns of sources without a tag
    assert for_evaluation(tagged, "test", is_tagged=True) == DefaultNormaliser(form="NFC")
    plain = DefaultNormaliser(source_prefix="T5: ")
    assert for_evaluation(plain, "test", is_tagged=True) is for_evaluation(plain, "a", is_tagged=False) is plain


def test_sources_without_a_prefix_are_counted() -> None:
    told = untagged_message([">>de<< a", "b", " ", "c"], (">>de<< ", ">>fr<< "))
    assert told is not None
    assert "2 of 4 sources have none. Set one: \"normalise.source_prefix='>>de<< '\"" in told
    assert untagged_message([">>de<< a"], (">>de<< ",)) is None
    assert untagged_message(["a"], ()) is None
