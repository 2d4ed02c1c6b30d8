import hashlib
import os
import pickle
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conf_options import layers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtx.errors import AlreadyStoredError, DamagedError, DataError, InUseError, NotStoredError, StoreError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.arrow_rows import Rows
from mtx.infra.dal.fal import OLD_TYPES_SUFFIX, TYPES_SUFFIX, FileAccessLayer
from mtx.infra.dal.maintenance_protocols import FileMaintenance
from mtx.infra.dal.manifest_digest import fields_with_digest, json_bytes
from mtx.infra.dal.protocols import FileLayer

LAYERS = layers("files")

MakeLayer = Callable[..., FileLayer]

HARD_TEXTS = [
    "Hello, world.",
    "吾輩は猫である。",
    "שלום \u202eעולם\u202c",
    "e\u0301 ≠ é",
    "👩‍👩‍👧‍👦 😀",
    "NUL \x00 and \x1b and \x7f",
    "two\u2028lines\u2029\x85\r\nand more",
    '{"src": "no JSON", "tgt": [1]}\\',
    "2020-01-01",
    "2020-01-01T00:00:00Z",
    "007",
    "1e5",
    "null",
    "true",
    "",
    "long " * 20_000,
]


@pytest.fixture(params=LAYERS, ids=lambda layer: layer.__name__)
def make(request: pytest.FixtureRequest) -> MakeLayer:
    layer: MakeLayer = request.param
    return layer


@pytest.fixture
def layer(make: MakeLayer, tmp_path: Path) -> FileLayer:
    return make(location=tmp_path / "store")


def test_is_a_file_layer(layer: FileLayer) -> None:
    assert isinstance(layer, FileLayer)


# What goes in comes out


def test_hard_texts_come_back_as_they_were(layer: FileLayer) -> None:
    rows = [{"src": text, "tgt": text[::-1]} for text in HARD_TEXTS]
    layer.create("one", rows)
    assert list(layer.read("one")) == rows
    assert [layer.read("one")[number] for number in range(len(rows))] == rows


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.int32(), pa.int64(), pa.uint8(), pa.float64(), pa.bool_()],
    ids=str,
)
def test_columns_keep_their_types_also_where_null(layer: FileLayer, kind: pa.DataType) -> None:
    values = {
        "string": ["1", "", "null"],
        "large_string": ["1", "", "x"],
        "double": [0.1, -0.0, 1e300],
        "bool": [True, False],
    }
    table = pa.table({"x": pa.array([*values.get(str(kind), [0, 1, 1]), None], type=kind)})
    layer.create("one", table)
    assert layer.read("one").table.schema == table.schema
    assert layer.read("one").table.equals(table)


@pytest.mark.parametrize("kind", [pa.uint16(), pa.uint32()], ids=str)
@pytest.mark.parametrize("list_of", [pa.list_, pa.large_list], ids=["list", "large_list"])
def test_columns_of_token_ids_come_back_with_their_type(
    layer: FileLayer, kind: pa.DataType, list_of: Callable[[pa.DataType], pa.DataType]
) -> None:
    highest = 2**kind.bit_width - 1
    table = pa.table(
        {
            "source_ids": pa.array([[1, 2, highest], [], [0]], type=list_of(kind)),
            "num_target_bytes": pa.array([5, 0, 2**40], type=pa.int64()),
        }
    )
    layer.create("one", iter(table.to_batches()))
    assert layer.read("one").table.schema == table.schema
    assert layer.read("one").table.equals(table)


@pytest.mark.parametrize("as_batches", [False, True])
def test_an_empty_table_keeps_its_columns(layer: FileLayer, as_batches: bool) -> None:
    schema = pa.schema([("src", pa.large_string()), ("source_ids", pa.large_list(pa.uint16()))])
    empty = pa.RecordBatch.from_pylist([], schema=schema)
    info = layer.create("one", [empty] if as_batches else schema.empty_table())
    assert info.num_rows == 0
    assert layer.read("one").table.schema == schema
    assert list(layer.read("one")) == []


def test_no_rows_at_all_can_be_stored(layer: FileLayer) -> None:
    assert layer.create("one", []).num_rows == 0
    assert len(layer.read("one")) == 0


