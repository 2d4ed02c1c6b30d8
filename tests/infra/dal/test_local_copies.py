"""The bound of the local copies of a bucket: what is removed, and what is kept, also beside other processes."""

import gc
import logging
import pickle
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import warm_process
from bucket_stores import ROWS, dataset_of, store_at

import mtx
from mtx.data.store import Store
from mtx.errors import ConfigError, DamagedError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.protocols import PayloadInfo
from mtx.infra.dal.remote import local_copies
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.remote.local_copies import LocalCopies, mapped_rows, rounded_up
from mtx.infra.dal.sqlite import SQLiteObjectLayer

NUM_ROWS = 1000  # 8,000 bytes of numbers, in a file of 8,3xx bytes
ROOM = 0.00002  # GB: two files and no third


class Bucket:
    """Payloads in a folder, which stands for a bucket."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.layer = ArrowFileLayer(location=folder)
        self.infos = [self._put(each) for each in range(number)]
        self.downloads: list[int] = []

    def _put(self, number: int) -> PayloadInfo:
        info = self.layer.create("new", pa.table({"n": np.full(NUM_ROWS, number)}))
        (self.folder / "new.arrow").rename(self.folder / f"{info.sha256}.arrow")
        return info

    def fetch(self, number: int, to: Path) -> None:
        self.downloads.append(number)
        to.write_bytes((self.folder / f"{self.infos[number].sha256}.arrow").read_bytes())

    def values(self, copies: LocalCopies, number: int) -> Any:
        """Return the numbers of a payload as an array over its mapped copy."""
        buffer = copies.mapped(self.infos[number], partial(self.fetch, number))
        return mapped_rows(buffer, "file", (list, ())).column("n").chunk(0).to_numpy()


@pytest.fixture
def bucket(tmp_path: Path) -> Bucket:
    return Bucket(tmp_path / "bucket", 5)


def held(copies: LocalCopies, bucket: Bucket) -> list[int]:
    return [number for number, info in enumerate(bucket.infos) if copies.has(info)]


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_copies_opened_least_recently_are_removed(bucket: Bucket, tmp_path: Path) -> None:
    copies = LocalCopies(location=tmp_path / "copies", cache_gb=ROOM)
    for number in (0, 1, 0, 2):
        assert bucket.values(copies, number)[0] == number
    assert held(copies, bucket) == [0, 2]
    assert bucket.downloads == [0, 1, 2]
    assert bucket.values(copies, 1)[-1] == 1
    assert held(copies, bucket) == [1, 2]
    assert folder_bytes(tmp_path / "copies") <= ROOM * 1e9
    unbounded = LocalCopies(location=tmp_path / "copies")
    for number in range(5):
        bucket.values(unbounded, number)
    assert held(copies, bucket) == [0, 1, 2, 3, 4]


def test_a_copy_is_kept_as_long_as_an_array_points_into_it(bucket: Bucket, tmp_path: Path) -> None:
    copies = LocalCopies(location=tmp_path, cache_gb=ROOM)
    view = bucket.values(copies, 0)[10:20]  # neither rows nor table are left
    for number in (1, 2, 3):
        bucket.values(copies, number)
    assert held(copies, bucket) == [0, 3]
    del view
    bucket.values(copies, 4)
    assert held(copies, bucket) == [3, 4]
    views = [bucket.values(copies, number) for number in range(5)]
    assert held(copies, bucket) == [0, 1, 2, 3, 4]
    views = views[4:]
    bucket.values(copies, 4)  # needs no download, but what was too much is free now
    assert held(copies, bucket) == [3, 4]


def test_more_in_use_than_the_bound_is_told_once_with_the_least_value(
    bucket: Bucket, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    one_byte = LocalCopies(location=tmp_path, cache_gb=1e-9)
    size = bucket.infos[0].num_bytes
    for _ in range(2):  # a payload that is larger than the bound
        assert bucket.values(one_byte, 0)[0] == 0
    bucket.values(one_byte, 1)
    assert held(one_byte, bucket) == [1]
    (line,) = caplog.messages
    least = float(line.rpartition("set storage.cache_gb=")[2].split()[0])
    assert "storage.cache_gb=1e-09 is exceeded" in line
    assert size <= least * 1e9 <= 1.1 * size
    caplog.clear()
    enough = LocalCopies(location=tmp_path, cache_gb=least)
    for number in range(3):
        bucket.values(enough, number)
    assert caplog.messages == []
    kept = [bucket.values(enough, number) for number in range(3)]
    assert len(caplog.messages) == 1  # twice as much as was told is told; what is little more is not
    assert len(kept) == 3


@pytest.mark.parametrize(("found", "least"), [(1.0, 1.0), (0.0123, 0.013), (0.012, 0.012), (9.91, 10.0), (251, 260)])
def test_the_least_value_is_rounded_up(found: float, least: float) -> None:
    assert rounded_up(found) == least


HOLDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_local_copies import Bucket, LocalCopies
bucket = Bucket(Path(sys.argv[1]), 5)
values = bucket.values(LocalCopies(location=sys.argv[2]), 0)
print("open", flush=True)
time.sleep(60)
print(values)
"""


