"""Subclasses of mtx's filters with settings of any type, and filters that call others."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mtx.app.override_errors import check_options
from mtx.components.check_and_build import build, check_config
from mtx.components.checked_options import component
from mtx.components.identity import identity
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.filter_protocol import PairFilter, count_dropped
from mtx.data.filter.none import NoFilter
from mtx.errors import ConfigError

PAIRS = pa.table(
    {
        "src": pa.array(["The lamp is green.", "The cup is blue.", "The cup is blue.", ""], pa.large_string()),
        "tgt": pa.array(["Die Lampe ist grün.", "Die Tasse ist blau.", "Die Tasse ist blau.", "x"], pa.large_string()),
    }
)


@dataclass(frozen=True, kw_only=True)
class Extended(DefaultFilter):
    """The default filter with settings of many types."""

    version: ClassVar[int] = 1

    word: str = "lamp"
    words: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    is_strict: bool = False
    share: float | None = None
    path: Path | None = None
    anything: Any = None

    def _rules(self, source: Any, target: Any) -> Iterator[Any]:
        yield from super()._rules(source, target)
        yield "word", pc.match_substring(source, self.word)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"word": "cup"},
        {"words": ("a", "b")},
        {"weights": {"en": 0.5}},
        {"is_strict": True},
        {"share": 0.5},
        {"path": Path("a")},
        {"anything": [1, "a"]},
        {"max_chars": 5, "word": "x"},
    ],
)
def test_a_subclass_has_settings_of_any_type(settings: dict[str, Any]) -> None:
    made = Extended(**settings)
    dropped: dict[str, int] = {}
    list(made.apply(PAIRS, dropped))
    assert (made.word, made.max_chars) == (settings.get("word", "lamp"), settings.get("max_chars", 2000))


def test_the_rules_of_the_base_class_and_of_the_subclass_apply() -> None:
    dropped: dict[str, int] = {}
    kept = pa.Table.from_batches(list(Extended().apply(PAIRS, dropped)))
    assert kept["src"].to_pylist() == ["The cup is blue."]
    assert dropped == {"empty_source": 1, "word": 1, "duplicate": 1}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"word": 5}, "filter.word is a text, but is 5"),
        ({"is_strict": "yes"}, "filter.is_strict is true or false, but is 'yes'"),
        ({"max_chars": "long"}, "filter.max_chars is an integer of at least 0, or null, but is 'long'"),
        ({"wrd": "lamp"}, "filter.wrd is not a key of Extended. Its keys: word"),
    ],
)
def test_a_config_is_checked_by_the_fields_of_both(settings: dict[str, Any], message: str) -> None:
    target = f"{Extended.__module__}.Extended"
    check_config({"filter": {"_target_": target, "word": "lamp"}})
    with pytest.raises(ConfigError) as error:
        check_config({"filter": {"_target_": target, **settings}})
    assert str(error.value).startswith(message)


@dataclass(frozen=True, kw_only=True)
class WithoutLamps(PairFilter):
    """Drops pairs about lamps."""

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in pair_batches(pairs):
            found = pc.match_substring(batch.column("src"), "lamp")
            count_dropped(dropped, "lamp", found.to_numpy(zero_copy_only=False), batch)
            yield batch.filter(pc.invert(found))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 1, 1), (2,), ()])
def test_filters_are_applied_in_turn(order: tuple[int, ...]) -> None:
    filters = (DefaultFilter(), WithoutLamps(), NoFilter())
    dropped: dict[str, int] = {}
    pairs: Any = PAIRS
    for place in order:
        pairs = filters[place].apply(pairs, dropped)
    kept = pa.Table.from_batches(list(pair_batches(pairs)))["src"].to_pylist()
    assert ("The lamp is green." in kept) == (1 not in order)
    assert ("" in kept) == (0 not in order)
    assert len(kept) + sum(dropped.values()) == len(PAIRS)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("filter=[default,none]", "filter=default, or compare them in a sweep: -m filter=default,none. To apply"),
        ("filter=['default', none]", "filter=default, or compare them in a sweep: -m filter=default,none. To apply"),
        ("sampler=[random,bucket]", "sampler=random, or compare them in a sweep: -m sampler=random,bucket"),
        ("tokenizer=[bpe]", "tokenizer=bpe"),
        ("filter=[]", "filter=NAME. To apply several filters in turn"),
    ],
)
def test_a_list_of_options_is_told(typed: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        check_options([typed])
    group = typed.partition("=")[0]
    assert f"{group} takes one option, but is a list. Choose one, such as {message}" in str(error.value)


PLAIN: dict[str, Any] = {
    "text": "a",
    "whole": 3,
    "share": 0.5,
    "is_on": True,
    "words": ["a", "b"],
    "weights": {"en": {"low": 0.5}, "de": None},
    "nothing": None,
}


@component("filter")
class WithPlainFields(PairFilter):
    """A filter with a field of each plain type."""

    version: ClassVar[int] = 1

    text: str
    whole: int = 0
    share: float | None = None
    is_on: bool = False
    words: list[str] = field(default_factory=list)
    weights: dict[str, dict[str, float] | None] = field(default_factory=dict)
    nothing: str | None = "a"

    def apply(self, pairs: Pairs, dropped: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield from pair_batches(pairs)


def test_a_filter_has_fields_of_any_plain_type() -> None:
    """Each arrives in the filter as the config gives it, is part of its id, and survives a process of its own."""
    config = {"filter": {"_target_": f"{__name__}.WithPlainFields", **PLAIN}}
    check_config(config)
    made = build(config, "filter")
    assert {name: getattr(made, name) for name in PLAIN} == PLAIN
    described = identity(made)
    assert {name: described[name] for name in PLAIN} == PLAIN
    assert identity(pickle.loads(pickle.dumps(made))) == described
    for name, value in (("words", ["a"]), ("weights", {}), ("nothing", "x"), ("is_on", False)):
        assert identity(build({"filter": {**config["filter"], name: value}}, "filter")) != described


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("whole", "3", "filter.whole is an integer, but is '3'"),
        ("words", "a", "filter.words is a list, but is 'a'"),
        ("words", [1], "filter.words is a list, but is [1]"),
        ("is_on", 1, "filter.is_on is true or false, but is 1"),
        ("text", None, "filter.text is a text, but is None"),
    ],
)
def test_a_field_of_another_type_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        WithPlainFields(**{**PLAIN, name: value})
    assert str(error.value).startswith(message)
