from pathlib import Path

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtx.data.dataset import TranslationDataset
from mtx.data.store import VERSION_FILE, Store
from mtx.errors import ConfigError, DamagedError, NewerFormatError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer

CONF = Path(__file__).parents[2] / "conf" / "storage"
OPTIONS = sorted(path.stem for path in CONF.glob("*.yaml"))


def store_of(option: str) -> Store:
    store = instantiate(OmegaConf.load(CONF / f"{option}.yaml"))
    assert isinstance(store, Store)
    return store


@pytest.mark.parametrize(
    ("option", "objects", "files"),
    [
        ("sqlite_arrow", SQLiteObjectLayer, ArrowFileLayer),
        ("shelve_jsonl", ObjectAccessLayer, FileAccessLayer),
        ("files_arrow", JSONFileObjectLayer, ArrowFileLayer),
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
    folder = "datasets-files" if option == "files_arrow" else "datasets"
    assert {path.name for path in store.root.iterdir()} == {folder}


def test_without_the_environment_variable_the_store_is_in_the_home_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTX_STORE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_of("sqlite_arrow").root == tmp_path / ".cache" / "mtx"


def test_options_differ_in_their_layers_alone() -> None:
    options = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CONF.glob("*.yaml"))]
    assert len({option["root"] for option in options}) == 1
    keys = ("_target_", "root", "cache", "cache_gb", "objects", "files", "datasets")
    assert {tuple(option) for option in options} == {keys}
    by_payload = {(option["files"]["_target_"], option["datasets"]) for option in options}
    assert len(by_payload) == len(options), "two options with the same payload would take each other's for leftovers"


def test_the_folder_for_temporary_files_is_made_when_asked_for(tmp_path: Path) -> None:
    store = Store(root=tmp_path / "root", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    assert store.scratch() == tmp_path / "root" / "scratch"
    assert store.scratch().is_dir()


def test_one_root_can_hold_all_options_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTX_STORE", str(tmp_path))
    for option in OPTIONS:
        rows = [{"src": option, "tgt": "b"}]
        dataset = TranslationDataset(id="one", name="s", stage="raw", split="train", languages=("a", "b"), data=rows)
        store_of(option).repo.add(dataset)
    found = {option: store_of(option).repo.get("one").data[0]["src"] for option in OPTIONS}  # type: ignore[index]
    assert found == {option: option for option in found}


# The version of the layout


def dataset_in(store: Store, name: str = "one") -> TranslationDataset:
    rows = [{"src": "a", "tgt": "b"}]
    return store.repo.add(
        TranslationDataset(id=name, name="s", stage="raw", split="train", languages=("a", "b"), data=rows)
    )


def files_in(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_nothing_is_written_into_a_store_of_a_newer_mtx(tmp_path: Path) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    dataset_in(store)
    (tmp_path / VERSION_FILE).write_text('{"format_version": 7}')
    before = {name for name in files_in(tmp_path) if not name.endswith(".lock")}
    message = (
        rf"the store {tmp_path} has format version 7, but this mtx knows versions 1 to 1. A newer mtx wrote it, "
        r"and nothing was changed. Upgrade mtx, or use another store with storage.root=FOLDER"
    )

    def build() -> TranslationDataset:
        raise AssertionError("nothing is built that could not be stored")

    for write in (lambda: dataset_in(store, "two"), lambda: store.repo.get_or_build("two", build)):
        with pytest.raises(NewerFormatError, match=message):
            write()
    assert {name for name in files_in(tmp_path) if not name.endswith(".lock")} == before


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "which tells the store's version, cannot be read: the error is at line 1, column 2"),
        ("[1]", "which tells the store's version, holds no JSON object"),
        ('{"format_version": true}', "must be a number from 1 to 1, but is True"),
    ],
)
def test_a_marker_that_cannot_be_read_is_no_leave_to_write(tmp_path: Path, content: str, message: str) -> None:
    store = Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)
    (tmp_path / VERSION_FILE).write_text(content)
    with pytest.raises(DamagedError, match=message):
        dataset_in(store)


def test_a_store_with_a_marker_of_this_version_is_written_to(tmp_path: Path) -> None:
    (tmp_path / VERSION_FILE).write_text('{"format_version": 1}')
    assert dataset_in(Store(root=tmp_path, objects=SQLiteObjectLayer, files=ArrowFileLayer)).n == 1


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "corpus.tsv").touch()
    with pytest.raises(ConfigError, match=r"storage\.root is a folder, but .*corpus\.tsv is a file\. Set"):
        Store(root=tmp_path / "corpus.tsv", objects=SQLiteObjectLayer, files=ArrowFileLayer)
