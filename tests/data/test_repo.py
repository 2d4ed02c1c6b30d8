import dataclasses
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import warm_process
from conf_options import storages
from warm_process import WarmProcess

from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.repo_read_cache import RepoSession
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.infra.dal.maintenance_protocols import Damage
from mtx.infra.dal.manifest_digest import fields_with_digest

MakeRepo = Callable[[Path], DatasetRepo]

ROWS = [{"src": "one", "tgt": "eins"}, {"src": "two", "tgt": "zwei"}]


def repo_at(option: str, location: Path) -> DatasetRepo:
    parts = storages()[option]
    return DatasetRepo(fal=parts["files"](location=location), oal=parts["objects"](location=location))


@pytest.fixture(params=storages())
def make(request: pytest.FixtureRequest) -> MakeRepo:
    return partial(repo_at, str(request.param))


@pytest.fixture
def repo(make: MakeRepo, tmp_path: Path) -> DatasetRepo:
    return make(tmp_path / "store")


def dataset_of(dataset_id: str = "one", **changes: Any) -> TranslationDataset:
    fields = {"name": "small", "stage": "raw", "split": "train", "languages": ("en", "de"), "data": ROWS}
    return TranslationDataset(**{"id": dataset_id, **fields, **changes})


def payload_of(repo: DatasetRepo, dataset_id: str = "one") -> Path:
    layer: Any = repo.fal
    return Path(layer.location / f"{dataset_id}{layer.SUFFIX}")


# One process


def test_gets_back_what_was_added(repo: DatasetRepo) -> None:
    dataset = dataset_of(provenance={"revision": "1"}, metrics={"dropped": {"empty": 1}})
    stored = repo.add(dataset)
    assert stored == repo.get(dataset_id="one")
    assert list(stored.data or []) == ROWS
    assert stored.payload is not None
    assert stored.payload.num_rows == stored.n == 2
    assert dataclasses.replace(stored, data=ROWS, payload=None) == dataset


def test_streams_rows_and_counts_what_was_counted_meanwhile(repo: DatasetRepo) -> None:
    metrics: dict[str, Any] = {"dropped": {}}

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            metrics["dropped"]["empty"] = number
            yield pa.record_batch({"src": [f"{number}"], "tgt": ["x"]})

    stored = repo.add(dataset_of(data=batches(), metrics=metrics))
    assert stored.n == 3
    assert repo.get("one").metrics == {"dropped": {"empty": 2}}


def test_a_dataset_named_by_its_content_is_the_same_in_all_stores(tmp_path: Path) -> None:
    ids = {repo_at(option, tmp_path / option).add(dataset_of("")).id for option in storages()}
    assert len(ids) == 1


def test_refuses_to_add_what_is_there_and_keeps_it(repo: DatasetRepo) -> None:
    repo.add(dataset_of())
    with pytest.raises(AlreadyStoredError, match=r"one is stored already in .*store; it is kept"):
        repo.add(dataset_of(data=[]))
    assert list(repo.get("one").data or []) == ROWS


@pytest.mark.parametrize("operation", ["get", "remove", "manifest", "verify"])
def test_an_unknown_dataset_is_refused_with_those_that_are_there(repo: DatasetRepo, operation: str) -> None:
    repo.add(dataset_of())
    with pytest.raises(NotStoredError, match=r"nothing is stored as 'two' in .*store. Stored there: 1 \(one\)"):
        getattr(repo, operation)("two")
    assert repo.exists("one")


def test_asking_an_empty_store_makes_no_folder(repo: DatasetRepo, tmp_path: Path) -> None:
    assert not repo.exists("one")
    assert repo.show().empty
    for operation in (repo.get, repo.remove):
        with pytest.raises(NotStoredError):
            operation("one")
    assert list(tmp_path.iterdir()) == []


def test_removes_manifest_and_rows(repo: DatasetRepo) -> None:
    repo.add(dataset_of())
    repo.remove("one")
    assert not repo.exists("one")
    assert not payload_of(repo).exists()
    repo.add(dataset_of(data=ROWS[:1]))
    assert len(repo.get("one")) == 1


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/passwd", ""])
def test_names_that_climb_are_refused(repo: DatasetRepo, tmp_path: Path, name: str) -> None:
    operations: list[Callable[[], object]] = [
        lambda: repo.get(name),
        lambda: repo.remove(name),
        lambda: repo.exists(name),
        lambda: repo.get_or_build(name, dataset_of),
    ]
    if name:
        operations.append(lambda: repo.add(dataset_of(name)))
    for operation in operations:
        with pytest.raises(StoreError, match="is not a valid name in a store"):
            operation()
    assert list(tmp_path.iterdir()) == []


