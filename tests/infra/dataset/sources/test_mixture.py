"""MixtureDownloader: its sources and what they agree on, caps, and each mistake with its message."""

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.components.identity import digest
from mtx.errors import ConfigError, MtxError, SourceError
from mtx.infra.dataset.download import Downloader, SourceInfo
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.infra.dataset.sources.sample import SampleDownloader


def write(folder: Path, name: str, num_pairs: int, header: str = "src\ttgt") -> str:
    lines = [header, *(f"{name} {i}\t{name.upper()} {i}" for i in range(num_pairs))]
    path = folder / f"{name}.tsv"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    return {"news": write(tmp_path, "news", 3), "web": write(tmp_path, "web", 5)}


def texts(mixture: MixtureDownloader, split: str = "train") -> list[str]:
    return [row["src"] for row in mixture.download(split)]


def test_sources_come_one_after_the_other_up_to_their_caps(files: dict[str, Any]) -> None:
    assert texts(MixtureDownloader(sources=files)) == [f"news {i}" for i in range(3)] + [f"web {i}" for i in range(5)]
    capped = MixtureDownloader(sources=files, caps={"web": 2, "news": 9})
    assert texts(capped) == ["news 0", "news 1", "news 2", "web 0", "web 1"]


def test_n_goes_for_sources_that_have_no_limit_of_their_own(files: dict[str, Any]) -> None:
    limited = MixtureDownloader(sources={"news": files["news"], "web": {"path": files["web"], "n": 3}}, n=1)
    assert texts(limited) == ["news 0", "web 0", "web 1", "web 2"]
    assert limited.parts["news"] == LocalDownloader(path=files["news"], n=1), "so it is stored as that alone"


@dataclass(frozen=True)
class Endless(Downloader):
    def info(self) -> SourceInfo:
        raise NotImplementedError

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        raise NotImplementedError


def test_n_needs_sources_that_take_one(files: dict[str, Any]) -> None:
    told = (
        r"downloader\.n needs sources with an option n, but downloader\.sources\.own, a Endless, has no option n\. "
        r"Set downloader\.n=null, and limit single sources with \+downloader\.sources\.NAME\.n=COUNT"
    )
    with pytest.raises(ConfigError, match=told):
        MixtureDownloader(sources={**files, "own": Endless()}, n=1)
    with pytest.raises(ConfigError, match=r"downloader\.n is an integer of at least 1, or null, but is 0"):
        MixtureDownloader(sources=files, n=0)


def test_a_source_is_a_file_settings_or_a_downloader(files: dict[str, Any]) -> None:
    mixture = MixtureDownloader(
        sources={
            "one": Path(files["news"]),
            "two": {"path": files["web"], "n": 2},
            "three": LocalDownloader(path=files["web"], n=1),
        }
    )
    assert texts(mixture) == ["news 0", "news 1", "news 2", "web 0", "web 1", "web 0"]
    assert mixture.info().name == "one+two+three"
    assert mixture.parts["one"] == LocalDownloader(path=files["news"])


def test_it_pickles_and_a_weight_changes_no_identity(files: dict[str, Any]) -> None:
    mixture = MixtureDownloader(sources=files)
    assert pickle.loads(pickle.dumps(mixture)).info() == mixture.info()
    weighted = MixtureDownloader(sources=files, weights={"news": 1, "web": 3})
    assert weighted.info() == mixture.info()
    others = [
        MixtureDownloader(sources=files, caps={"web": 2}),
        MixtureDownloader(sources=dict(reversed(files.items()))),
        MixtureDownloader(sources={"news": files["news"]}),
    ]
    assert len({digest(one.info().identity) for one in [mixture, *others]}) == 4


def test_a_split_is_what_the_sources_have_of_it(tmp_path: Path, files: dict[str, Any]) -> None:
    split = {"train": files["web"], "validation": write(tmp_path, "held", 2)}
    mixture = MixtureDownloader(sources={"news": files["news"], "web": {"path": split}}, caps={"web": 1})
    assert mixture.info().splits == ("train", "validation")
    assert texts(mixture, "validation") == ["held 0", "held 1"], "caps are for training"
    with pytest.raises(SourceError, match=r"no source of the mixture has a split 'test'; present: train, validation"):
        texts(mixture, "test")


def languages(files: dict[str, Any], **said: tuple[str, str]) -> dict[str, Any]:
    return {
        name: {"path": path, **dict(zip(("source_language", "target_language"), said[name], strict=True))}
        if name in said
        else path
        for name, path in files.items()
    }


def test_languages_are_those_of_the_sources_that_say_theirs(files: dict[str, Any]) -> None:
    assert MixtureDownloader(sources=files).info().languages == ("src", "tgt")
    assert MixtureDownloader(sources=languages(files, web=("en", "de"))).info().languages == ("en", "de")


@pytest.mark.parametrize("other", [("en", "fr"), ("de", "en")], ids=["other language", "other direction"])
def test_languages_that_differ_are_an_error_unless_said_to(files: dict[str, Any], other: tuple[str, str]) -> None:
    sources = languages(files, news=("en", "de"), web=other)
    told = rf"news: en to de; web: {' to '.join(other)}.*downloader\.languages=\[en,mul\]"
    with pytest.raises(ConfigError, match=told):
        MixtureDownloader(sources=sources).info()
    named = MixtureDownloader(sources=sources, languages=["en", "mul"])  # type: ignore[arg-type]  # as YAML has it
    assert named.info().languages == ("en", "mul")


