"""The contract of a downloader: mtx's own sources hold it, and each way to break it is found and told."""

import json
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mtx.errors import SourceError
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.mixture import MixtureDownloader
from mtx.infra.dataset.sources.sample import SampleDownloader
from mtx.testing import check_downloader

INFO = SourceInfo("good", ("en", "de"), "1", {"class": "good"}, ("train", "validation"))


@dataclass(frozen=True, kw_only=True)
class Good(Downloader):
    """Holds the contract; each test breaks one thing of it."""

    revision: str = "1"
    n: int | None = None

    def info(self) -> SourceInfo:
        identity = {"class": "good", "n": self.n, "revision": self.revision}
        return SourceInfo("good", ("en", "de"), self.revision, identity, ("train", "validation"))

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        if split not in ("train", "validation"):
            raise SourceError(f"no split {split}")
        counts["missing_text"] = 2
        pairs = [(f"{split} {i}", f"{i}") for i in range(5)]
        for src, tgt in pairs[: self.n]:
            yield pa.record_batch([[src], [tgt]], PAIR_SCHEMA)


def write(path: Path, num_pairs: int) -> str:
    path.write_text("".join(json.dumps({"src": f"a {i}", "tgt": f"b {i}"}) + "\n" for i in range(num_pairs)))
    return str(path)


def test_a_good_one_passes_and_says_what_came() -> None:
    found = check_downloader(Good(), changed=Good(revision="2"))
    assert found.info == Good().info()
    assert found.num_pairs == {"train": 5, "validation": 5}
    assert found.counts == {"train": {"missing_text": 2}, "validation": {"missing_text": 2}}


def test_local_files_hold_it(tmp_path: Path) -> None:
    good = LocalDownloader(path={"train": write(tmp_path / "a.jsonl", 9), "test": write(tmp_path / "b.jsonl", 3)})
    changed = LocalDownloader(path=write(tmp_path / "c.jsonl", 10))
    broken = LocalDownloader(path=str(tmp_path / "gone.jsonl"))
    assert check_downloader(good, changed=changed, broken=broken).num_pairs == {"train": 9, "test": 3}


def test_a_mixture_holds_it(tmp_path: Path) -> None:
    one, other, more = (write(tmp_path / f"{name}.jsonl", n) for name, n in (("one", 4), ("other", 5), ("more", 6)))
    check_downloader(
        MixtureDownloader(sources={"one": one, "other": other}, caps={"other": 2}, temperature=5),
        changed=MixtureDownloader(sources={"one": one, "other": more}, caps={"other": 2}),
        broken=MixtureDownloader(sources={"one": one, "gone": str(tmp_path / "gone.jsonl")}),
    )


def test_the_sample_holds_it() -> None:
    assert check_downloader(SampleDownloader(n=200)).num_pairs == {"train": 200}


class NoDataclass(Good):
    pass


@dataclass
class Changeable(Downloader):
    def info(self) -> SourceInfo:
        return INFO

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield from ()


def with_info(**wrong: Any) -> Downloader:
    class Wrong(Good):
        def info(self) -> SourceInfo:
            return replace(INFO, **wrong)

    Wrong.__qualname__ = "Wrong"
    return Wrong()


SEEN: list[int] = []


class OtherInfoEachTime(Good):
    def info(self) -> SourceInfo:
        SEEN.append(1)
        return replace(INFO, revision=str(len(SEEN)))