def test_shows_datasets_as_a_table_narrowed_by_stage_and_split(repo: DatasetRepo) -> None:
    repo.add(dataset_of("raw-b", provenance={"revision": "abc"}))
    repo.add(dataset_of("raw-a", split="test", data=ROWS[:1]))
    repo.add(dataset_of("filtered-a", stage="filtered", provenance={"inputs": ["raw-a", "raw-b"]}))
    assert repo.show()["id"].tolist() == ["filtered-a", "raw-a", "raw-b"]
    assert repo.show(stage="filtered", split="train")["id"].values[0] == "filtered-a"
    assert repo.show(stage="raw")["n"].tolist() == [1, 2]
    assert repo.show(stage="encoded").columns.tolist() == repo.show().columns.tolist()
    row = repo.show(split="train").set_index("id").loc["raw-b"]
    assert row.to_dict() == {
        "name": "small",
        "stage": "raw",
        "split": "train",
        "source_language": "en",
        "target_language": "de",
        "n": 2,
        "bytes": payload_of(repo, "raw-b").stat().st_size,
        "made_from": "abc",
    }
    assert repo.show(stage="filtered")["made_from"].tolist() == ["raw-a, raw-b"]


def test_rows_of_a_dataset_pickle_as_the_way_to_open_the_file(repo: DatasetRepo) -> None:
    stored = repo.add(dataset_of(data=[{"src": "a" * 1000, "tgt": "b"}] * 1000))
    assert len(pickle.dumps(stored)) < 2000
    assert pickle.loads(pickle.dumps(stored)) == stored
    assert pickle.loads(pickle.dumps(repo)).get("one") == stored


# Damage


def test_rows_that_are_gone_are_reported_and_can_be_removed(repo: DatasetRepo) -> None:
    repo.add(dataset_of())
    payload_of(repo).unlink()
    with pytest.raises(
        DamagedError,
        match=r"one has a manifest, but its rows are missing\. "
        r"Run mtx task=verify full=true repair=true",
    ):
        repo.get("one")
    repo.remove("one")
    assert not repo.exists("one")


def test_a_file_of_another_size_is_reported(repo: DatasetRepo) -> None:
    repo.add(dataset_of())
    size = payload_of(repo).stat().st_size
    with payload_of(repo).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(
        DamagedError,
        match=f"one has changed on disk: bytes {size + 1}, but the manifest says {size}. Run mtx task=verify",
    ):
        repo.get("one")


def test_rows_of_another_number_are_reported(repo: DatasetRepo) -> None:
    repo.add(dataset_of(data=ROWS))
    manifest: Any = repo.oal.read("one")
    repo.oal.delete("one")
    repo.oal.create("one", fields_with_digest({**manifest, "n": 3}))
    with pytest.raises(DamagedError, match="one has changed on disk: rows 2, but the manifest says 3"):
        repo.get("one")


def test_a_check_of_sizes_opens_no_rows(repo: DatasetRepo, monkeypatch: pytest.MonkeyPatch) -> None:
    repo.add(dataset_of())

    def read(*_: object, **__: object) -> None:
        raise AssertionError("rows were opened, which imports pyarrow")

    with monkeypatch.context() as patched:
        patched.setattr(type(repo.fal), "read", read)
        assert repo.verify("one", full=False).n == 2
        payload_of(repo).write_bytes(payload_of(repo).read_bytes() + b"x")
        with pytest.raises(DamagedError, match="one has changed on disk: bytes"):
            repo.verify("one", full=False)
    payload_of(repo).unlink()
    with pytest.raises(DamagedError, match="its rows are missing"):
        repo.verify("one", full=False)


def test_verify_finds_a_single_flipped_bit(repo: DatasetRepo) -> None:
    repo.add(dataset_of())
    repo.verify("one")
    content = bytearray(payload_of(repo).read_bytes())
    content[content.index(b"eins")] ^= 1
    payload_of(repo).write_bytes(content)
    assert repo.get("one").n == 2  # not seen by reading
    with pytest.raises(
        DamagedError, match=r"one has changed on disk: SHA-256 [0-9a-f]{64}, but the manifest says [0-9a-f]{64}"
    ):
        repo.verify("one")


def test_rows_without_a_manifest_are_nothing_and_are_replaced(repo: DatasetRepo) -> None:
    repo.fal.create("one", [{"src": "left", "tgt": "over"}])
    assert not repo.exists("one")
    assert repo.show().empty
    repo.add(dataset_of())
    assert list(repo.get("one").data or []) == ROWS


