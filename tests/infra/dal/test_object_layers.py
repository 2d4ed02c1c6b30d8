import json
import os
import pickle
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conf_options import layers
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.errors import AlreadyStoredError, DamagedError, NotStoredError, StoreError
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.maintenance_protocols import Damage, ObjectMaintenance
from mtx.infra.dal.manifest_digest import check_digest, fields_with_digest
from mtx.infra.dal.oal import SHELF_FILE, ObjectAccessLayer
from mtx.infra.dal.protocols import ObjectLayer
from mtx.infra.dal.sqlite import DATABASE, SQLiteObjectLayer

LAYERS = layers("objects")

MakeLayer = Callable[..., ObjectLayer]


@pytest.fixture(params=LAYERS, ids=lambda layer: layer.__name__)
def make(request: pytest.FixtureRequest) -> MakeLayer:
    layer: MakeLayer = request.param
    return layer


@pytest.fixture
def layer(make: MakeLayer, tmp_path: Path) -> ObjectLayer:
    return make(location=tmp_path / "store")


def test_is_an_object_layer(layer: ObjectLayer) -> None:
    assert isinstance(layer, ObjectLayer)


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        0,
        -1.5,
        True,
        "",
        {"a": [1, {"b": None}], "ü": "語 \u2028 \x00 \ud800 😀", "2020-01-01": "007"},
        {"large": 2**63, "tiny": 5e-324},
    ],
)
def test_reads_back_what_was_created(layer: ObjectLayer, value: Any) -> None:
    layer.create("one", value)
    assert layer.read("one") == value
    assert type(layer.read("one")) is type(value)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("layer_class", LAYERS)
@settings(max_examples=10, deadline=None)
@given(entries=st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9._=-]{0,5}", fullmatch=True), JSON_VALUES, max_size=4))
def test_acts_as_a_dictionary(
    layer_class: MakeLayer, tmp_path_factory: pytest.TempPathFactory, entries: dict[str, Any]
) -> None:
    layer = layer_class(location=tmp_path_factory.mktemp("store"))
    for name, value in entries.items():
        layer.create(name, value)
    assert layer.get_all_names() == sorted(entries)
    assert {name: layer.read(name) for name in entries} == entries
    for name in list(entries)[::2]:
        layer.delete(name)
    assert layer.get_all_names() == sorted(list(entries)[1::2])


def test_create_refuses_an_existing_name_and_keeps_what_is_there(layer: ObjectLayer) -> None:
    layer.create("one", 1)
    with pytest.raises(AlreadyStoredError, match=r"one is stored already in .*store; it is kept. Remove it first"):
        layer.create("one", 2)
    assert layer.read("one") == 1


def test_a_name_can_be_used_again_once_deleted(layer: ObjectLayer) -> None:
    layer.create("one", 1)
    layer.delete("one")
    assert not layer.exists("one")
    layer.create("one", 2)
    assert layer.read("one") == 2


@pytest.mark.parametrize("operation", ["read", "delete"])
def test_an_unknown_name_is_refused_with_those_that_are_there_the_closest_first(
    layer: ObjectLayer, operation: str
) -> None:
    for name in ("alpha", "raw-train-1", "zeta"):
        layer.create(name, 1)
    with pytest.raises(NotStoredError, match=r"'raw-train-2' in .*Stored there: 3 \(raw-train-1, alpha, zeta\)"):
        getattr(layer, operation)("raw-train-2")
    assert layer.get_all_names() == ["alpha", "raw-train-1", "zeta"]


def test_a_store_that_was_never_written_to_is_empty_and_reading_makes_no_folder(
    layer: ObjectLayer, tmp_path: Path
) -> None:
    assert layer.get_all_names() == []
    assert not layer.exists("one")
    for operation in (layer.read, layer.delete):
        with pytest.raises(NotStoredError, match=r"nothing is stored as 'one' in .*Stored there: 0 \(none\)"):
            operation("one")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a" * 152, "a\n", "ü", "a\x00", "\ud800", 7])
def test_names_that_are_unsafe_as_file_names_are_refused_by_every_operation(layer: ObjectLayer, name: str) -> None:
    for operation in (lambda n: layer.create(n, 1), layer.read, layer.delete, layer.exists):
        with pytest.raises(StoreError, match=r"is not a valid name in a store. A name has 1 to 151 of the characters"):
            operation(name)


