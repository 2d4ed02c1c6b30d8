"""Remote stores, with the real s3fs client against a moto server on loopback, and with fsspec's memory."""

import multiprocessing
import pickle
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import warm_process
from bucket_stores import MARKS, ROWS, SECRET, dataset_of, described, keys_of, store_at

from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.infra.dal.remote.file_layer import RemoteFileLayer
from mtx.infra.dal.remote.filesystem import RemoteFolder

pytestmark = MARKS


def test_what_one_machine_stores_another_reads(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")
    stored = here.repo.add(dataset_of())
    assert list(there.repo.get("one").data) == ROWS
    assert there.repo.get("one") == stored
    assert list(there.repo.show()["id"]) == ["one"]
    there.repo.verify("one")


def test_manifest_and_payload_lie_in_the_bucket_and_a_copy_in_the_cache(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    payload = store.repo.add(dataset_of()).payload
    assert payload is not None
    manifest, rows = keys_of(url)
    assert manifest == "/datasets/one.json"
    assert rows.startswith(f"/datasets/one/{payload.sha256}-")
    assert [p.name for p in store.root.glob("datasets/*.arrow")] == [f"{payload.sha256}.arrow"]
    assert store.root.parent == tmp_path
    assert store.location == url


def test_a_copy_is_not_downloaded_again(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())

    def refuse(*_: object) -> None:
        raise AssertionError("downloaded")

    monkeypatch.setattr(RemoteFolder, "download", refuse)
    assert len(store.repo.get("one")) == 1000


def test_a_name_that_is_taken_is_refused_and_kept(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")
    here.repo.add(dataset_of())
    with pytest.raises(AlreadyStoredError, match=f"one is stored already in {url}/datasets; it is kept"):
        there.repo.add(dataset_of(rows=ROWS[:1]))
    with pytest.raises(AlreadyStoredError):
        there.repo.oal.create("one", {"other": 1})
    with pytest.raises(AlreadyStoredError):
        there.repo.fal.create("one", ROWS[:1])
    assert len(there.repo.get("one")) == 1000


def test_an_unknown_name_is_refused_with_those_that_are_there(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    store.repo.add(dataset_of("two"))
    for ask in (store.repo.get, store.repo.remove, store.repo.fal.read, store.repo.fal.delete, store.repo.fal.sha256):
        with pytest.raises(NotStoredError, match=r"nothing is stored as 'one' in .*Stored there: 1 \(two\)"):
            ask("one")
    assert not store.repo.fal.exists("one")


def test_asking_an_empty_bucket_makes_nothing(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path / "cache")
    assert list(store.repo.manifests()) == []
    assert not store.repo.exists("one")
    assert store.tokenizers.get_all_names() == []
    assert not (tmp_path / "cache").exists()
    assert keys_of(url) == []


def test_names_that_climb_are_refused(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    for layer in (store.repo.oal, store.repo.fal, store.tokenizers):
        for name in ("../one", "/etc/passwd", "a/b", ".hidden", ""):
            with pytest.raises(StoreError, match="is not a valid name in a store"):
                layer.exists(name)


def test_removes_the_manifest_at_once_and_the_rows_when_no_upload_can_be_waiting_for_it(
    url: str, tmp_path: Path
) -> None:
    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())
    store.repo.remove("one")
    assert not store.repo.exists("one")
    assert not store.repo.fal.exists("one")
    assert len(keys_of(url)) == 1  # younger than the grace period: it might be another machine's
    assert list(store.root.glob("datasets/*.arrow")) == []
    RemoteFileLayer(location=f"{url}/datasets", cache=tmp_path, grace_s=-1).delete("one")
    assert keys_of(url) == []


def test_a_file_that_another_machine_has_just_uploaded_is_never_removed(url: str, tmp_path: Path) -> None:
    """Machine B has uploaded rows, its manifest still to come, when A removes the dataset of that name."""
    a, b = store_at(url, tmp_path / "a"), store_at(url, tmp_path / "b")
    a.repo.add(dataset_of())
    manifest = a.repo.oal.read("one")
    a.repo.oal.delete("one")
    info = b.repo.fal.create("one", ROWS)
    a.repo.fal.delete("one")
    b.repo.oal.create("one", manifest)
    assert info.sha256 == store_at(url, tmp_path / "c").repo.get("one").payload.sha256  # type: ignore[union-attr]


def test_layers_pickle_and_hold_no_connection(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())
    again = pickle.loads(pickle.dumps(store.repo))
    assert list(again.get("one").data) == ROWS
    assert SECRET.encode() not in pickle.dumps(store.repo)


def test_threads_that_ask_at_once_build_once(url: str, tmp_path: Path) -> None:
    store, built, lengths = store_at(url, tmp_path), [], []

    def build() -> TranslationDataset:
        built.append(1)
        time.sleep(0.05)
        return dataset_of()

    threads = [
        threading.Thread(target=lambda: lengths.append(len(store.repo.get_or_build("one", build)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert (built, lengths) == ([1], [1000] * 4)


def test_the_loser_of_a_race_keeps_the_winners(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")

    def build() -> TranslationDataset:
        there.repo.add(dataset_of(rows=ROWS[:10]))  # the other machine, while we build
        return dataset_of()

    assert len(here.repo.get_or_build("one", build)) == 10
    assert list(here.repo.get("one").data) == list(there.repo.get("one").data) == ROWS[:10]


# --- damage


def first_payload(url: str) -> str:
    return next(key for key in keys_of(url) if key.startswith("/datasets/one/"))


def overwrite(url: str, key: str, change: Callable[[bytes], bytes]) -> None:
    import fsspec

    fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
    fs.pipe_file(root + key, change(fs.cat_file(root + key)))


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def test_a_flipped_bit_in_the_bucket_is_found_on_download_and_by_verify(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")
    here.repo.add(dataset_of())
    overwrite(url, first_payload(url), flipped)
    with pytest.raises(DamagedError, match=r"one/.* has changed: SHA-256 .*, but the manifest says .*task=verify"):
        there.repo.get("one")
    assert [p for p in there.root.rglob("*") if p.is_file() and p.suffix != ".lock"] == []
    with pytest.raises(DamagedError, match="SHA-256"):
        here.repo.verify("one")


def test_a_payload_of_another_size_is_not_even_downloaded(url: str, tmp_path: Path) -> None:
    store_at(url, tmp_path / "here").repo.add(dataset_of())
    overwrite(url, first_payload(url), lambda content: content + b"more")
    with pytest.raises(DamagedError, match="bytes"):
        store_at(url, tmp_path / "there").repo.get("one")


def test_rows_that_are_gone_are_reported(url: str, tmp_path: Path) -> None:
    import fsspec

    store_at(url, tmp_path / "here").repo.add(dataset_of())
    fs, root = fsspec.core.url_to_fs(url)
    fs.rm_file(root + first_payload(url))
    with pytest.raises(DamagedError, match="one has a manifest, but its rows are missing"):
        store_at(url, tmp_path / "there").repo.get("one")


def test_a_damaged_copy_is_downloaded_again(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())
    (copy,) = store.root.glob("datasets/*.arrow")
    copy.write_bytes(copy.read_bytes()[:-1])  # another size: seen when read
    assert list(store.repo.get("one").data) == ROWS
    copy.unlink()
    assert list(store.repo.get("one").data) == ROWS
    copy.write_bytes(flipped(copy.read_bytes()))  # the same size: seen by verify
    store.repo.verify("one")
    assert not copy.exists()
    assert list(store.repo.get("one").data) == ROWS


CLIMBING = '{"payload": {"sha256": "../../x", "num_bytes": 1, "num_rows": 1}}'


@pytest.mark.parametrize("text", ["no JSON", "[]", "{}", CLIMBING])
def test_a_damaged_manifest_is_reported(memory: str, tmp_path: Path, text: str) -> None:
    store = store_at(memory, tmp_path)
    RemoteFolder(f"{memory}/datasets").create("one.json", text.encode())
    with pytest.raises(DamagedError):
        store.repo.get("one")
    with pytest.raises(DamagedError, match=r"is not valid JSON|has no valid SHA-256, size and row count"):
        store.repo.fal.read("one")


# --- artifacts


def test_artifacts_are_built_once_and_shared(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")
    built = []

    def build(path: Path) -> None:
        built.append(path)
        described(path, "{}")

    for store in (here, there, here):
        path = store.tokenizers.get_or_build("t", build, {"stage": "tokenizer"})
        assert (path / "tokenizer.json").read_text() == "{}"
        assert store.root in path.parents
    assert len(built) == 1
    assert here.tokenizers.get_all_names() == ["t"]
    assert here.tokenizers.manifest("t") == there.tokenizers.manifest("t")
    assert here.tokenizers.num_bytes("t") > 2
    here.tokenizers.verify("t")


def test_of_two_machines_that_build_an_artifact_both_use_the_first(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")

    def build(path: Path) -> None:
        there.tokenizers.get_or_build("t", partial(described, text="first"), {})
        described(path, "second")

    assert (here.tokenizers.get_or_build("t", build, {}) / "tokenizer.json").read_text() == "first"


def test_an_artifact_that_a_killed_process_did_not_upload_is_uploaded(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    store.tokenizers.get_or_build("t", partial(described, text="{}"), {})
    RemoteFolder(f"{url}/tokenizers").delete("t.json")

    def never(path: Path) -> None:
        raise AssertionError("built again")

    store.tokenizers.get_or_build("t", never, {})
    assert store.tokenizers.exists("t")


def test_an_artifact_with_a_flipped_bit_is_found(url: str, tmp_path: Path) -> None:
    here, there = store_at(url, tmp_path / "here"), store_at(url, tmp_path / "there")
    here.tokenizers.get_or_build("t", partial(described, text="some text"), {})
    key = next(key for key in keys_of(url) if key.startswith("/tokenizers/t/"))
    overwrite(url, key, flipped)
    with pytest.raises(DamagedError, match="SHA-256"):
        there.tokenizers.open("t")
    with pytest.raises(DamagedError, match="SHA-256"):
        here.tokenizers.verify("t")
    RemoteFolder(url).delete(key.lstrip("/"))
    with pytest.raises(DamagedError, match=r"tokenizer.json of t is missing in .*task=verify full=true repair=true"):
        here.tokenizers.verify("t")
    with pytest.raises(DamagedError, match="is missing"):
        there.tokenizers.open("t")


def test_a_damaged_copy_of_an_artifact_is_downloaded_again(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    path = store.tokenizers.get_or_build("t", partial(described, text="some text"), {})
    described(path, "some")
    assert (store.tokenizers.open("t") / "tokenizer.json").read_text() == "some text"
    described(path, "some tExt")
    store.tokenizers.verify("t")
    assert (store.tokenizers.open("t") / "tokenizer.json").read_text() == "some text"


def test_a_damaged_copy_of_a_large_artifact_is_downloaded_again_before_a_stage_builds_from_it(
    memory: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.infra.dal.artifact.SMALL_BYTES", 0)
    store = store_at(memory, tmp_path)
    path = store.models.get_or_build("m", partial(described, text="some text"), {})
    described(path, "some tExt")
    assert (store.models.open("m") / "tokenizer.json").read_text() == "some tExt"
    assert (store.models.open("m", full=True) / "tokenizer.json").read_text() == "some text"


def test_artifacts_are_removed_and_set_aside(url: str, tmp_path: Path) -> None:
    store = store_at(url, tmp_path)
    for name in ("t", "u"):
        store.tokenizers.get_or_build(name, partial(described, text=name), {})
    store.tokenizers.delete("t")
    assert store.tokenizers.quarantine("u", tmp_path / "damaged") == f"{url}/tokenizers/.damaged/u"
    assert store.tokenizers.get_all_names() == []
    for ask in (store.tokenizers.open, store.tokenizers.delete, store.tokenizers.manifest, store.tokenizers.num_bytes):
        with pytest.raises(NotStoredError, match="nothing is stored as 't'"):
            ask("t")
    with pytest.raises(NotStoredError, match="nothing is stored as 't'"):
        store.tokenizers.quarantine("t", tmp_path)
    assert any(key.startswith("/tokenizers/.damaged/u/") for key in keys_of(url))


# --- upkeep


def test_verify_sets_damaged_things_aside_and_the_next_run_builds_them_again(url: str, tmp_path: Path) -> None:
    from mtx.data.verify import verify_store

    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())
    store.repo.add(dataset_of("two"))
    store.tokenizers.get_or_build("t", partial(described, text="some text"), {})
    assert verify_store(store, full=True).num_checked == 3
    assert verify_store(store, full=True).findings == []
    overwrite(url, first_payload(url), flipped)
    overwrite(url, next(key for key in keys_of(url) if key.startswith("/tokenizers/t/")), flipped)
    assert verify_store(store).findings == []  # a look at sizes alone
    assert [finding.name for finding in verify_store(store, full=True).findings] == ["one", "t"]
    found = verify_store(store, full=True, repair=True)
    assert [(finding.name, finding.state) for finding in found.findings] == [("one", "set aside"), ("t", "set aside")]
    assert found.findings[0].places == [f"{url}/datasets/.damaged/one.json"]
    assert list(store.repo.show()["id"]) == ["two"]
    store.repo.get_or_build("one", dataset_of)
    store.tokenizers.get_or_build("t", partial(described, text="some text"), {})
    assert verify_store(store, full=True).findings == []


def test_of_files_with_one_digest_the_whole_one_is_read(url: str, tmp_path: Path) -> None:
    """What was built again lies beside what was damaged, and either may be listed first."""
    store = store_at(url, tmp_path / "a")
    store.repo.add(dataset_of())
    good, (directory, digest) = first_payload(url), first_payload(url).rsplit("/", 1)
    for number in ("-000000000000", "-ffffffffffff"):
        import fsspec

        fs, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        fs.pipe_file(f"{root}{directory}/{digest.partition('-')[0]}{number}", flipped(fs.cat_file(root + good)))
    assert list(store_at(url, tmp_path / "b").repo.get("one").data) == ROWS
    store.repo.verify("one")


def test_a_damaged_manifest_is_set_aside(memory: str, tmp_path: Path) -> None:
    from mtx.data.verify import verify_store

    store = store_at(memory, tmp_path)
    store.repo.add(dataset_of())
    overwrite(memory, "/datasets/one.json", flipped)
    assert verify_store(store, repair=True).findings[0].state == "set aside"
    assert not store.repo.exists("one")


def test_gc_removes_what_no_manifest_names_once_it_is_old(url: str, tmp_path: Path) -> None:
    from mtx.data.garbage_collection import store_leftovers

    store = store_at(url, tmp_path)
    store.repo.add(dataset_of())
    store.repo.add(dataset_of("two"))
    manifest = store.repo.oal.read("one")
    store.repo.oal.delete("one")
    store.repo.fal.create("one", ROWS)  # once more, by a machine that was not first
    store.tokenizers.get_or_build("t", partial(described, text="t"), {})
    RemoteFolder(f"{url}/tokenizers").delete("t.json")
    assert store_leftovers(store) == []  # too young: it may be another machine's
    for layer in (store.repo.fal, store.tokenizers):
        layer._blobs.grace_s = -1  # type: ignore[attr-defined]
    found = {str(leftover.path): leftover for leftover in store_leftovers(store)}
    assert sorted(found) == [f"{url}/datasets/one", f"{url}/tokenizers/t"]
    store.repo.oal.create("one", manifest)
    assert not found[f"{url}/datasets/one"].remove()  # in use by now
    assert found[f"{url}/tokenizers/t"].remove()
    store.repo.verify("one")
    assert store_leftovers(store) == []


def test_a_store_of_a_newer_version_is_left_alone(memory: str, tmp_path: Path) -> None:
    from mtx.errors import NewerFormatError

    RemoteFolder(memory).create("mtx-store.json", b'{"format_version": 99}')
    with pytest.raises(NewerFormatError, match=f"the store {memory} has format version 99"):
        store_at(memory, tmp_path).repo.get_or_build("one", dataset_of)
    assert keys_of(memory) == ["/mtx-store.json"]


# --- processes and kills


WRITER = """
import sys, time
from mtx.data.dataset import TranslationDataset
from mtx.data.store import Store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.remote.filesystem import RemoteFolder
from mtx.infra.dal.sqlite import SQLiteObjectLayer

url, cache, num_rows, how = sys.argv[1:]
rows = [{"src": f"{cache} {i}", "tgt": "x"} for i in range(int(num_rows))]

def stop(*_):
    print("uploading", flush=True)
    time.sleep(60)

def build():
    return TranslationDataset(id="one", name="n", stage="raw", split="train", languages=("en", "de"), data=rows)

if how == "stops in upload":
    RemoteFolder.upload = stop
if how == "stops before manifest":
    RemoteFolder.create = stop
store = Store(root=url, objects=SQLiteObjectLayer, files=ArrowFileLayer, cache=cache)
print(len(store.repo.get_or_build("one", build)), flush=True)
"""


def test_machines_that_build_at_once_end_with_one_dataset(s3: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        commands = [("-c", WRITER, s3, tmp_path / str(i), str(100 + i), "") for i in range(3)]
        workers = [stack.enter_context(warm_process.started(*command)) for command in commands]
        ended = [worker.wait(100) for worker in workers]
    assert [(worker.returncode, worker.stderr) for worker in ended] == [(0, "")] * 3
    lengths = {worker.stdout.strip() for worker in ended}
    assert len(lengths) == 1  # whoever was first, all three read the same
    store = store_at(s3, tmp_path / "reader")
    assert str(len(store.repo.get("one"))) in lengths
    store.repo.verify("one")


@pytest.mark.parametrize("how", ["stops in upload", "stops before manifest"])
def test_a_writer_that_is_killed_leaves_nothing_that_looks_whole(s3: str, tmp_path: Path, how: str) -> None:
    with warm_process.started("-c", WRITER, s3, tmp_path / "killed", "100", how) as worker:
        worker.wait_for("uploading\n", 60)
        worker.send_signal(signal.SIGKILL)
        assert worker.wait(20).stdout == "uploading\n"
    other, same = store_at(s3, tmp_path / "other"), store_at(s3, tmp_path / "killed")
    assert not other.repo.exists("one")
    assert list(other.repo.manifests()) == []
    assert len(same.repo.get_or_build("one", dataset_of)) == 1000  # its lock is free, its leftovers are replaced
    assert len(other.repo.get("one")) == 1000
    assert list(same.root.glob("datasets/new-*")) == []


def fork_and_read(store: Store, answers: Any) -> None:
    answers.put(len(store.repo.get("one")))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_opens_a_connection_of_its_own(s3: str, tmp_path: Path) -> None:
    store = store_at(s3, tmp_path)
    store.repo.add(dataset_of())
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    worker = context.Process(target=fork_and_read, args=(store, answers))
    worker.start()
    assert answers.get(timeout=60) == 1000
    worker.join(20)
    answers.close()