ROWS = st.lists(st.fixed_dictionaries({"src": st.text(), "tgt": st.text(), "n": st.integers(0, 2**31)}), max_size=8)


@pytest.mark.parametrize("layer_class", LAYERS)
@settings(max_examples=20, deadline=None)
@given(rows=ROWS)
@example(rows=[{"src": "\x00", "tgt": "\ufeff\u2028", "n": 0}])
def test_any_rows_come_back(
    layer_class: MakeLayer, tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]]
) -> None:
    layer = layer_class(location=tmp_path_factory.mktemp("store"))
    layer.create("one", rows)
    assert list(layer.read("one")) == rows


def test_batches_are_written_as_they_come_and_rows_beyond_one_block_too(layer: FileLayer) -> None:
    written: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for number in range(3):
            written.append(number)
            yield pa.record_batch({"n": list(range(number * 10_000, (number + 1) * 10_000))})

    assert layer.create("one", batches()).num_rows == 30_000
    assert written == [0, 1, 2]
    assert layer.read("one").table["n"].to_pylist() == list(range(30_000))


def test_an_iterator_of_rows_is_stored_whole_and_in_order(layer: FileLayer) -> None:
    layer.create("one", ({"n": number} for number in range(20_000)))
    assert layer.read("one").table["n"].to_pylist() == list(range(20_000))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"src": "a", "extra": "b"},
            r"row 1 has the columns \['extra', 'src'\], but the first row has the columns \['src'\]. Give",
        ),
        ({}, r"row 1 has the columns \[\], but the first row has the columns \['src'\]"),
        (
            {"src": 7},
            r"rows 0 to 1 have values of different types in one column, or of other types .*Give each column values",
        ),
        ({"src": "\ud800"}, r"rows 0 to 1 have values of different types in one column"),
        ({"src": 2**70}, r"than the first rows: 'src' has others, such as 1180591620717411303424 \(int\)\. Give"),
    ],
)
def test_rows_that_do_not_fit_the_first_are_refused_and_nothing_is_stored(
    layer: FileLayer, tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        layer.create("one", [{"src": "a"}, row])
    assert files_in(tmp_path) == []


def test_the_first_column_with_values_of_two_types_is_named_and_a_number_too_large_is_refused(layer: FileLayer) -> None:
    names = [f"column {number}" for number in range(20)]
    with pytest.raises(DataError, match="'column 0' has others, such as 'b'"):
        layer.create("one", [dict.fromkeys(names, 1), dict.fromkeys(names, "b")])
    with pytest.raises(DataError, match=r"'n' has others, such as 1180591620717411303424 \(int\)\. Give"):
        layer.create("one", [{"n": 2**70}])


def test_rows_that_arrow_refuses_without_a_single_wrong_value_name_no_column(
    layer: FileLayer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.infra.dal.arrow_rows.unconvertible_value", lambda *_: "a list")
    with pytest.raises(DataError, match=r"than the first rows\. Give each column values of one type"):
        layer.create("one", [{"src": "a"}, {"src": 7}])


def test_what_was_written_is_measured(layer: FileLayer, tmp_path: Path) -> None:
    info = layer.create("one", [{"src": "a"}, {"src": "b"}])
    content = (tmp_path / "store" / f"one{layer.SUFFIX}").read_bytes()  # type: ignore[attr-defined]
    assert (info.num_rows, info.num_bytes) == (2, len(content))
    assert info.sha256 == hashlib.sha256(content).hexdigest()
    assert (layer.num_bytes("one"), layer.sha256("one")) == (info.num_bytes, info.sha256)


# Names


def test_create_refuses_an_existing_name_and_keeps_what_is_there(layer: FileLayer) -> None:
    layer.create("one", [{"src": "a"}])
    with pytest.raises(AlreadyStoredError, match=r"one is stored already in .*store; it is kept"):
        layer.create("one", [{"src": "b"}])
    assert list(layer.read("one")) == [{"src": "a"}]


def test_names_with_dots_stay_apart(layer: FileLayer) -> None:
    for name in ("a", "a.b", "a.jsonl", "a.arrow"):
        layer.create(name, [{"src": name}])
    assert {name: layer.read(name)[0]["src"] for name in ("a", "a.b", "a.jsonl", "a.arrow")} == {
        name: name for name in ("a", "a.b", "a.jsonl", "a.arrow")
    }
    layer.delete("a")
    assert list(layer.read("a.b")) == [{"src": "a.b"}]


@pytest.mark.parametrize("operation", ["read", "delete", "num_bytes", "sha256"])
def test_an_unknown_name_is_refused_with_those_that_are_there(layer: FileLayer, operation: str) -> None:
    layer.create("one", [{"src": "a"}])
    with pytest.raises(NotStoredError, match=r"nothing is stored as 'two' in .*store. Stored there: 1 \(one\)"):
        getattr(layer, operation)("two")
    layer.delete("one")
    assert not layer.exists("one")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "a" * 152])