def test_the_same_content_twice_is_an_error(tmp_path: Path, files: dict[str, Any]) -> None:
    moved = tmp_path / "moved.tsv"
    moved.write_bytes(Path(files["web"]).read_bytes())
    with pytest.raises(ConfigError, match=r"'web' and 'again' of the mixture are the same: .*downloader\.weights"):
        MixtureDownloader(sources={**files, "again": str(moved)}).info()


def test_errors_of_a_source_name_it_and_its_keys(tmp_path: Path, files: dict[str, Any]) -> None:
    with pytest.raises(SourceError, match=r"^the source 'gone': .*downloader\.sources\.gone\.path=FILE"):
        MixtureDownloader(sources={**files, "gone": str(tmp_path / "gone.tsv")}).info()
    empty = MixtureDownloader(sources={**files, "empty": write(tmp_path, "empty", 0)})
    with pytest.raises(SourceError, match=r"^the source 'empty': .*"):
        texts(empty)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"sources": None}, r"downloader\.sources must name at least one source, but is None"),
    ({"sources": {}}, r"downloader\.sources must name at least one source, but is \{\}"),
    (
        {"sources": ["news.tsv"]},
        r"downloader\.sources is a file or options for the name of each source.*but is \['news",
    ),
    (
        {"sources": {"../news": "news.tsv"}},
        r"names in downloader\.sources must start with a letter.*but one is '\.\./news'",
    ),
    ({"sources": {1: "news.tsv"}}, r"but one is 1\."),
    (
        {"sources": {"news": 3}},
        r"downloader\.sources\.news must be a file, options of downloader=local, or a downloader",
    ),
    (
        {"sources": {"news": {"pth": "x"}}},
        r"downloader\.sources\.news\.pth is not an option of downloader=local.*: path",
    ),
    (
        {"sources": {"news": {"path": "x", "n": 0}}},
        r"the source 'news': downloader\.sources\.news\.n is an integer of at least 1, or null, but is 0",
    ),
    (
        {"sources": {"inner": MixtureDownloader(sources={"news": "news.tsv"})}},
        r"downloader\.sources\.inner must not be a mixture itself",
    ),
    ({"weights": {"news": 1, "web": -2}}, r"downloader\.weights\.web is a number above 0, but is -2"),
    ({"weights": {"news": 1, "web": 0}}, r"downloader\.weights\.web is a number above 0, but is 0"),
    ({"weights": {"news": 1, "web": float("nan")}}, r"downloader\.weights\.web is a number above 0, but is nan"),
    ({"weights": {"news": 1, "web": float("inf")}}, r"downloader\.weights\.web is a number above 0, but is inf"),
    ({"weights": {"news": 1, "web": True}}, r"downloader\.weights\.web is a number above 0, but is True"),
    (
        {"weights": {"news": 1, "web": 1, "wbe": 1}},
        r"downloader\.weights has 'wbe', which is not a source; present: web, news",
    ),
    ({"weights": {"news": 1}}, r"downloader\.weights must name all sources, but lacks web"),
    ({"weights": 3}, r"downloader\.weights is a number above 0 for each source.*but is 3"),
    ({"temperature": 0}, r"downloader\.temperature is a number above 0, or null, but is 0"),
    ({"temperature": float("nan")}, r"downloader\.temperature is a number above 0, or null, but is nan"),
    ({"temperature": 5, "weights": {"news": 1, "web": 1}}, r"weights and downloader\.temperature exclude each other"),
    ({"epoch_pairs": 100}, r"downloader\.epoch_pairs needs downloader\.weights or downloader\.temperature"),
    (
        {"epoch_pairs": 0, "temperature": 1},
        r"downloader\.epoch_pairs is an integer of at least 1, or null, but is 0",
    ),
    ({"caps": {"web": 0}}, r"downloader\.caps\.web is an integer of at least 1, but is 0"),
    ({"caps": {"wbe": 10}}, r"downloader\.caps has 'wbe', which is not a source"),
    ({"languages": "en"}, r"downloader\.languages is two names, such as \[en,mul\], or null, but is 'en'"),
    ({"languages": ["en", ""]}, r"downloader\.languages is two names"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES)
def test_each_mistake_is_told_with_its_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MixtureDownloader(**{"sources": {"news": "news.tsv", "web": "web.tsv"}, **options})


def test_mistakes_are_told_together() -> None:
    with pytest.raises(ConfigError) as told:
        MixtureDownloader(sources={"news": SampleDownloader()}, weights={"news": 0}, caps={"web": 0})
    assert len(str(told.value).splitlines()) == 2


def test_an_error_keeps_its_class(files: dict[str, Any]) -> None:
    mixture = MixtureDownloader(sources=files)
    with pytest.raises(KeyError), mixture.named_errors("web"):
        raise KeyError("not mtx's own")
    with pytest.raises(MtxError, match="the source 'web': so"), mixture.named_errors("web"):
        raise MtxError("so")
