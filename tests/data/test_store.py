from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

CONF = Path(__file__).parents[2] / "conf" / "storage"


def store_of(option: str) -> Store:
    store = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))
    assert isinstance(store, Store)
    return store


@pytest.mark.parametrize(
    ("option", "objects", "files"),
    [
        ("sqlite_arrow", SQLiteObjectLayer, ArrowFileLayer),
        ("shelve_jsonl", ObjectAccessLayer, FileAccessLayer),
    ],
)
def test_each_option_keeps_datasets_by_its_layers_under_one_root(
    option: str, objects: type, files: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MTX_STORE", str(tmp_path / "root"))
    store = store_of(option)
    assert (type(store.repo.oal), type(store.repo.fal)) == (objects, files)
    assert store.tokenizers.location == tmp_path / "root" / "tokenizers"
    assert store.words.location == tmp_path / "root" / "words"
    assert not store.root.exists()  # made when something is first written
    rows = [{"src": "a", "tgt": "b"}]
    dataset = TranslationDataset(name="small", stage="raw", split="train", languages=("en", "de"), data=rows)
    assert store_of(option).repo.add(dataset) == store.repo.get(dataset.id)
    assert {path.name for path in store.root.iterdir()} == {"datasets"}


def test_without_the_environment_variable_the_store_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTX_STORE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_of("sqlite_arrow").root == tmp_path / ".cache" / "mtx"


def test_options_differ_in_their_layers_alone() -> None:
    options = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONF.glob("*.yaml"))]
    assert len({option["root"] for option in options}) == 1
    assert {tuple(option) for option in options} == {("_target_", "root", "objects", "files")}


def test_the_folder_for_temporary_files_is_made_when_asked_for(tmp_path: Path) -> None:
    store = Store(root=tmp_path / "root", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    assert store.scratch() == tmp_path / "root" / "scratch"
    assert store.scratch().is_dir()


def test_one_root_can_hold_both_options_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTX_STORE", str(tmp_path))
    for option in ("sqlite_arrow", "shelve_jsonl"):
        rows = [{"src": option, "tgt": "b"}]
        dataset = TranslationDataset(id="one", name="s", stage="raw", split="train", languages=("a", "b"), data=rows)
        store_of(option).repo.add(dataset)
    found = {option: store_of(option).repo.get("one").data[0]["src"] for option in ("sqlite_arrow", "shelve_jsonl")}  # type: ignore[index]
    assert found == {option: option for option in found}