def test_what_json_lacks_is_refused(layer: ObjectLayer) -> None:
    with pytest.raises(
        StoreError, match="one cannot be stored as a manifest, because JSON cannot represent a value in it: object"
    ):
        layer.create("one", {"a": object()})
    assert not layer.exists("one")


def test_an_object_survives_pickling(layer: ObjectLayer) -> None:
    layer.create("one", 1)
    assert pickle.loads(pickle.dumps(layer)).read("one") == 1


def test_a_home_folder_is_expanded(make: MakeLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    make(location="~/store").create("one", 1)
    assert make(location=tmp_path / "store").read("one") == 1


# Several at once


CREATOR = """
import sys
from mtx.errors import AlreadyStoredError
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
layer = globals()[sys.argv[1]](location=sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
for name in sys.argv[3:]:
    try:
        layer.create(name, sys.argv[3:])
    except AlreadyStoredError:
        pass
"""


def test_processes_that_make_the_store_together_lose_nothing(make: MakeLayer, tmp_path: Path) -> None:
    names = [[f"{owner}-{number}" for number in range(6) for owner in (worker, "all")] for worker in range(3)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CREATOR, make.__name__, str(tmp_path), *own],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for own in names
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    ended = [process.communicate("go\n", timeout=60) for process in processes]
    assert [error for _, error in ended] == [""] * 3
    assert make(location=tmp_path).get_all_names() == sorted({name for own in names for name in own})


def test_threads_lose_nothing(layer: ObjectLayer) -> None:
    names = [f"n{number}" for number in range(20)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        list(pool.map(layer.create, names, range(20)))
    assert {name: layer.read(name) for name in layer.get_all_names()} == {f"n{number}": number for number in range(20)}


WRITER = """
import sys
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
layer = globals()[sys.argv[1]](location=sys.argv[2])
for number in range(100_000):
    name = f"{sys.argv[3]}-{number}"
    layer.create(name, {"number": number, "filling": "x" * 5000})
    print(name, flush=True)
"""


def test_a_killed_writer_loses_nothing_it_was_told_is_stored(make: MakeLayer, tmp_path: Path) -> None:
    layer = make(location=tmp_path)
    told: list[str] = []
    for run in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, make.__name__, str(tmp_path), f"run{run}"], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        told += [process.stdout.readline().strip() for _ in range(5 + 7 * run)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()
        process.wait()
        process.stdout.close()
    assert set(told) <= set(layer.get_all_names())
    assert all(layer.read(name)["number"] == int(name.split("-")[1]) for name in told)  # type: ignore[index,call-overload]
    layer.create("afterwards", 1)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


# What the disk does


def refuse(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_reported_and_changes_nothing(
    layer: ObjectLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer.create("one", 1)
    before = sorted(path.name for path in (tmp_path / "store").iterdir())
    with monkeypatch.context() as patch:
        if isinstance(layer, SQLiteObjectLayer):
            connect = sqlite3.connect

            def small(*args: Any, **kwargs: Any) -> sqlite3.Connection:
                db: sqlite3.Connection = connect(*args, **kwargs)
                db.execute("PRAGMA max_page_count=1")  # SQLite then says what it says of a full disk
                return db

            patch.setattr(sqlite3, "connect", small)
        else:
            patch.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=r"(No space left on device|the disk is full)\. Nothing stored"):
            layer.create("two", "x" * 100_000)
    assert layer.get_all_names() == ["one"]
    assert layer.read("one") == 1
    assert sorted(path.name for path in (tmp_path / "store").iterdir()) == before


def test_a_folder_that_cannot_be_made_is_reported(make: MakeLayer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StoreError, match=r"folder .*file/store(/locks)? cannot be created: Not a directory.*storage\.root=FOLDER"
    ):
        make(location=tmp_path / "file" / "store").create("one", 1)


def test_a_lock_that_cannot_be_taken_is_reported(
    make: MakeLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.FileLock.acquire", denied)
    with pytest.raises(StoreError, match=r"lock .*cannot be acquired: Permission denied.*storage\.root=FOLDER"):
        make(location=tmp_path).create("one", 1)


@pytest.mark.parametrize("journal_left", [False, True])
def test_a_store_that_cannot_be_written_to_can_be_read(
    make: MakeLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal_left: bool
) -> None:
    layer = make(location=tmp_path)
    layer.create("one", 1)
    writer = None
    if journal_left and make is SQLiteObjectLayer:  # a writer keeps the journal open, and `two` is only there
        writer = sqlite3.connect(tmp_path / DATABASE)
        writer.execute("SELECT * FROM manifest").fetchall()
        layer.create("two", 2)
        assert (tmp_path / f"{DATABASE}-wal").exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert layer.read("one") == 1
    assert layer.exists("two") == (writer is not None)
    if make is SQLiteObjectLayer:
        with pytest.raises(StoreError, match=r"it is read-only. Nothing stored has changed"):
            layer.create("three", 3)
    if writer is not None:
        writer.close()


def test_in_a_folder_without_write_permission_a_manifest_of_another_process_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader = SQLiteObjectLayer(location=tmp_path), SQLiteObjectLayer(location=tmp_path)
    writer.create("one", 1)
    with reader.connection():
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda *_: False)
            assert reader.get_all_names() == ["one"]
        for number in range(30):  # several pages
            writer.create(f"more-{number:03}", "x" * 500)
        with monkeypatch.context() as patched:
            patched.setattr(os, "access", lambda *_: False)
            assert len(reader.get_all_names()) == 31
            assert reader.read("more-029") == "x" * 500


def test_a_damaged_shelf_is_reported_and_not_overwritten(tmp_path: Path) -> None:
    layer = ObjectAccessLayer(location=tmp_path)
    layer.create("one", {"a": 1})
    whole = (tmp_path / SHELF_FILE).read_bytes()
    for damaged, message in (
        (whole[:-3], "cannot be read: the error is at line "),
        (b"", "cannot be read: the error is at line 1, column 1"),
        (b"[1]", "must contain a JSON object of manifests by name, but contains a list"),
        (b"\xff\xfe\xff", "cannot be read: "),
    ):
        (tmp_path / SHELF_FILE).write_bytes(damaged)
        for operation in (layer.read, layer.exists, lambda name: layer.create(name, 2)):
            with pytest.raises(DamagedError, match=f"{SHELF_FILE} {message}|in .*{SHELF_FILE} {message}"):
                operation("one")
        assert (tmp_path / SHELF_FILE).read_bytes() == damaged


def test_a_shelf_is_readable_text(tmp_path: Path) -> None:
    ObjectAccessLayer(location=tmp_path).create("one", {"a": 1})
    assert json.loads((tmp_path / SHELF_FILE).read_text()) == {"one": {"a": 1}}


def test_a_damaged_database_is_reported(tmp_path: Path) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    (tmp_path / DATABASE).write_bytes(b"no database at all" * 100)
    for operation in (layer.read, layer.exists, lambda name: layer.create(name, 2)):
        with pytest.raises(
            DamagedError,
            match=r"cannot be read: it is no database of SQLite. Run mtx task=verify full=true repair=true to keep",
        ):
            operation("one")


def test_a_damaged_entry_of_a_database_is_named(tmp_path: Path) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    layer.create("one", 1)
    db = sqlite3.connect(tmp_path / DATABASE)
    with db:
        db.execute("UPDATE manifest SET value = '{'")
    db.close()
    with pytest.raises(
        DamagedError,
        match=r"the manifest of one in .* changed on disk: the manifest is not valid JSON: .*Run mtx task=verify",
    ):
        layer.read("one")
    layer.delete("one")
    assert not layer.exists("one")


def test_manifests_run_no_code_when_read(tmp_path: Path) -> None:
    harmful = pickle.dumps(os.system)
    (tmp_path / SHELF_FILE).write_bytes(harmful)
    with pytest.raises(DamagedError, match="cannot be read"):
        ObjectAccessLayer(location=tmp_path).read("one")


# Looking after what lies there


def manifest_of(name: str) -> dict[str, Any]:
    return fields_with_digest({"format_version": 2, "id": name, "filling": ["x" * 40] * 4})


def filled(layer: ObjectLayer, number: int = 3) -> dict[str, Any]:
    entries = {f"raw-{index}": manifest_of(f"raw-{index}") for index in range(number)}
    for name, entry in entries.items():
        layer.create(name, entry)
    return entries


def read_all(layer: ObjectLayer) -> dict[str, Any]:
    return {name: layer.read(name) for name in layer.get_all_names()}


def check_manifests(layer: ObjectLayer) -> None:
    """As a dataset's manifest is checked."""
    for name in layer.get_all_names():
        entry: Any = layer.read(name)
        check_digest(entry, name)
        if entry["id"] != name:
            raise DamagedError(name)


def the_file_of(layer: ObjectLayer, name: str = "raw-1") -> Path:
    location: Path = layer.location  # type: ignore[attr-defined]
    if isinstance(layer, JSONFileObjectLayer):
        return location / "manifests" / f"{name}.json"
    return location / (DATABASE if isinstance(layer, SQLiteObjectLayer) else SHELF_FILE)


def test_what_is_whole_is_found_whole_and_repair_leaves_it(layer: ObjectMaintenance, tmp_path: Path) -> None:
    assert isinstance(layer, ObjectLayer)
    assert layer.check(full=True) == layer.check(full=False) == []  # also where nothing was ever stored
    entries = filled(layer)
    assert layer.check(full=True) == layer.check(full=False) == []
    if not isinstance(layer, SQLiteObjectLayer):
        assert layer.repair(tmp_path / "damaged") == []
    assert list(layer.leftovers()) == []
    assert read_all(layer) == entries


def test_a_manifest_that_is_set_aside_is_gone_and_kept(layer: ObjectMaintenance, tmp_path: Path) -> None:
    assert isinstance(layer, ObjectLayer)
    entries = filled(layer)
    place = layer.quarantine("raw-1", tmp_path / "damaged")
    assert json.loads(Path(place).read_bytes()) == entries.pop("raw-1")
    assert read_all(layer) == entries
    with pytest.raises(NotStoredError if not isinstance(layer, JSONFileObjectLayer) else StoreError):
        layer.quarantine("raw-1", tmp_path / "damaged")


def test_stopped_writes_are_leftovers(layer: ObjectMaintenance) -> None:
    assert isinstance(layer, ObjectLayer)
    filled(layer)
    file = the_file_of(layer)
    left = file.with_name(f".{file.name}.0123456789ab.tmp")
    left.write_bytes(b"half")
    (leftover,) = layer.leftovers()
    assert (leftover.path, leftover.num_bytes) == (left, 4)
    assert leftover.remove()
    assert not left.exists()
    assert len(layer.get_all_names()) == 3


@pytest.mark.parametrize("stride", [1, 89] if os.environ.get("MTX_TEST_ALL") == "1" else [89])  # 1: some minutes
def test_a_changed_byte_of_a_database_is_found_or_changes_no_manifest(tmp_path: Path, stride: int) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    entries = filled(layer)
    layer.create("gone", {"text": "y" * 300})
    layer.delete("gone")
    path = tmp_path / DATABASE
    whole, found = path.read_bytes(), 0
    for position in range(0, len(whole), stride):
        changed = bytearray(whole)
        changed[position] ^= 0x11
        path.write_bytes(changed)
        for beside in ("-wal", "-shm"):
            path.with_name(path.name + beside).unlink(missing_ok=True)
        if layer.check(full=True):
            found += 1
            continue
        try:
            check_manifests(layer)
        except DamagedError:
            found += 1
        else:
            assert read_all(layer) == entries, f"byte {position} changed a manifest, unseen"
    assert found > len(whole) / stride / 100


@pytest.mark.parametrize("place", [*range(0, 24), *range(44, 48), *range(56, 92)])
def test_a_changed_byte_in_what_is_fixed_of_a_database_is_found(tmp_path: Path, place: int) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    filled(layer, 1)
    changed = bytearray((tmp_path / DATABASE).read_bytes())
    changed[place] ^= 1
    (tmp_path / DATABASE).write_bytes(changed)
    assert layer.check(full=True)


@pytest.mark.parametrize("damage", ["a page of rows", "the index", "cut short", "nothing left", "the table's name"])
def test_of_a_damaged_database_all_that_can_be_read_is_kept(tmp_path: Path, damage: str) -> None:
    layer = SQLiteObjectLayer(location=tmp_path / "store")
    entries = filled(layer, 60)
    path = tmp_path / "store" / DATABASE
    content = bytearray(path.read_bytes())
    if damage == "a page of rows":
        at = content.index(b'"id": "raw-30"') // 4096 * 4096
        content[at : at + 4096] = bytes(4096)
    elif damage == "the index":
        (at, *_) = (at for at in range(4096, len(content), 4096) if content[at] == 10)  # a leaf of an index
        content[at + 3] ^= 0xFF
    elif damage == "cut short":
        del content[len(content) // 4096 // 2 * 4096 :]
    elif damage == "the table's name":
        at = content.index(b"CREATE TABLE manifest")
        content[at + 13] ^= 1
    else:
        content[:] = b"no database" * 1000
    path.write_bytes(content)
    (damaged, *_) = layer.check(full=True)
    assert damaged.name == DATABASE
    places = layer.repair(tmp_path / "damaged")
    assert Path(places[0]).read_bytes() == bytes(content)
    assert layer.check(full=True) == []
    kept = read_all(layer)
    assert kept.items() <= entries.items()
    least = {"a page of rows": 40, "the index": 60, "cut short": 1, "nothing left": 0, "the table's name": 0}[damage]
    assert len(kept) >= least
    layer.create("new", 1)
    assert layer.read("new") == 1


def test_a_write_that_waited_for_a_repair_goes_into_the_new_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    filled(layer, 2)
    connect, repaired = layer._connect, []

    def late() -> sqlite3.Connection:
        db = connect()  # the old database is open
        if not repaired:
            repaired.append(True)
            layer.repair(tmp_path / "damaged")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(layer, "_connect", late)
        layer.create("raw-9", manifest_of("raw-9"))
    assert layer.get_all_names() == ["raw-0", "raw-1", "raw-9"]


@pytest.mark.parametrize(
    ("damage", "kept"),
    [
        (lambda content: content[:-40], {"raw-0", "raw-1"}),
        (lambda content: content.replace(b'"id": "raw-1"', b'"id": "raw-1'), {"raw-0", "raw-2"}),
        (lambda content: content.replace(b'"id": "raw-1"', b'"id": "raw-7"'), {"raw-0", "raw-2"}),
        (lambda content: content.replace(b"{", b"[", 1), {"raw-0", "raw-1", "raw-2"}),
        (lambda content: b"\0" * 1000, set()),
        (lambda content: pickle.dumps({"one": os.system}), set()),
        (lambda content: b"[" * 100_000, set()),
        (lambda content: b'{\n "../../x": 1,\n "a": 2\n}', {"a"}),
    ],
    ids=["cut short", "no JSON", "another id", "the first byte", "zeros", "a pickle", "deep", "a name that climbs"],
)
def test_of_a_damaged_shelf_all_that_can_be_read_is_kept(
    tmp_path: Path, damage: Callable[[bytes], bytes], kept: set[str]
) -> None:
    layer = ObjectAccessLayer(location=tmp_path / "store")
    entries = filled(layer)
    path = tmp_path / "store" / SHELF_FILE
    path.write_bytes(damage(path.read_bytes()))
    damaged = path.read_bytes()
    assert all(found.name == SHELF_FILE for found in layer.check(full=True))
    (place,) = layer.repair(tmp_path / "damaged") or [None]
    if place is not None:
        assert Path(place).read_bytes() == damaged
        assert set(layer.get_all_names()) == kept
    assert all(layer.read(name) == entries[name] for name in kept & entries.keys())
    assert layer.check(full=True) == []


def test_each_changed_byte_of_a_manifests_file_is_found(tmp_path: Path) -> None:
    layer = JSONFileObjectLayer(location=tmp_path)
    filled(layer, 1)
    path = the_file_of(layer, "raw-0")
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DamagedError):
            check_digest(layer.read("raw-0"), "raw-0")  # type: ignore[arg-type]


def test_each_changed_byte_of_a_shelf_is_found(tmp_path: Path) -> None:
    layer = ObjectAccessLayer(location=tmp_path)
    filled(layer, 2)
    path = tmp_path / SHELF_FILE
    whole = path.read_bytes()
    for position in range(0, len(whole), 3):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        if layer.check(full=True):
            continue
        with pytest.raises(DamagedError):
            check_manifests(layer)


def test_among_manifests_a_strange_file_is_named_and_set_aside(tmp_path: Path) -> None:
    layer = JSONFileObjectLayer(location=tmp_path / "store")
    entries = filled(layer)
    (tmp_path / "store" / "manifests" / "notes.txt").write_text("mine")
    (found,) = layer.check(full=False)
    assert found == Damage(
        "notes.txt", f"{tmp_path}/store/manifests/notes.txt does not have the name of a manifest, which is NAME.json"
    )
    assert layer.repair(tmp_path / "damaged") == [str(tmp_path / "damaged" / "notes.txt")]
    assert layer.check(full=True) == []
    assert read_all(layer) == entries


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the manifest of raw-1 cannot be read: .*raw-1.json is not valid JSON: the error is at line 1, column 1"),
        (b"{} ", "the manifest of raw-1 has changed on disk: the bytes of .* are not as mtx writes them"),
        (b"[" * 100_000, "is not valid JSON"),
        (pickle.dumps(os.system), "is not valid JSON"),
    ],
)
def test_a_damaged_manifest_file_is_named_and_the_others_are_read(tmp_path: Path, content: bytes, message: str) -> None:
    layer = JSONFileObjectLayer(location=tmp_path)
    entries = filled(layer)
    the_file_of(layer).write_bytes(content)
    with pytest.raises(DamagedError, match=message):
        layer.read("raw-1")
    assert layer.read("raw-2") == entries["raw-2"]
    assert layer.exists("raw-1")
    with pytest.raises(AlreadyStoredError):
        layer.create("raw-1", 1)


def test_a_manifest_that_another_machine_stored_first_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = JSONFileObjectLayer(location=tmp_path)
    layer.create("one", 1)
    with monkeypatch.context() as patch:
        patch.setattr(JSONFileObjectLayer, "exists", lambda *_: False)  # what a stale cache of a network folder says
        with pytest.raises(AlreadyStoredError, match=r"one is stored already in .*; it is kept"):
            layer.create("one", 2)
    assert layer.read("one") == 1
    assert [path.name for path in (tmp_path / "manifests").iterdir()] == ["one.json"]


def test_where_a_file_system_knows_no_links_a_lock_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    layer = JSONFileObjectLayer(location=tmp_path)
    layer.create("one", 1)
    assert layer.read("one") == 1
    with pytest.raises(AlreadyStoredError):
        layer.create("one", 2)


def test_a_manifest_file_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = JSONFileObjectLayer(location=tmp_path)
    layer.create("one", 1)

    def denied(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DamagedError, match=r"the manifest of one in .*one.json cannot be read: Permission denied"):
        layer.read("one")


WATCHER = """
import sys
from mtx.infra.dal.oal import ObjectAccessLayer
layer = ObjectAccessLayer(location=sys.argv[1])
for number in range(40):
    layer.create(f"{sys.argv[2]}-{number}", {"number": number})
    assert layer.read(f"{sys.argv[2]}-{number}") == {"number": number}
"""


def test_two_processes_that_write_one_shelf_lose_nothing(tmp_path: Path) -> None:
    writers = [subprocess.Popen([sys.executable, "-c", WATCHER, str(tmp_path), name]) for name in ("a", "b")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert len(ObjectAccessLayer(location=tmp_path).get_all_names()) == 80


def test_only_names_that_are_text_are_told(tmp_path: Path) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    layer.create("one", 1)
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("INSERT INTO manifest (name, value) VALUES (x'ff00', '{}')")
    db.close()
    assert layer.get_all_names() == ["one"]


def test_an_error_that_quotes_bytes_that_are_no_text_tells_of_damage(tmp_path: Path) -> None:
    layer = SQLiteObjectLayer(location=tmp_path)
    layer.create("one", 1)
    with sqlite3.connect(tmp_path / DATABASE) as db:
        db.execute("PRAGMA writable_schema=ON")
        db.execute("UPDATE sqlite_master SET sql = 'CREATE TABLE (', name = CAST(x'ffff' AS TEXT)")
    db.close()
    for ask in (lambda: layer.read("one"), layer.get_all_names):
        with pytest.raises(DamagedError, match=r"the database .*manifests\.sqlite cannot be read: ") as caught:
            ask()
        assert isinstance(caught.value.__cause__, UnicodeDecodeError)
