"""Directions of translation from one corpus: which pairs each split gets, which tags, and what is refused."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx.data.direction_tags import directed_recipe, part_normaliser, set_direction
from mtx.data.filter.none import NoFilter
from mtx.data.language_groups import language_groups
from mtx.data.normalise import DefaultNormaliser, NoNormaliser
from mtx.data.preparation import Recipe, StageIds, prepare
from mtx.data.score.near_duplicates import NearDuplicatesScorer
from mtx.data.split import HeldOut
from mtx.data.split_groups import first_of_joined
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.infra.dataset.sources.translation_directions import (
    DirectionsDownloader,
    is_both_ways,
    parsed_directions,
)

BOTH = ("en-de", "de-en")
TAGS = (">>de<< ", ">>en<< ")


@dataclass(frozen=True)
class Lines(Downloader):
    """120 pairs, of which two neighbours have one target; sides name their language."""

    source: str = "en"
    target: str = "de"
    known: bool = True
    n: int = 120
    talks: bool = True

    def info(self) -> SourceInfo:
        languages = (self.source, self.target) if self.known else ("src", "tgt")
        name = f"{self.source}+{self.target}"
        return SourceInfo(
            name, languages, name, {"kind": "lines", "name": [name, self.known, self.n, self.talks]}, ("train",)
        )

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        talks = [n if self.talks else None for n in range(self.n)]
        rows = [
            {"src": f"{self.source} {n}", "tgt": f"{self.target} {n // 2}", "talk": talks[n]} for n in range(self.n)
        ]
        schema = pa.schema([*PAIR_SCHEMA, pa.field("talk", pa.int64())])
        yield from pa.Table.from_pylist(rows, schema=schema).to_batches()


def recipe(
    downloader: Downloader | None = None,
    directions: Sequence[str] | None = BOTH,
    tag: str | None = ">>{target}<< ",
    **changed: Any,
) -> Recipe:
    held_out = changed.pop("held_out", HeldOut(validation=20, test=8))
    plain = Recipe(downloader or Lines(), held_out, NoFilter(), ByteTokenization())
    return directed_recipe(replace(plain, **changed), directions, tag)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(root=tmp_path_factory.mktemp("directions"), objects=SQLiteObjectLayer, files=ArrowFileLayer)


@pytest.fixture(scope="module")
def both(store: Store) -> tuple[Recipe, StageIds]:
    made = recipe()
    return made, prepare(made, store)


def pairs(store: Store, dataset_id: str) -> list[tuple[str, str]]:
    return [(row["src"], row["tgt"]) for row in store.repo.get(dataset_id).rows]  # type: ignore[index,call-overload]


def untagged(found: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(source.removeprefix(TAGS[0]).removeprefix(TAGS[1]), target) for source, target in found]


def test_each_pair_is_in_each_direction_with_the_tag_of_its_target(store: Store, both: tuple[Recipe, StageIds]) -> None:
    made, ids = both
    assert ids.parts == BOTH
    for split in ("train", "validation", "test"):
        found = pairs(store, ids.split[split])
        assert all(source.startswith(f">>{target[:2]}<< ") for source, target in found)
        one, other = ([pair for pair in found if pair[0].startswith(tag)] for tag in TAGS)
        plain = [(source, target) for source, target in untagged(one)]
        assert plain == [(target, source) for source, target in untagged(other)]
        assert len(plain) > 0
    rows = store.repo.get(ids.text["de-en/train"]).rows
    assert [row["talk"] for row in rows] == list(range(120))  # type: ignore[index,call-overload]
    assert made.held_out.drop_leaks == "either_side"
    assert store.repo.manifest(ids.raw["de-en/train"]).languages == ("de", "en")


def test_no_training_pair_shares_a_side_with_a_held_out_one_in_any_direction(
    store: Store, both: tuple[Recipe, StageIds]
) -> None:
    _, ids = both
    sides = {
        split: {text for pair in untagged(pairs(store, ids.split[split])) for text in pair}
        for split in ("train", "validation", "test")
    }
    assert sides["train"]
    assert not sides["train"] & (sides["validation"] | sides["test"])
    assert len(pairs(store, ids.split["validation"])) == 20  # 10 pairs, each in both directions
    leaky = prepare(recipe(held_out=HeldOut(validation=20, test=8, drop_leaks=False)), store)
    shared = {text for pair in untagged(pairs(store, leaky.split["train"])) for text in pair}
    assert shared & sides["validation"]  # so that the corpus does have such pairs


def test_the_given_direction_is_stored_once_for_all_runs(store: Store, both: tuple[Recipe, StageIds]) -> None:
    alone = prepare(recipe(directions=None), store)
    assert alone.raw["train"] == both[1].raw["en-de/train"]


def test_tags_are_symbols_of_a_vocabulary_that_is_trained(store: Store) -> None:
    made = recipe(tokenizer=BPETokenization(vocab_size=280, symbols=("%s", ">>en<<")))
    assert made.tokenizer.symbols == ("%s", ">>en<<", ">>de<<")  # type: ignore[attr-defined]
    assert isinstance(recipe().tokenizer, ByteTokenization)
    assert recipe(tag="<2{source}-{target}>").normalise.source_prefix == {"en-de": "<2en-de>", "de-en": "<2de-en>"}
    ids = prepare(made, store)
    tokenizer = made.tokenizer.at(store.tokenizers.open(ids.tokenizer) / "tokenizer.json").load().tokenizer
    rows = store.repo.get(ids.encoded["train"]).rows.column("source_ids")
    first = {ids[0].as_py() for ids in rows}
    assert first == {tokenizer.token_to_id(">>de<<"), tokenizer.token_to_id(">>en<<")}


def test_prefixes_by_direction_replace_the_tags(store: Store) -> None:
    prefixes = {"en-de": "translate English to German: ", "de-en": "translate German to English: "}
    made = recipe(normalise=DefaultNormaliser(source_prefix=prefixes))
    found = pairs(store, prepare(made, store).split["train"])
    assert {source.split(": ")[0] for source, _ in found} == {text.split(": ")[0] for text in prefixes.values()}
    wrong = recipe(normalise=DefaultNormaliser(source_prefix={"en-fr": "x "}))
    with pytest.raises(ConfigError, match=r"source_prefix has 'en-fr', which is neither.*present: en-de, de-en"):
        prepare(wrong, store)


def test_one_target_language_needs_no_tag() -> None:
    assert recipe(directions=["de-en"]).normalise.source_prefix == ""
    assert recipe(directions=["de-en"]).held_out.drop_leaks is True


def test_several_target_languages_without_a_tag_are_told(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    prepare(recipe(), store)
    prepare(recipe(directions=None), store)
    assert not caplog.text
    prepare(recipe(tag=None), store)
    assert "several target languages (de, en), but sources have no tag" in caplog.text
    with pytest.raises(ConfigError, match=r"needs normalise=default, but normalise is NoNormaliser"):
        recipe(normalise=NoNormaliser())


@pytest.mark.parametrize("tag", ["{x}", "{", " ", "{0}", "{target:d} ", "{target!x} ", "{target:{source}} "])
def test_other_tags_are_refused(tag: str) -> None:
    with pytest.raises(ConfigError, match=r"datamodule\.target_tag is text with \{target\}"):
        recipe(tag=tag)


def test_different_target_languages_have_different_tags() -> None:
    with pytest.raises(ConfigError, match=r"target_tag='<2> ' gives the target languages de and en the same tag"):
        recipe(tag="<2> ")
    recipe(directions=["en-de", "fr-de", "de-en"])  # those with one target have one tag


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["ende"], "has directions of two languages with a hyphen, but has 'ende'"),
        (["en-"], "but has 'en-'"),
        (["en-de-fr"], "but has 'en-de-fr'"),
        (["en-de", "de-en", "eng-deu"], "names each direction once, but has en-de and eng-deu. Remove one"),
        (["en-en"], "has directions between two languages, but has 'en-en'"),
    ],
)
def test_other_directions_are_refused(names: list[str], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parsed_directions(names)


def test_a_direction_whose_languages_the_corpus_lacks_is_refused(store: Store) -> None:
    told = r"datamodule\.directions has en-fr, but en\+de has the languages en and de\. Set .*\[en-de,de-en\]"
    with pytest.raises(ConfigError, match=told):
        prepare(recipe(directions=["en-de", "en-fr"]), store)
    mixed = MixtureDownloader(sources={"a": Lines(), "b": Lines(target="fr")}, languages=("en", "mul"))
    with pytest.raises(ConfigError, match=r"has fr-es, but no source has these languages; present: a: en-de; b: en-fr"):
        prepare(recipe(mixed, ["en-de", "fr-en", "fr-es"]), store)
    with pytest.raises(ConfigError, match=r"has no direction for the source 'b', whose languages are en-fr"):
        prepare(recipe(mixed, BOTH), store)


def test_a_mixture_has_the_directions_of_each_source(store: Store) -> None:
    mixed = MixtureDownloader(
        sources={"a": Lines(), "b": Lines(target="fr")},
        languages=("en", "mul"),
        weights={"a": 3, "b": 1},
        caps={"a": 50},
    )
    made = recipe(mixed, ["en-de", "de-en", "fr-en"], held_out=HeldOut(validation=0.2))
    ids = prepare(made, store)
    assert ids.parts == ("a-en-de", "a-de-en", "b-fr-en")
    downloader = made.downloader.with_stored_parts(ids.parts)
    assert downloader.sampling["weights"] == {"a-en-de": 3.0, "a-de-en": 3.0, "b-fr-en": 1.0}
    assert [downloader.cap(name, "train") for name in ids.parts] == [50, 50, None]
    assert downloader.is_weighted
    assert made.downloader.info().languages == ("mul", "mul")
    groups = language_groups(downloader, ids.raw, store.repo, made.normalise)
    assert [(group.name, group.parts) for group in groups] == [("en-de", (0,)), ("de-en", (1,)), ("fr-en", (2,))]
    counted: dict[str, int] = {}
    assert sum(batch.num_rows for batch in made.downloader.batches("train", counted)) == 50 + 50 + 120
    sentences = {
        split: {text for pair in pairs(store, ids.split[split]) for text in untagged([pair])[0] if text[:2] == "en"}
        for split in ("train", "validation")
    }
    assert not sentences["train"] & sentences["validation"]  # the English sentences of both sources are the same


def test_groups_by_tag_if_parts_have_the_same_languages(store: Store) -> None:
    mixed = MixtureDownloader(sources={"a": Lines(), "b": Lines(n=60), "c": Lines(n=30)})
    made = recipe(mixed, None, normalise=DefaultNormaliser(source_prefix={"a": "<a> ", "b": "<b> ", "c": "<a> "}))
    ids = prepare(made, store)
    found = language_groups(mixed, ids.raw, store.repo, made.normalise)
    assert [(group.name, group.parts) for group in found] == [("a+c", (0, 2)), ("b", (1,))]
    assert language_groups(mixed, ids.raw, store.repo, DefaultNormaliser()) == []


def test_unknown_languages_are_told_with_one_direction_and_asked_for_with_two(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Lines(known=False)
    (one,) = DirectionsDownloader(source, (("en", "de"),)).parts.values()
    assert one.info().languages == ("en", "de")
    assert next(one.batches("train", {}))["src"][3].as_py() == "en 3"
    assert "the first side of en+de is en, and the second de, as in datamodule.directions" in caplog.text
    for directions in (["de-en", "en-de"], ["en-de", "fr-de"]):
        with pytest.raises(
            ConfigError, match=r"does not state both languages, so datamodule\.directions cannot choose"
        ):
            DirectionsDownloader(source, parsed_directions(directions)).info()
    (other,) = DirectionsDownloader(Lines("fr", "tgt"), (("en", "de"),)).parts.values()
    with pytest.raises(ConfigError, match=r"fr\+tgt has the languages fr and tgt"):
        other.info()
    (swapped,) = DirectionsDownloader(Lines("src", "en"), (("en", "de"),)).parts.values()
    assert next(swapped.batches("train", {}))["src"][3].as_py() == "en 1"
    assert not is_both_ways(parsed_directions(["en-de", "en-fr"]))


def test_a_source_whose_languages_fit_two_directions_is_refused() -> None:
    ways = parsed_directions(["en-zh_Hans", "zh_Hans-en", "en-zh_Hant"])
    told = r"en-zh may be en-zh_Hans or en-zh_Hant, which are different directions"
    with pytest.raises(ConfigError, match=told):
        DirectionsDownloader(Lines(target="zh"), ways).info()
    with pytest.raises(ConfigError, match=told):
        set_direction("news", ("en", "zh"), ways)
    assert set_direction("news", ("en", "zh_Hant"), ways) == ("en", "zh_Hant")


def both_ways(store: Store, split_id: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the pairs of each direction, those of the second one with swapped sides."""
    found = untagged(pairs(store, split_id))
    return (
        sorted(pair for pair in found if pair[0].startswith("en")),
        sorted((source, target) for target, source in found if target.startswith("de")),
    )