class OtherRowsEachTime(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        SEEN.append(1)
        yield pa.record_batch([[str(len(SEEN))], ["x"]], PAIR_SCHEMA)


class OtherCountsEachTime(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([["x"], ["x"]], PAIR_SCHEMA)
        SEEN.append(1)
        counts["odd"] = len(SEEN)


class BadCounts(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([["x"], ["x"]], PAIR_SCHEMA)
        counts["none"] = 0


class Tables(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.table({"src": ["a"], "tgt": ["b"]})


class SmallStrings(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([["a"], ["b"]], ["src", "tgt"])


class Nulls(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([["a"], [None]], PAIR_SCHEMA)


class NoUTF8(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        bad = pa.Array.from_buffers(pa.large_string(), 1, pa.array([b"\xff"], pa.large_binary()).buffers())
        yield pa.record_batch([bad, pa.array(["x"], pa.large_string())], PAIR_SCHEMA)


class AnySplit(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield pa.record_batch([["x"], ["x"]], PAIR_SCHEMA)


class IgnoresN(Good):
    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        yield from Good().batches(split, counts)


class NamesNAlike(Good):
    def info(self) -> SourceInfo:
        return INFO


BROKEN: list[tuple[Any, str]] = [
    ("a text", r"str is no subclass of mtx\.infra\.dataset\.download\.Downloader"),
    (Changeable(), r"Changeable is a dataclass that can be changed: say frozen=True"),
    (with_info(name=""), r"info\(\)\.name is empty"),
    (with_info(revision=3), r"info\(\)\.revision is a text, but is 3"),
    (with_info(languages=["en", "de"]), r"info\(\)\.languages is a tuple of two texts, but is \['en', 'de'\]"),
    (with_info(splits=["train"]), r"info\(\)\.splits is a tuple"),
    (with_info(splits=("validation",)), r"info\(\)\.splits are of train, validation, test.*but are \('validation',\)"),
    (with_info(splits=("train", "train")), r"each once, with train, but are"),
    (with_info(identity={}), r"info\(\)\.identity is empty"),
    (with_info(identity={"path": Path("x")}), r"info\(\)\.identity holds plain values \(JSON\), but: PosixPath"),
    (OtherInfoEachTime(), r"info\(\) differs a second time"),
    (OtherRowsEachTime(), r"batches\('train', …\) differs a second time"),
    (OtherCountsEachTime(), r"counts of 'train' differs a second time"),
    (BadCounts(), r"counts of 'train' are numbers above 0 by reason, but are \{'none': 0\}"),
    (Tables(), r"batches\('train', …\) yields pyarrow\.RecordBatch, but yielded a Table"),
    (SmallStrings(), r"src and tgt of large_string, but has: src of string, tgt of string"),
    (Nulls(), r"1 texts of tgt in 'train' are null: leave such rows out, and count them"),
    (NoUTF8(), r"a text in 'train' is no UTF-8"),
    (AnySplit(), r"batches\(\) of a split that info\(\) does not name raises SourceError, but did not"),
    (IgnoresN(), r"n=4 gives the first 4 pairs of training, but gave 5 others"),
    (NamesNAlike(), r"n=4 has the identity of all pairs"),
]


@pytest.mark.parametrize(
    ("downloader", "message"), BROKEN, ids=[type(one).__name__ + told[:20] for one, told in BROKEN]
)
def test_what_breaks_it_is_told(downloader: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if type(downloader).__name__ == "Wrong":  # of a class that does not pickle, which is not the point here
        monkeypatch.setattr(pickle, "dumps", lambda _: b"")
        monkeypatch.setattr(pickle, "loads", lambda _: downloader)
    with pytest.raises(AssertionError, match=message):
        check_downloader(downloader)


def test_other_content_needs_another_revision_and_identity() -> None:
    with pytest.raises(AssertionError, match="other content has the revision of the first: '1'"):
        check_downloader(Good(), changed=Good())
    with pytest.raises(AssertionError, match="other content has the identity of the first"):
        check_downloader(replace(Good(), n=None), changed=SameIdentity())


class SameIdentity(Good):
    def info(self) -> SourceInfo:
        return replace(Good().info(), revision="2")


class Raises(Good):
    def info(self) -> SourceInfo:
        raise OSError("no such disk")


class RaisesNothingTold(Good):
    def info(self) -> SourceInfo:
        raise SourceError


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (Raises(), "a source that cannot be read raises SourceError, but raised OSError: no such disk"),
        (RaisesNothingTold(), "a SourceError says what was wrong, and what to do; this one is empty"),
        (Good(), "a source that cannot be read raises SourceError, but raised nothing"),
    ],
)
def test_a_source_that_cannot_be_read_raises_source_errors(broken: Downloader, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_downloader(Good(), broken=broken)