def test_a_full_disk_is_reported_and_nothing_stored_changes(
    repo: DatasetRepo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo.add(dataset_of("before"))

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=r"one\..* cannot be written: No space left on device"):
            repo.add(dataset_of())
    assert repo.show()["id"].tolist() == ["before"]
    assert list(repo.get("before").data or []) == ROWS
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".") or path.name.startswith("one.a")]
    repo.add(dataset_of())


def test_a_manifest_that_cannot_be_written_leaves_no_dataset(
    repo: DatasetRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise StoreError("no room for the manifest")

    with monkeypatch.context() as patch:
        patch.setattr(type(repo.oal), "create", refuse)
        with pytest.raises(StoreError, match="no room for the manifest"):
            repo.add(dataset_of())
    assert not repo.exists("one")
    repo.add(dataset_of(data=ROWS[:1]))
    assert len(repo.get("one")) == 1


# Building what is missing


def test_builds_what_is_missing_and_reads_what_is_there(repo: DatasetRepo) -> None:
    built: list[str] = []

    def build() -> TranslationDataset:
        built.append("one")
        return dataset_of()

    assert repo.get_or_build("one", build) == repo.get_or_build("one", build) == repo.get("one")
    assert built == ["one"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_builder_that_fails_leaves_nothing_that_looks_whole(
    repo: DatasetRepo, tmp_path: Path, error: type[BaseException]
) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"src": ["a"], "tgt": ["b"]})
        raise error("half-way")

    with pytest.raises(error, match="half-way"):
        repo.get_or_build("one", lambda: dataset_of(data=batches()))
    assert not repo.exists("one")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert repo.get_or_build("one", dataset_of).n == 2


def test_a_builder_that_builds_something_else_is_refused(repo: DatasetRepo) -> None:
    with pytest.raises(StoreError, match=r"two was requested, but one was built\. Give the dataset the requested id"):
        repo.get_or_build("two", dataset_of)
    assert repo.show().empty


def test_while_one_dataset_is_built_others_can_be_built_and_read(repo: DatasetRepo) -> None:
    def build() -> TranslationDataset:
        assert repo.get_or_build("inner", lambda: dataset_of("inner")).n == 2
        return dataset_of()

    assert repo.get_or_build("one", build).n == 2
    assert repo.show()["id"].tolist() == ["inner", "one"]


def test_threads_that_ask_at_once_build_once(repo: DatasetRepo) -> None:
    built: list[int] = []
    start = threading.Barrier(4)

    def ask(_: int) -> int | None:
        start.wait()
        return repo.get_or_build("one", lambda: built.append(1) or dataset_of()).n  # type: ignore[func-returns-value]

    with ThreadPoolExecutor(max_workers=4) as pool:
        assert list(pool.map(ask, range(4))) == [2] * 4
    assert built == [1]


# Several processes. Each is a Python of its own, told what to do by its arguments.

WORKER = """
import sys, time
from pathlib import Path
import pyarrow as pa
from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.repo_read_cache import RepoSession
from mtx.errors import AlreadyStoredError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.manifest_digest import fields_with_digest
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dal.maintenance_protocols import Damage

do, fal, oal, location, me = sys.argv[1:]
repo = DatasetRepo(fal=globals()[fal](location=location), oal=globals()[oal](location=location))

def batches():
    yield pa.record_batch({"src": ["a" * 1000] * 1000, "tgt": [me] * 1000})
    if do == "hang":
        print("writing", flush=True)
        time.sleep(60)
    time.sleep(0.2)
    yield pa.record_batch({"src": ["b"], "tgt": [me]})

def build():
    print("built", flush=True)
    return TranslationDataset(id="one", name="s", stage="raw", split="train", languages=("a", "b"), data=batches())

print("ready", flush=True)
while not Path(location).with_name("go").exists():
    time.sleep(0.001)
if do == "add":
    try:
        repo.add(build())
    except AlreadyStoredError:
        print("late")
elif do == "dies before the manifest":
    def create(*_):
        print("rows written", flush=True)
        time.sleep(60)
    repo.oal.create = create
    repo.add(build())
else:
    print(len(repo.get_or_build("one", build)))
"""