@pytest.mark.parametrize("by", ["cluster", "talk"])
def test_groups_are_held_out_in_both_directions(store: Store, monkeypatch: pytest.MonkeyPatch, by: str) -> None:
    """Pairs without a talk, and without near-duplicates, are groups by their sentence."""

    def alone(self: Any, corpus: Any, num_pairs: int, scratch: Any) -> dict[str, pa.Array]:
        numbers = pa.array(range(num_pairs), pa.int64())
        return {"score": pa.array([0.0] * num_pairs), "cluster": numbers, "size": numbers}

    monkeypatch.setattr(NearDuplicatesScorer, "corpus_columns", alone)
    held_out = HeldOut(validation=20, drop_leaks=False, by=by)
    ids = prepare(recipe(Lines(n=118, talks=False), held_out=held_out), store)
    one, other = both_ways(store, ids.split["validation"])
    assert one == other
    assert len(one) == 10


def test_a_cluster_in_either_direction_joins_groups() -> None:
    clusters = np.array([0, 0, 2, 3, 4, 2, 6])
    sentences = np.array([10, 11, 12, 13, 11, 14, 15], dtype=np.uint64)
    assert first_of_joined(clusters, sentences).tolist() == [0, 0, 2, 3, 0, 2, 6]
    assert first_of_joined(clusters[:0], sentences[:0]).tolist() == []