def test_names_that_climb_or_hide_are_refused_by_every_operation(layer: FileLayer, tmp_path: Path, name: str) -> None:
    for operation in (lambda n: layer.create(n, []), layer.read, layer.delete, layer.exists, layer.lock):
        with pytest.raises(StoreError, match="is not a valid name in a store"):
            operation(name)
    assert files_in(tmp_path) == []


def test_reading_makes_no_folder(layer: FileLayer, tmp_path: Path) -> None:
    assert not layer.exists("one")
    for operation in (layer.read, layer.delete):
        with pytest.raises(NotStoredError, match=r"Stored there: 0 \(none\)"):
            operation("one")
    assert list(tmp_path.iterdir()) == []


def test_deleting_leaves_no_file_and_no_reader_without_rows(layer: FileLayer, tmp_path: Path) -> None:
    layer.create("one", [{"src": "a"}])
    rows = layer.read("one")
    layer.delete("one")
    assert list(rows) == [{"src": "a"}]
    assert files_in(tmp_path) == []


def test_files_get_the_permissions_that_the_umask_says(layer: FileLayer, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        layer.create("one", [{"src": "a"}])
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "store").glob("one.*")} == {0o640}


# What the disk does


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize("call", ["fsync", "replace", "write", "open"])
def test_a_full_disk_is_reported_and_leaves_nothing(
    layer: FileLayer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    layer.create("before", [{"src": "a"}])
    stored = files_in(tmp_path)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    opened = Path.open

    class FullFile:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return refuse if name == "write" else getattr(self.file, name)

    with monkeypatch.context() as patch:
        if call == "fsync":
            patch.setattr(os, "fsync", refuse)
        elif call == "replace":
            patch.setattr(Path, "replace", refuse)
        elif call == "write":
            patch.setattr(Path, "open", lambda path, mode: FullFile(opened(path, mode)))
        else:
            patch.setattr(Path, "open", refuse)
        with pytest.raises(
            StoreError, match=r"one\..* cannot be written: No space left on device. Nothing stored before has changed"
        ):
            layer.create("one", [{"src": "a"}] * 1000)
    assert not layer.exists("one")
    assert files_in(tmp_path) == stored
    layer.create("one", [{"src": "a"}])


def test_an_error_of_the_source_passes_through_and_leaves_nothing(layer: FileLayer, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"src": ["a"]})
        raise ConnectionResetError("the source, not the disk")

    with pytest.raises(ConnectionResetError, match="the source, not the disk"):
        layer.create("one", batches())
    assert not layer.exists("one")
    assert files_in(tmp_path) == []