@pytest.fixture
def start_workers(repo: DatasetRepo, tmp_path: Path) -> Iterator[Callable[..., list[WarmProcess]]]:
    """Return a function that starts a process for each task; the processes wait until `go`."""
    layers = [type(repo.fal).__name__, type(repo.oal).__name__, str(tmp_path / "store")]
    with ExitStack() as stack:

        def start(*tasks: str) -> list[WarmProcess]:
            workers = [
                stack.enter_context(warm_process.started("-c", WORKER, do, *layers, str(me)))
                for me, do in enumerate(tasks)
            ]
            for worker in workers:
                worker.wait_for("ready\n", 60)
            return workers

        yield start


def finish(workers: list[WarmProcess], tmp_path: Path) -> list[str]:
    (tmp_path / "go").touch()
    ended = [worker.wait(60) for worker in workers]
    assert [(each.returncode, each.stderr) for each in ended] == [(0, "")] * len(workers)
    return [each.stdout.removeprefix("ready\n") for each in ended]


def test_four_processes_that_ask_at_once_build_once(
    repo: DatasetRepo, start_workers: Callable[..., list[WarmProcess]], tmp_path: Path
) -> None:
    outputs = finish(start_workers(*["build"] * 4), tmp_path)
    assert sorted(outputs) == ["1001\n"] * 3 + ["built\n1001\n"]
    assert len(repo.get("one")) == 1001


def test_of_two_processes_that_add_one_name_one_is_refused_and_the_other_kept(
    repo: DatasetRepo, start_workers: Callable[..., list[WarmProcess]], tmp_path: Path
) -> None:
    outputs = finish(start_workers("add", "add"), tmp_path)
    assert sorted(outputs) == ["built\n", "built\nlate\n"]
    rows = repo.get("one").data
    assert rows is not None
    assert {row["tgt"] for row in rows} == {str(outputs.index("built\n"))}
    repo.verify("one")


@pytest.mark.parametrize(("do", "last_words"), [("hang", "writing"), ("dies before the manifest", "rows written")])
def test_a_build_that_is_killed_leaves_a_store_that_the_next_one_goes_on_from(
    repo: DatasetRepo, start_workers: Callable[..., list[WarmProcess]], tmp_path: Path, do: str, last_words: str
) -> None:
    repo.add(dataset_of("before"))
    (worker,) = start_workers(do)
    (tmp_path / "go").touch()
    worker.wait_for(f"built\n{last_words}\n", 60)
    worker.send_signal(signal.SIGKILL)
    assert worker.wait(60).returncode == -signal.SIGKILL
    assert repo.show()["id"].tolist() == ["before"]
    assert repo.get_or_build("one", dataset_of).n == 2
    repo.verify("one")
    repo.verify("before")
    assert [path for path in (tmp_path / "store").iterdir() if path.name.startswith(".")] == []


def test_what_can_be_read_is_listed_beside_a_damaged_manifest(
    repo: DatasetRepo, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("raw-a", "raw-b", "raw-c"):
        repo.add(dataset_of(name))
    manifest: Any = repo.oal.read("raw-a")
    repo.oal.delete("raw-a")
    repo.oal.create("raw-a", {**manifest, "n": 77})
    unreadable: list[Damage] = []
    assert [found.id for found in repo.manifests(unreadable=unreadable)] == ["raw-b", "raw-c"]
    assert [damage.name for damage in unreadable] == ["raw-a"]
    assert repo.show()["id"].tolist() == ["raw-b", "raw-c"]
    assert "raw-a is not listed: " in caplog.text
    assert "task=verify" in caplog.text
    seen = []
    with pytest.raises(DamagedError, match="raw-a"):
        seen.extend(found.id for found in repo.manifests())
    assert seen == ["raw-b", "raw-c"]


# One run


def test_what_another_process_removes_after_its_manifest_was_read_is_not_stored(make: MakeRepo, tmp_path: Path) -> None:
    repo = make(tmp_path / "store")
    repo.add(dataset_of())
    session = RepoSession(make(tmp_path / "store"))
    assert session.manifest("one").n == 2
    repo.remove("one")
    with pytest.raises(NotStoredError, match="nothing is stored as 'one'"):
        session.get("one")
    assert not session.exists("one")
    repo.add(dataset_of())
    assert list(session.get("one").rows) == ROWS


def test_rows_that_are_gone_under_a_manifest_that_is_there_are_damage_to_a_run_too(
    make: MakeRepo, tmp_path: Path
) -> None:
    repo = make(tmp_path / "store")
    repo.add(dataset_of())
    session = RepoSession(repo)
    assert session.manifest("one").n == 2
    payload_of(repo).unlink()
    with pytest.raises(DamagedError, match="one has a manifest, but its rows are missing"):
        session.get("one")