def test_a_share_has_a_pair_in_both_directions(store: Store) -> None:
    ids = prepare(recipe(share=0.5, held_out=HeldOut()), store)
    one, other = both_ways(store, ids.filtered["train"])
    assert one == other
    assert 30 < len(one) < 90


def test_a_validation_set_has_the_tag_of_its_direction(store: Store) -> None:
    known = Lines(source="de", target="en", n=7)
    ids = prepare(recipe(validation_sets={"news": known}), store)
    assert pairs(store, ids.beside_text["news"])[0] == (">>en<< de 0", "en 0")
    ways = [("en", "de"), ("de", "en")]
    with pytest.raises(ConfigError, match=r"direction of the validation set news is not known"):
        prepare(recipe(validation_sets={"news": replace(known, known=False)}), store)
    with pytest.raises(ConfigError, match=r"set news translates en to fr, which is no direction of the training"):
        set_direction("news", ("en", "fr"), ways)
    assert set_direction("news", ("deu", "eng"), ways) == ("de", "en")
    assert set_direction("news", ("src", "tgt"), ways[:1]) == ("en", "de")
    assert set_direction("news", ("en", "fr"), []) is None
    tagged = DefaultNormaliser(source_prefix={"en-de": "x ", "news": "y "})
    assert part_normaliser(tagged, "news", {"news": ("en", "de")}).source_prefix == "y "
