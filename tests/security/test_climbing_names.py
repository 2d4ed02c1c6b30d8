"""Names that climb out of the store, and links planted in it."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.validation_sets import validation_downloaders
from mtx.errors import ConfigError, DamagedError, MtxError, StoreError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.protocols import NAME_PATTERN, checked_name
from mtx.infra.dal.sqlite import SQLiteObjectLayer

CLIMBING = [
    *("", ".", "..", "../x", "../../etc/passwd", "/etc/passwd", "a/b", "a/../../b", "a\\..\\b", "~", "~/x"),
    *("a\0b", "\0", "x\n", "-rf", ".hidden", "a" * 152, "a" * 100_000, "ä", "a b", "\u2215x", "C:x", "a:b", "\ud800"),
]
ROWS = [{"src": "a", "tgt": "b"}]


def repos(root: Path) -> list[DatasetRepo]:
    return [
        DatasetRepo(fal=ArrowFileLayer(location=root), oal=SQLiteObjectLayer(location=root)),
        DatasetRepo(fal=FileAccessLayer(location=root), oal=ObjectAccessLayer(location=root)),
    ]


def dataset(name: str) -> TranslationDataset:
    return TranslationDataset(id=name, name="x", stage="raw", split="train", languages=("en", "de"), data=ROWS)


@pytest.mark.parametrize("name", CLIMBING, ids=lambda name: ascii(name)[:20])
def test_every_way_into_the_store_refuses_a_name_that_climbs(tmp_path: Path, name: str) -> None:
    root = tmp_path / "in" / "store"
    for repo in repos(root):
        ways: list[Callable[[], Any]] = [
            partial(repo.oal.create, name, {}),
            *(partial(way, name) for way in (repo.oal.read, repo.oal.delete, repo.oal.exists)),
            partial(repo.fal.create, name, ROWS),
            *(partial(way, name) for way in (repo.fal.read, repo.fal.delete, repo.fal.exists, repo.fal.sha256)),
            lambda repo=repo: repo.fal.lock(name).__enter__(),  # type: ignore[misc]  # no type of a default
            partial(repo.get, name),
            partial(repo.remove, name),
        ]
        if name:  # without an id of its own, a dataset is named by its content
            ways.append(partial(repo.add, dataset(name)))
        for way in ways:
            with pytest.raises(StoreError, match="is not a valid name in a store"):
                way()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@settings(deadline=None)
@given(st.text(max_size=200))
def test_a_name_that_is_taken_stays_in_its_folder(name: str) -> None:
    try:
        checked_name(name)
    except StoreError:
        return
    assert NAME_PATTERN.fullmatch(name)
    for suffix in ("", ".arrow", ".jsonl", ".lock"):
        path = os.path.normpath(f"/store/{name}{suffix}")
        assert os.path.dirname(path) == "/store"  # noqa: PTH120  # as the system reads it, without pathlib's help
        assert len(os.fsencode(os.path.basename(path))) <= 255  # noqa: PTH119


@pytest.mark.parametrize("name", ["../x", "a/b", "a.b", "", "train", "a=b", "\x1b[2J"])
def test_names_of_validation_sets_go_into_no_path(name: str) -> None:
    with pytest.raises(ConfigError, match=r"names in datamodule\.validation_sets must start with a letter"):
        validation_downloaders({name: "file.jsonl"})


def test_a_dataset_called_like_a_path_is_stored_by_its_hash(tmp_path: Path) -> None:
    root = tmp_path / "in" / "store"
    for number, repo in enumerate(repos(root)):
        made = TranslationDataset(
            name="../../outside", stage="raw", split="train", languages=("../en", "/de"), data=[*ROWS * (number + 1)]
        )
        assert repo.add(made).id.startswith("raw-train-")
    assert {path.name for path in tmp_path.iterdir()} == {"in"}
    assert {path.name for path in (tmp_path / "in").iterdir()} == {"store"}


def test_a_folder_that_is_a_link_is_a_store_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    for repo in repos(tmp_path / "link"):
        added = repo.add(dataset(f"raw-train-{type(repo.fal).__name__}"))
        assert list(repo.get(added.id).rows) == ROWS


@pytest.mark.parametrize("number", [0, 1])
def test_a_link_planted_where_rows_go_is_replaced_and_what_it_points_to_stays(tmp_path: Path, number: int) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "store"
    root.mkdir()
    repo = repos(root)[number]
    for suffix in (".arrow", ".jsonl", ".schema", ".types", ".types.json"):
        (root / f"raw-train-1{suffix}").symlink_to(victim)
    assert list(repo.add(dataset("raw-train-1")).rows) == ROWS
    repo.remove("raw-train-1")
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("number", [0, 1])
def test_a_link_planted_for_rows_that_are_stored_is_found_to_be_damage(tmp_path: Path, number: int) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root:x:0:0:secret words\n" * 9)
    root = tmp_path / "store"
    repo = repos(root)[number]
    repo.add(dataset("raw-train-1"))
    (rows,) = [path for path in root.glob("raw-train-1.*") if path.suffix in (".arrow", ".jsonl")]
    rows.unlink()
    rows.symlink_to(secret)
    with pytest.raises(DamagedError) as caught:
        repo.get("raw-train-1")
    assert "secret words" not in str(caught.value)


@pytest.mark.parametrize("number", [0, 1])
def test_a_link_planted_for_a_lock_does_not_empty_what_it_points_to(tmp_path: Path, number: int) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    root = tmp_path / "store"
    (root / "locks").mkdir(parents=True)
    for name in ("locks/raw-train-1.lock", "manifests.lock"):
        (root / name).symlink_to(victim)
    with suppress(MtxError):  # refusing is fine, too
        repos(root)[number].add(dataset("raw-train-1"))
    assert victim.read_text() == "precious"