def test_what_another_process_has_open_is_kept_until_it_is_killed(bucket: Bucket, tmp_path: Path) -> None:
    copies = LocalCopies(location=tmp_path / "copies", cache_gb=ROOM)
    arguments = (tmp_path / "same", copies.location, Path(__file__).parent)
    with warm_process.started("-c", HOLDER, *map(str, arguments)) as other:
        other.wait_for("open\n", 60)
        for number in (1, 2, 3):
            bucket.values(copies, number)
        assert held(copies, bucket) == [0, 3]
        other.send_signal(signal.SIGKILL)
        other.wait(20)
    bucket.values(copies, 4)
    assert held(copies, bucket) == [3, 4]


def test_what_is_being_written_is_kept_and_what_a_killed_process_left_is_removed(
    bucket: Bucket, tmp_path: Path
) -> None:
    copies = LocalCopies(location=tmp_path, cache_gb=ROOM)
    sha256 = bucket.infos[0].sha256
    names = [f".{sha256}.arrow.0123.tmp", "new-12.arrow", ".new-34.arrow.0123.tmp"]
    written = [tmp_path / name for name in names]
    for path in written:
        path.write_bytes(bytes(30_000))
    with file_lock(tmp_path, sha256), file_lock(tmp_path, "new-12"), file_lock(tmp_path, "new-34"):
        copies.make_room()  # in the thread that holds the locks, as when a stage reads what it builds from
        assert [path.exists() for path in written] == [True] * 3
    copies.make_room()
    assert [path.exists() for path in written] == [False] * 3


def test_room_is_made_while_a_payload_is_written(bucket: Bucket, tmp_path: Path) -> None:
    copies = LocalCopies(location=tmp_path / "copies", cache_gb=ROOM)
    for number in range(2):
        bucket.values(copies, number)
    sizes = []

    def batches() -> Any:
        for _ in range(5):
            sizes.append(folder_bytes(copies.location))
            yield pa.record_batch({"n": np.zeros(400)})

    copies.create("new-1", batches())
    assert max(sizes) <= ROOM * 1e9
    assert held(copies, bucket) == []


def test_a_copy_that_is_removed_while_it_is_opened_is_downloaded_again(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = LocalCopies(location=tmp_path)
    bucket.values(copies, 0)
    real, left = local_copies.fcntl.flock, [1]

    def flock(descriptor: int, kind: int) -> None:
        if kind == local_copies.fcntl.LOCK_SH and left:
            left.pop()
            copies.path(bucket.infos[0].sha256).unlink()  # between `open` and the lock
        real(descriptor, kind)

    monkeypatch.setattr(local_copies.fcntl, "flock", flock)
    assert bucket.values(copies, 0)[0] == 0
    assert bucket.downloads == [0, 0]


def test_a_copy_that_is_no_arrow_file_is_reported(bucket: Bucket, tmp_path: Path) -> None:
    copies = LocalCopies(location=tmp_path)
    bucket.values(copies, 0)
    path = copies.path(bucket.infos[0].sha256)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DamagedError, match=r"file cannot be read as an Arrow file: .*task=verify"):
        bucket.values(copies, 0)
    path.unlink()
    path.mkdir()
    with pytest.raises(DamagedError, match=r"arrow cannot be read as an Arrow file: .*task=verify"):
        copies.mapped(PayloadInfo(1, path.stat().st_size, bucket.infos[0].sha256), partial(bucket.fetch, 0))


READER = """
import random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from test_local_copies import ROOM, Bucket, LocalCopies
bucket, copies = Bucket(Path(sys.argv[1]), 5), LocalCopies(location=sys.argv[2], cache_gb=ROOM)
choose, kept = random.Random(int(sys.argv[4])), []
for _ in range(300):
    number = choose.randrange(5)
    kept = [*kept[-1:], (number, bucket.values(copies, number))]
    assert all((values == number).all() for number, values in kept)
print(len(bucket.downloads))
"""