def test_ctrl_c_leaves_nothing(layer: FileLayer, tmp_path: Path) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"src": ["a"]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        layer.create("one", batches())
    assert not layer.exists("one")
    assert files_in(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_reported(make: MakeLayer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot be created: Not a directory.*storage\.root=FOLDER"):
        make(location=tmp_path / "file").create("one", [])


def test_a_file_that_cannot_be_removed_is_reported_and_kept(layer: FileLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    layer.create("one", [{"src": "a"}])
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", denied)
        with pytest.raises(StoreError, match="Permission denied"):
            layer.delete("one")
    assert list(layer.read("one")) == [{"src": "a"}]


@pytest.mark.parametrize("damage", ["cut short", "emptied", "other bytes"])
def test_a_damaged_file_is_reported(tmp_path: Path, damage: str) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("one", [{"src": "a" * 100}])
    path = tmp_path / "one.arrow"
    content = path.read_bytes()
    path.write_bytes({"cut short": content[:-20], "emptied": b"", "other bytes": b"x" * len(content)}[damage])
    with pytest.raises(
        DamagedError, match=r"one.arrow cannot be read as an Arrow file: .*Run mtx task=verify full=true repair=true"
    ):
        layer.read("one")


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text('{"src": "a"}\n{"src": "b"'),
        lambda path: path.write_text('{"src": "a"}\n{"src": 7}\n'),
        lambda path: path.write_text('{"src": "a", "other": 1}\n'),
        lambda path: path.with_suffix(TYPES_SUFFIX).unlink(),
        lambda path: path.with_suffix(TYPES_SUFFIX).write_bytes(b"x" * 50),
        lambda path: path.with_suffix(TYPES_SUFFIX).write_bytes(json_bytes([1])),
        lambda path: path.with_suffix(TYPES_SUFFIX).write_bytes(
            json_bytes(fields_with_digest({"arrow_schema": "no base64!"}))
        ),
        lambda path: path.with_suffix(TYPES_SUFFIX).write_bytes(
            json_bytes(fields_with_digest({"arrow_schema": "eA=="}))
        ),
    ],
    ids=["cut short", "other type", "other column", "no types", "other types", "a list", "no base64", "no schema"],
)
def test_damaged_lines_are_reported(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    layer = FileAccessLayer(location=tmp_path)
    layer.create("one", [{"src": "a"}, {"src": "b"}])
    damage(tmp_path / "one.jsonl")
    with pytest.raises(DamagedError, match=r"one.jsonl .*Run mtx task=verify full=true repair=true"):
        layer.read("one")


def test_each_changed_byte_of_the_column_types_is_seen(tmp_path: Path) -> None:
    layer = FileAccessLayer(location=tmp_path)
    layer.create("one", [{"src": "a"}])
    types = tmp_path / f"one{TYPES_SUFFIX}"
    whole = types.read_bytes()
    for position in range(len(whole)):
        types.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DamagedError, match=r"one\.jsonl"):
            layer.read("one")
    types.write_bytes(whole)
    assert list(layer.read("one")) == [{"src": "a"}]


def test_rows_of_an_older_mtx_are_read_and_removed_with_their_types(tmp_path: Path) -> None:
    layer = FileAccessLayer(location=tmp_path)
    layer.create("one", [{"src": "a"}])
    (tmp_path / f"one{TYPES_SUFFIX}").unlink()
    schema = pa.schema([("src", pa.large_string())])
    (tmp_path / f"one{OLD_TYPES_SUFFIX}").write_bytes(schema.serialize().to_pybytes())
    assert layer.read("one").table.schema == schema
    assert list(layer.read("one")) == [{"src": "a"}]
    layer.delete("one")
    assert files_in(tmp_path) == []


# Looking after what lies there


def test_a_payload_that_is_set_aside_is_gone_and_kept(layer: FileMaintenance, tmp_path: Path) -> None:
    assert isinstance(layer, FileLayer)
    for times in range(3):
        layer.create("one", [{"src": "a"}])
        place = layer.quarantine("one", tmp_path / "damaged")
        assert not layer.exists("one")
        assert Path(place).name == Path(f"one{layer.SUFFIX}{f'.{times + 1}' if times else ''}").name  # type: ignore[attr-defined]
        assert Path(place).read_bytes()
    with pytest.raises(NotStoredError, match="nothing is stored as 'one'"):
        layer.quarantine("one", tmp_path / "damaged")


def leftovers(layer: FileMaintenance, *with_manifest: str) -> dict[str, str]:
    return {leftover.path.name: leftover.reason for leftover in layer.leftovers(lambda name: name in with_manifest)}


def test_rows_without_a_manifest_and_stopped_writes_are_leftovers_and_nothing_else(
    layer: FileMaintenance, tmp_path: Path
) -> None:
    assert isinstance(layer, FileLayer)
    for name in ("kept", "lost", "a.b"):
        layer.create(name, [{"src": "a"}])
    location, suffix = tmp_path / "store", layer.SUFFIX  # type: ignore[attr-defined]
    (location / f".kept{suffix}.0123456789ab.tmp").write_bytes(b"123")
    (location / "somebody's notes.txt").write_text("mine")
    (location / f"no name!{suffix}").write_text("mine")
    found = list(layer.leftovers(lambda name: name in ("kept", "a.b")))
    assert {leftover.path.name.split(".")[1 if leftover.path.name[0] == "." else 0] for leftover in found} == {
        "kept",
        "lost",
    }
    assert next(leftover for leftover in found if leftover.path.name[0] == ".").num_bytes == 3
    assert all(leftover.remove() for leftover in found)
    assert leftovers(layer, "kept", "a.b") == {}
    assert [layer.exists(name) for name in ("kept", "lost", "a.b")] == [True, False, True]
    assert (location / "somebody's notes.txt").exists()


def test_what_another_process_is_writing_is_left(layer: FileMaintenance, tmp_path: Path) -> None:
    assert isinstance(layer, FileLayer)
    writing, told = threading.Event(), threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"src": ["a"]})
        writing.set()
        told.wait(30)

    with ThreadPoolExecutor(1) as pool:
        writer = pool.submit(layer.create, "one", batches())
        assert writing.wait(30)
        (leftover,) = layer.leftovers(lambda _: False)
        with pytest.raises(InUseError, match=r"one is in use by another process, which holds the lock .*one\.lock"):
            leftover.remove()
        told.set()
        writer.result()
    assert list(layer.read("one")) == [{"src": "a"}]


