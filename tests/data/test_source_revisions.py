"""What the store remembers of sources is checked, set aside and tidied as all else in it."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mtx.data.garbage_collection import store_leftovers
from mtx.data.remembered_sources import Seen, SourceMemory
from mtx.data.store import Store
from mtx.data.verify import Verification, verify_store
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.locks import file_lock
from mtx.infra.dal.manifest_digest import fields_with_digest, json_bytes
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import HFDatasetDownloader

SOURCE = HFDatasetDownloader(dataset="some/name", language="de-en")
SEEN = Seen("0123abcd" * 5, ("de", "en"), ("train",), {}, datetime(2026, 1, 31, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(root=tmp_path / "store", objects=SQLiteObjectLayer, files=ArrowFileLayer)
    SourceMemory(made).write(SOURCE, SEEN)
    assert SourceMemory(made).read(SOURCE) == SEEN
    return made


def record(store: Store) -> Path:
    return SourceMemory(store).path(SOURCE)


def told(found: Verification) -> list[tuple[str, str]]:
    return [(finding.name, finding.state) for finding in found.findings]


def test_a_record_as_it_was_written_is_looked_at_and_nothing_is_found(store: Store) -> None:
    for full in (False, True):
        found = verify_store(store, full=full)
        assert (found.num_checked, found.findings) == (1, [])
    assert list(store_leftovers(store)) == []


def test_every_changed_byte_of_a_record_is_found(store: Store) -> None:
    whole = record(store).read_bytes()
    for at in range(len(whole)):
        record(store).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert told(verify_store(store)) == [(record(store).name, "damaged")], at


def test_a_damaged_record_is_set_aside_and_written_anew(store: Store) -> None:
    record(store).write_bytes(b"[\n 1\n]")
    found = verify_store(store, repair=True)
    assert told(found) == [(record(store).name, "set aside")]
    (finding,) = found.findings
    assert finding.reason == f"the record of a source, {record(store)}, is not a JSON object"
    assert finding.places == [str(store.damaged / "sources" / record(store).name)]
    assert not record(store).exists()
    assert verify_store(store).findings == []
    (leftover,) = store_leftovers(store)
    assert (leftover.path, leftover.reason) == (store.damaged / "sources" / record(store).name, "set aside as damaged")
    SourceMemory(store).write(SOURCE, SEEN)
    assert SourceMemory(store).read(SOURCE) == SEEN


def test_a_record_under_another_name_and_a_file_that_is_none_are_found(store: Store) -> None:
    other = record(store).with_name("ab.json")
    other.write_bytes(record(store).read_bytes())
    strange = record(store).with_name("read me.txt")
    strange.write_bytes(b"hello")
    (store.root / "sources" / "folder.json").mkdir()
    found = verify_store(store)
    assert sorted(told(found)) == [("ab.json", "damaged"), ("folder.json", "damaged"), ("read me.txt", "damaged")]
    reason = next(f for f in found.findings if f.name == "ab.json").reason
    assert "belongs to another source than its file name" in reason
    verify_store(store, repair=True)
    assert told(verify_store(store)) == []
    assert sorted(path.name for path in (store.damaged / "sources").iterdir()) == [
        "ab.json",
        "folder.json",
        "read me.txt",
    ]


def test_a_record_of_a_newer_mtx_is_left_as_it_is(store: Store) -> None:
    fields = {**json.loads(record(store).read_text()), "format_version": 2}
    newer = json_bytes(fields_with_digest(fields))
    record(store).write_bytes(newer)
    assert told(verify_store(store, repair=True)) == [(record(store).name, "of a newer mtx")]
    assert record(store).read_bytes() == newer


def test_a_record_that_another_process_writes_is_not_set_aside(store: Store) -> None:
    record(store).write_bytes(b"{")
    with file_lock(store.root / "sources", record(store).stem), ThreadPoolExecutor(1) as pool:
        found = pool.submit(verify_store, store, repair=True).result()
    assert told(found) == [(record(store).name, "damaged")]
    assert "another process uses it" in found.findings[0].reason
    assert record(store).exists()


def test_what_a_killed_writer_left_is_found_and_removed(store: Store) -> None:
    left = record(store).with_name(f".{record(store).name}.0123456789ab.tmp")
    left.write_bytes(b"{")
    (leftover,) = store_leftovers(store)
    assert (leftover.path, leftover.reason, leftover.num_bytes) == (left, "an interrupted write", 1)
    assert leftover.remove()
    assert not left.exists()
    assert record(store).exists()
    assert verify_store(store).findings == []