def test_processes_that_share_a_small_cache_read_the_right_rows(tmp_path: Path) -> None:
    arguments = (tmp_path / "copies", Path(__file__).parent)
    commands = [("-c", READER, str(tmp_path / str(seed)), *map(str, arguments), str(seed)) for seed in range(2)]
    workers = [warm_process.started(*command) for command in commands]
    with workers[0] as one, workers[1] as two:
        ended = [one.wait(100), two.wait(100)]
    assert [worker.returncode for worker in ended] == [0, 0], [worker.stderr for worker in ended]
    assert sum(int(worker.stdout) for worker in ended) > 5  # some were removed, and downloaded again
    copies = LocalCopies(location=tmp_path / "copies", cache_gb=ROOM)
    copies.make_room()  # the last to trim may have seen what the other had open
    assert folder_bytes(tmp_path / "copies") <= ROOM * 1e9


# --- in a store


def bounded_store(url: str, cache: Path, cache_gb: float) -> Store:
    return Store(root=url, objects=SQLiteObjectLayer, files=ArrowFileLayer, cache=cache, cache_gb=cache_gb)


def test_a_store_keeps_its_copies_within_the_bound(url: str, tmp_path: Path) -> None:
    size = store_at(url, tmp_path / "first").repo.add(dataset_of("0")).payload.num_bytes  # type: ignore[union-attr]
    store = bounded_store(url, tmp_path / "cache", 2.5 * size / 1e9)
    for name in "1234":
        store.repo.add(dataset_of(name, [*ROWS, {"src": name, "tgt": name}]))
        assert folder_bytes(tmp_path / "cache") <= 2.5 * size
    for name in "1234":
        assert list(store.repo.get(name).data)[-1] == {"src": name, "tgt": name}
        assert folder_bytes(tmp_path / "cache") <= 2.5 * size
    store.repo.verify("1")
    store.repo.get_checked("2")
    assert folder_bytes(tmp_path / "cache") <= 2.5 * size


def test_rows_that_are_pickled_are_downloaded_again_where_no_copy_is_left(memory: str, tmp_path: Path) -> None:
    store = store_at(memory, tmp_path)
    store.repo.add(dataset_of())
    pickled = pickle.dumps(store.repo.get("one").rows)
    assert len(pickled) < 2000
    (copy,) = store.root.glob("datasets/*.arrow")
    copy.unlink()
    assert list(pickle.loads(pickled)) == ROWS


def test_few_requests_are_sent(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s3fs import S3FileSystem

    sent: list[str] = []
    call = S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        sent.append(method)
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    here, there = store_at(s3, tmp_path / "here"), store_at(s3, tmp_path / "there")
    here.repo.exists("other")  # looks once for the bucket
    sent.clear()
    assert not here.repo.exists("one")
    assert sent == ["get_object"]
    here.repo.add(dataset_of())
    sent.clear()
    here.repo.get("one")  # there is a copy
    assert sent == ["get_object"]
    sent.clear()
    there.repo.get_checked("one")  # manifest, listing, payload; then the manifest once more
    assert sorted(sent) == ["get_object"] * 3 + ["list_objects_v2"]
    folder = RemoteFolder(f"{s3}/datasets")
    sent.clear()
    assert not folder.create("one.json", b"{}")
    assert sent == ["get_object"]


def test_a_missing_object_keeps_nothing_of_its_callers_in_use(s3: str, tmp_path: Path, bucket: Bucket) -> None:
    """Else copies would stay mapped, and so in use, until the garbage collector runs."""
    copies, folder = LocalCopies(location=tmp_path / "copies", cache_gb=1e-9), RemoteFolder(s3)

    def ask(number: int) -> None:
        values = bucket.values(copies, number)
        assert folder.read("missing") is None
        assert folder.create(f"{number}.json", b"{}")
        assert values[0] == number

    gc.disable()
    try:
        for number in range(3):
            ask(number)
            copies.make_room()
            assert held(copies, bucket) == []
    finally:
        gc.enable()


@pytest.mark.parametrize("value", ["0", "-1", "much", "nan"])
def test_a_bound_that_is_no_positive_number_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=r"storage\.cache_gb .*above 0"):
        mtx.compose_datamodule([f"storage.cache_gb={value}", "storage.root=memory://name"])