def test_rows_that_got_their_manifest_meanwhile_are_left(layer: FileMaintenance) -> None:
    assert isinstance(layer, FileLayer)
    layer.create("one", [{"src": "a"}])
    manifests: list[str] = []
    found = list(layer.leftovers(manifests.__contains__))
    manifests.append("one")
    assert not any(leftover.remove() for leftover in found)
    assert layer.exists("one")


def test_a_line_longer_than_the_parser_takes_is_refused_when_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtx.infra.dal.fal.BLOCK_BYTES", 100)
    layer = FileAccessLayer(location=tmp_path)
    layer.create("fits", [{"src": "a" * 80}])
    assert layer.read("fits")[0] == {"src": "a" * 80}
    with pytest.raises(
        StoreError,
        match=r"a row needs 112 bytes as JSON, but JSON Lines are read in blocks of at most 100 .*storage=sqlite_arrow",
    ):
        layer.create("one", [{"src": "a" * 100}])
    assert not layer.exists("one")


def test_lines_are_json_that_any_tool_reads(tmp_path: Path) -> None:
    FileAccessLayer(location=tmp_path).create("one", [{"src": "猫", "tgt": "a\nb"}])
    assert (tmp_path / "one.jsonl").read_text(encoding="utf-8") == '{"src": "猫", "tgt": "a\\nb"}\n'


def test_arrow_keeps_a_column_given_in_one_piece_in_one_piece_and_maps_it(tmp_path: Path) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    ids = pa.array([[number] * 3 for number in range(50_000)], type=pa.large_list(pa.uint16()))
    layer.create("one", [pa.record_batch({"source_ids": ids})])
    before = pa.total_allocated_bytes()
    column = layer.read("one").table["source_ids"]
    assert column.num_chunks == 1
    assert column.chunk(0).values.to_numpy(zero_copy_only=True)[-3:].tolist() == [49_999] * 3
    assert pa.total_allocated_bytes() - before < 10_000


# Several at once


def test_rows_pickle_as_the_way_to_open_the_file(layer: FileLayer) -> None:
    layer.create("one", [{"src": "a" * 1000}] * 1000)
    rows = layer.read("one")
    assert len(pickle.dumps(rows)) < 500
    assert pickle.loads(pickle.dumps(rows)) == rows
    assert pickle.loads(pickle.dumps(layer)).read("one") == rows


def test_rows_of_a_dataset_removed_meanwhile_are_reported_when_unpickled(layer: FileLayer) -> None:
    layer.create("one", [{"src": "a"}])
    pickled = pickle.dumps(layer.read("one"))
    layer.delete("one")
    with pytest.raises(DamagedError, match=r"one\.(jsonl|arrow) cannot be read"):
        pickle.loads(pickled)


