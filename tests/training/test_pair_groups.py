"""Training pairs grouped by a column: counted in the report, drawn by weight or temperature, exact to the pair."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mtx import compose_datamodule
from mtx.errors import ConfigError
from mtx.infra.dal.arrow_rows import Rows
from mtx.training.datamodule import TranslationDataModule
from mtx.training.weighted_pair_groups import NO_VALUE, Grouping, grouping

DOMAINS = ["news"] * 30 + ["web"] * 90


def rows(**columns: pa.Array) -> Rows:
    return Rows(pa.table(columns))


@pytest.mark.parametrize(
    ("values", "names", "of_row"),
    [
        (pa.array(["b", "a", None, "b"]), (NO_VALUE, "a", "b"), [2, 1, 0, 2]),
        (pa.array(["ß", "日本"], pa.large_string()), ("ß", "日本"), [0, 1]),
        (pa.array([3, 12, 3], pa.int16()), ("12", "3"), [1, 0, 1]),
        (pa.array([True, False]), ("false", "true"), [1, 0]),
        (pa.array([], pa.string()), (), []),
    ],
)
def test_each_value_of_the_column_is_a_group(values: pa.Array, names: tuple[str, ...], of_row: list[int]) -> None:
    groups = Grouping("tag").groups(rows(tag=values))
    assert groups.names == names
    assert groups.of_row.dtype == np.uint16
    assert groups.of_row.tolist() == of_row


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("tga", pa.array(["a"]), "but 'tga' is none. Choose one of tag; downloader.columns says"),
        ("tag", pa.array([0.5]), "needs a column of text, integers or Booleans, but 'tag' holds double"),
        ("tag", pa.array([["a"]]), "but 'tag' holds list<item: string>"),
        ("tag", pa.array(range(1001)), "at most 1,000 values, but 'tag' has 1,001"),
    ],
)
def test_a_column_that_has_no_groups_is_refused(column: str, values: pa.Array, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Grouping(column).groups(rows(tag=values))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((None, {"a": 1.0}, None, False), "need datamodule.group_by"),
        ((None, None, 2.0, False), "need datamodule.group_by"),
        (("tag", {"a": 1.0}, 2.0, False), "both set the shares of an epoch"),
        (("tag", {"a": 1.0}, None, True), "drawn either by the sources of a mixture or by datamodule.group_by"),
    ],
)
def test_options_that_contradict_one_another_are_refused(options: tuple[Any, ...], message: str) -> None:
    column, weights, temperature, mixture = options
    with pytest.raises(ConfigError, match=message):
        grouping(column, weights, temperature, mixture_is_weighted=mixture)
    assert grouping(None, None, None, mixture_is_weighted=mixture) is None


def data(folder: Path, *overrides: str) -> TranslationDataModule:
    corpus = folder / "corpus.jsonl"
    if not corpus.exists():
        pairs = [
            {"src": f"{name} {row}", "tgt": f"{name} {row}".upper(), "domain": name} for row, name in enumerate(DOMAINS)
        ]
        corpus.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    made = compose_datamodule(
        [
            *("downloader=local", f"downloader.path={corpus}", "downloader.columns=[domain]"),
            *("downloader.source_language=en", "downloader.target_language=xx", f"storage.root={folder / 'store'}"),
            *("tokenizer=byte", "filter=none", "datamodule.validation=null", "datamodule.test=null"),
            *("datamodule.num_workers=0", "datamodule.group_by=domain", *overrides),
        ]
    )
    made.prepare_data()
    made.setup()
    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("groups")


def drawn(made: TranslationDataModule, epochs: int) -> list[Counter[str]]:
    loader = made.train_dataloader()
    counts = []
    for _ in range(epochs):
        counts.append(Counter(DOMAINS[row] for batch in loader for row in batch["row_ids"].tolist()))
    return counts


def test_without_weights_an_epoch_has_every_pair_once_and_groups_are_counted(folder: Path) -> None:
    made = data(folder)
    assert drawn(made, 1) == [Counter(DOMAINS)]
    assert made.groups is not None
    assert made.groups.names == ("news", "web")
    assert np.bincount(made.groups.of_row).tolist() == [30, 90]


@pytest.mark.parametrize(
    ("option", "quotas"),
    [
        ("datamodule.group_weights={news: 3, web: 1}", {"news": 90, "web": 30}),
        ("datamodule.group_weights={news: 0.5, web: 0.5}", {"news": 60, "web": 60}),
        ("datamodule.group_temperature=1", {"news": 30, "web": 90}),
        ("datamodule.group_temperature=1e9", {"news": 60, "web": 60}),
    ],
)
def test_an_epoch_draws_each_group_as_often_as_its_share_says(
    folder: Path, option: str, quotas: dict[str, int]
) -> None:
    assert drawn(data(folder, option), 3) == [Counter(quotas)] * 3


def test_weights_name_all_groups_and_no_other(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"\(news, web\), but it lacks web and wbe is none"):
        data(folder, "datamodule.group_weights={news: 3, wbe: 1}")


def test_a_group_without_a_pair_that_fits_is_named(folder: Path) -> None:
    made = data(folder, "datamodule.group_weights={news: 1, web: 1000}")
    with pytest.raises(ConfigError, match=r"group domain=news.* Raise its weight in datamodule.group_weights, or drop"):
        list(made.train_dataloader())


def test_a_checkpoint_of_other_groups_is_not_resumed(folder: Path) -> None:
    begun = data(folder, "datamodule.group_weights={news: 3, web: 1}")
    next(iter(begun.train_dataloader()))
    state = begun.state_dict()
    data(folder, "datamodule.group_weights={news: 3, web: 1}").load_state_dict(state)
    with pytest.raises(ConfigError, match=r"datamodule\.group_weights\.news was 3\.0 and is 1\.0"):
        data(folder, "datamodule.group_weights={news: 1, web: 1}").load_state_dict(state)


def test_weighted_groups_do_not_go_with_fixed_shapes(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs the same pairs in every epoch, but datamodule\.group_weights"):
        data(folder, "sampler=static_shapes", "datamodule.group_temperature=2")
