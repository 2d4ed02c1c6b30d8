"""The name of a corpus changes no content: what is stored is reused, and each run uses its own name."""

import shutil
from pathlib import Path
from typing import Any

import pytest

import mtx
from mtx.data.preparation import StageIds
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader

SMALL = ["tokenizer=byte", "filter=none", "datamodule.validation=null", "datamodule.test=null"]
LOCAL = ["downloader=local", "downloader.path=lamps.tsv", "downloader.header=false"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamps.tsv").write_text("The lamp is on.\tDie Lampe ist an.\nThe cup is blue.\tDie Tasse ist blau.\n")
    (tmp_path / "lamps.en").write_text("The lamp is on.\n")
    (tmp_path / "lamps.de").write_text("Die Lampe ist an.\n")
    shutil.copy("lamps.tsv", "cups.tsv")
    return tmp_path


def ids_of(overrides: list[str]) -> StageIds:
    dm = mtx.compose_datamodule([*SMALL, *overrides, "storage.root=store"])
    dm.prepare_data()
    assert dm.ids is not None
    return dm.ids


def test_a_run_has_its_own_name_for_text_that_is_stored() -> None:
    before, after = ids_of([*LOCAL, "downloader.name=spring"]), ids_of([*LOCAL, "downloader.name=autumn"])
    assert after.raw == before.raw
    assert after.encoded == before.encoded
    assert (before.name, after.name) == ("spring", "autumn")


TSV: dict[str, Any] = {"path": "lamps.tsv", "header": False}
MIXED = {"a": TSV}
ALIGNED = {"source_path": "lamps.en", "target_path": "lamps.de"}
NAMES: dict[str, tuple[Downloader, Downloader, str]] = {
    "two names": (LocalDownloader(**TSV, name="spring"), LocalDownloader(**TSV, name="autumn"), "autumn"),
    "a name and then none": (LocalDownloader(**TSV, name="spring"), LocalDownloader(**TSV), "lamps"),
    "none and then a name": (LocalDownloader(**TSV), LocalDownloader(**TSV, name="Frühling 2"), "Frühling 2"),
    "a renamed file": (LocalDownloader(**TSV), LocalDownloader(**TSV | {"path": "cups.tsv"}), "cups"),
    "aligned files": (LocalDownloader(**ALIGNED), LocalDownloader(**ALIGNED, name="autumn"), "autumn"),
    "a mixture": (
        MixtureDownloader(sources={"a": TSV}),
        MixtureDownloader(sources={"a": TSV}, name="autumn"),
        "autumn",
    ),
}


@pytest.mark.parametrize(("first", "second", "name"), NAMES.values(), ids=NAMES)
def test_a_name_is_no_part_of_the_identity(first: Downloader, second: Downloader, name: str) -> None:
    before, after = first.info(), second.info()
    assert after.name == name != before.name
    assert after.identity == before.identity