def test_a_lock_is_held_by_one_thread_at_a_time_which_may_take_it_again(layer: FileLayer) -> None:
    inside, order = threading.Event(), []

    def other() -> None:
        inside.wait()
        with layer.lock("one"):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with layer.lock("one"):
        inside.set()
        with layer.lock("one"):
            thread.join(timeout=0.2)
            order.append("first")
    thread.join()
    assert order == ["first", "other"]


def test_of_threads_that_create_one_name_one_wins(layer: FileLayer) -> None:
    def create(number: int) -> int | None:
        try:
            layer.create("one", [{"n": number}] * 100)
        except AlreadyStoredError:
            return None
        return number

    with ThreadPoolExecutor(max_workers=4) as pool:
        winners = [number for number in pool.map(create, range(4)) if number is not None]
    assert len(winners) == 1
    assert set(layer.read("one").table["n"].to_pylist()) == set(winners)


WRITER = """
import sys, time
import pyarrow as pa
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.fal import OLD_TYPES_SUFFIX, TYPES_SUFFIX, FileAccessLayer
layer = globals()[sys.argv[1]](location=sys.argv[2])
def batches():
    yield pa.record_batch({"src": ["a" * 1000] * 1000})
    print("writing", flush=True)
    time.sleep(60)
layer.create("one", batches())
"""


def test_a_killed_writer_leaves_nothing_that_looks_whole_and_the_next_one_cleans_up(
    layer: FileLayer, make: MakeLayer, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, make.__name__, str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not layer.exists("one")
    assert len([path for path in files_in(tmp_path) if path.suffix == ".tmp"]) == 1
    layer.create("one", [{"src": "a"}])  # the lock of the dead is free
    assert list(layer.read("one")) == [{"src": "a"}]
    assert [path for path in files_in(tmp_path) if path.suffix == ".tmp"] == []


# Rows


def rows_of(num_rows: int) -> Rows:
    table = pa.table({"n": list(range(num_rows))})
    return Rows(pa.concat_tables([table.slice(0, 2), table.slice(2)]))


def test_rows_act_as_a_sequence() -> None:
    rows, plain = rows_of(5), [{"n": number} for number in range(5)]
    assert list(rows) == plain
    assert rows == plain
    assert rows != plain[:-1]
    assert [rows[index] for index in (0, 4, -1, -5)] == [plain[index] for index in (0, 4, -1, -5)]
    for part in (slice(1, 3), slice(3, 1), slice(None, None, -2), slice(-2, None), slice(9)):
        assert rows[part] == plain[part]
    assert {"n": 3} in rows
    assert repr(rows) == "Rows(5 × ['n'])"


@pytest.mark.parametrize("index", [5, -6])
def test_a_row_beyond_the_end_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"row {index} of 5"):
        rows_of(5)[index]


def test_rows_in_memory_pickle_with_their_content() -> None:
    assert pickle.loads(pickle.dumps(rows_of(5))) == rows_of(5)


def test_rows_can_be_given_a_schema() -> None:
    schema = pa.schema([("n", pa.uint8())])
    assert Rows.of([{"n": 1}], schema).table.schema == schema


def test_a_copied_folder_is_the_same_store(layer: FileLayer, make: MakeLayer, tmp_path: Path) -> None:
    layer.create("one", [{"src": "a"}])
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    assert list(make(location=tmp_path / "copy").read("one")) == [{"src": "a"}]


def test_a_payload_that_another_process_removes_while_it_is_opened_is_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("one", pa.table({"src": ["a"], "tgt": ["b"]}))

    def removed(path: Path) -> Rows:
        path.unlink()
        raise DamagedError("no such file")

    monkeypatch.setattr(layer, "_open", removed)
    with pytest.raises(NotStoredError, match="nothing is stored as 'one'"):
        layer.read("one")


@pytest.mark.parametrize("question", ["num_bytes", "written", "sha256"])
def test_a_file_that_another_process_removes_during_a_question_is_not_stored(
    question: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = ArrowFileLayer(location=tmp_path)
    layer.create("one", [{"src": "a", "tgt": "b"}])
    stored = layer._stored_path

    def removed(name: str) -> Path:
        path = stored(name)
        path.unlink()
        return path

    monkeypatch.setattr(layer, "_stored_path", removed)
    with pytest.raises(NotStoredError):
        getattr(layer, question)("one")
