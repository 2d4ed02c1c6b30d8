"""Pieces of local files: the same pairs, counts and messages as in one pass, in tasks and processes."""

import gzip
import json
import logging
import os
import pickle
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mtx.data import bounded_pair_batches
from mtx.data.dataset import TranslationDataset
from mtx.data.engine_protocol import Engine
from mtx.data.process_pool_engine import ProcessPoolEngine
from mtx.data.stage_runner import StageRunner
from mtx.data.store import Store
from mtx.data.text_stages import build_raw
from mtx.errors import MalformedPairError, MtxError, SourceError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dataset.download import Downloader
from mtx.infra.dataset.pair_stream import Refusals
from mtx.infra.dataset.sources import file_pieces, local_files
from mtx.infra.dataset.sources.local import LocalDownloader
from mtx.infra.dataset.sources.translation_directions import DirectedDownloader

ROWS = [
    {
        "src": f"source {number} é日" + "x" * (number % 40),
        "tgt": "" if number % 9 == 4 else f'target "{number}"\u2028\r same line',
        "score": None if number % 3 else number / 2,
        "tags": ["a", None][: number % 3],
    }
    for number in range(300)
]


def lines(rows: list[Any]) -> str:
    return "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)


def write_jsonl(folder: Path) -> dict[str, Any]:
    rows: list[Any] = [*ROWS]
    rows[250:250] = ["", "  \t", '{"src": "no target"}', '{"src": 1, "tgt": "number"}']
    rows[3:3] = ["[]"]
    (folder / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines(rows).encode().removesuffix(b"\n"))
    return {"path": str(folder / "a.jsonl"), "columns": ["score", "tags"]}


def write_crlf(folder: Path) -> dict[str, Any]:
    (folder / "a.jsonl").write_bytes(lines(ROWS).encode().replace(b"\n", b"\r\n"))
    return {"path": str(folder / "a.jsonl")}


def write_parquet(folder: Path) -> dict[str, Any]:
    rows = [{**row, "src": None} if number in (5, 260) else row for number, row in enumerate(ROWS)]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=37)
    return {"path": str(folder / "a.parquet"), "columns": ["score", "tags"]}


def write_lines(folder: Path) -> dict[str, Any]:
    source = "".join(f"{row['src']}\n" for row in ROWS).encode()
    target = "".join(f"{row['tgt']}\n" for row in ROWS).encode().removesuffix(b"\n")
    (folder / "c.en").write_bytes(source.replace(b"source 7 ", b"source \xff "))
    (folder / "c.de").write_bytes(target.replace(b'target "280"', b'target "\xfe"'))
    return {"source_path": str(folder / "c.en"), "target_path": str(folder / "c.de")}


def write_folder(folder: Path) -> dict[str, Any]:
    (folder / "data").mkdir()
    for number in range(12):
        part = lines(ROWS[25 * number : 25 * number + 25]).encode()
        if number % 3 == 0:
            (folder / "data" / f"{number:02}.jsonl.gz").write_bytes(gzip.compress(part))
        elif number % 3 == 1:
            (folder / "data" / f"{number:02}.jsonl").write_bytes(part)
        else:
            rows = ROWS[25 * number : 25 * number + 25]
            table = "src\ttgt\n" + "".join(f"{row['src']}\t{row['tgt']}\n" for row in rows).replace("\r", "")
            (folder / "data" / f"{number:02}.tsv").write_text(table)
    return {"path": str(folder / "data")}


SOURCES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "jsonl": write_jsonl,
    "crlf": write_crlf,
    "parquet": write_parquet,
    "lines": write_lines,
    "folder": write_folder,
}


def stored(
    root: Path, downloader: Downloader, rows_per_task: int, engine: Engine | None = None, *, compress: bool = True
) -> tuple[TranslationDataset, bytes]:
    """Return the manifest of the raw dataset, and the bytes of its rows."""
    files = partial(ArrowFileLayer, compress_text=compress)
    store = Store(root=root / f"{rows_per_task}-{engine is None}-{compress}", objects=JSONFileObjectLayer, files=files)
    runner = StageRunner(store, engine=engine, shard_rows=rows_per_task)
    try:
        raw_id = build_raw(downloader, runner, downloader.info(), "train")
    finally:
        runner.close()
    (path,) = (store.root / "datasets").rglob("*.arrow")
    assert list((store.root / "scratch").glob("*")) == []
    return store.repo.manifest(raw_id), path.read_bytes()


def num_pieces(downloader: Downloader, rows_per_task: int) -> int:
    reader = downloader.piece_reader("train", rows_per_task * 128)
    return 1 if reader is None else len(reader.ranges)


def both_readings(options: dict[str, Any]) -> tuple[Any, list[Any]]:
    """Return the pairs and counts of one pass, and those of all pieces, read by themselves in reverse order."""
    downloader = LocalDownloader(**options, on_error="skip")
    counts: dict[str, int] = {}
    whole = pa.Table.from_batches(downloader.batches("train", counts)).to_pylist(), counts
    found = []
    for rows_per_task in (100, 30, 3):
        reader = pickle.loads(pickle.dumps(downloader.piece_reader("train", rows_per_task * 128)))
        pieces, counted = [], {}
        for first, _ in reversed(reader.ranges):
            of_piece: dict[str, int] = {}
            pieces.insert(0, [row for batch in reader.read(first, of_piece) for row in batch.to_pylist()])
            counted = Refusals("skip", dict(of_piece)).counts | {
                key: counted.get(key, 0) + of_piece.get(key, 0) for key in counted | of_piece
            }
        found.append(([row for piece in pieces for row in piece], counted))
        assert len(pieces) >= min(3, len(ROWS) // (2 * rows_per_task))
    return whole, found


@pytest.mark.parametrize("blocks", [4 << 20, 1000])
@pytest.mark.parametrize("name", SOURCES)
def test_pieces_are_the_rows_of_one_pass(
    tmp_path: Path, name: str, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (local_files, file_pieces):
        monkeypatch.setattr(module, "BLOCK_BYTES", blocks)
    whole, found = both_readings(SOURCES[name](tmp_path))
    assert found == [whole] * 3


@pytest.mark.parametrize("name", SOURCES)
def test_bytes_and_manifest_are_those_of_one_pass(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounded_pair_batches, "BYTES_PER_BATCH", 4000)
    downloader = LocalDownloader(**SOURCES[name](tmp_path), on_error="skip")
    for compress in (True, False):
        found, assumed = [], []
        for rows_per_task in (10_000, 150, 30):
            caplog.clear()
            found.append(stored(tmp_path, downloader, rows_per_task, compress=compress))
            assumed.append([line for line in caplog.messages if "carriage returns" in line])
        assert found[0] == found[1] == found[2]
        assert assumed[0] == assumed[1] == assumed[2]
        assert len(assumed[0]) == {"jsonl": 0, "lines": 1, "folder": 0}.get(name, 0)
    assert num_pieces(downloader, 10_000) == 1
    assert num_pieces(downloader, 30) > 4


def test_processes_store_the_same_bytes_also_after_a_kill(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloader = LocalDownloader(**write_jsonl(tmp_path), on_error="skip")
    swapped = DirectedDownloader(downloader, ("tgt", "src"), ("src", "tgt"))
    for source in (downloader, swapped):
        here = stored(tmp_path / source.__class__.__name__, source, 10_000)
        there = stored(tmp_path / source.__class__.__name__, source, 30, ProcessPoolEngine(workers=2))
        assert here == there
    caplog.clear()
    killed = Fatal(**write_jsonl(tmp_path), on_error="skip")
    (tmp_path / "a.jsonl.mark").touch()
    here = stored(tmp_path / "k", killed, 10_000)
    (tmp_path / "a.jsonl.mark").unlink()
    there = stored(tmp_path / "k", killed, 30, ProcessPoolEngine(workers=2))
    assert (tmp_path / "a.jsonl.mark").exists()
    assert here == there
    assert any("was ended by SIGKILL" in line for line in caplog.messages)


class FatalReader:
    """Ends the process that reads the third piece for the first time."""

    def __init__(self, reader: Any, mark: Path) -> None:
        self.reader, self.mark = reader, mark

    @property
    def ranges(self) -> Any:
        return self.reader.ranges

    def read(self, first: int, counts: dict[str, int]) -> Any:
        if first == self.ranges[2][0] and not self.mark.exists():
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.reader.read(first, counts)


class Fatal(LocalDownloader):
    def piece_reader(self, split: str, piece_bytes: int) -> Any:
        reader = super().piece_reader(split, piece_bytes)
        return None if reader is None else FatalReader(reader, Path(f"{self.path}.mark"))


@pytest.mark.parametrize(("name", "place"), [("jsonl", 4), ("parquet", 6), ("lines", 8)])
@pytest.mark.parametrize("is_late", [False, True])
def test_an_error_names_the_line_of_the_file(tmp_path: Path, name: str, place: int, is_late: bool) -> None:
    options = SOURCES[name](tmp_path)
    if is_late:
        if name == "jsonl":  # only the bad line in the middle of the file is left
            path = Path(options["path"])
            path.write_bytes(path.read_bytes().replace(b"\n[]\n", b"\n \n"))
            place = 254
        elif name == "lines":
            path = Path(options["source_path"])
            path.write_bytes(path.read_bytes().replace(b"\xff", b"7"))
            place = 281
        else:
            table = pa.Table.from_pylist([{**row, "src": None} if row is ROWS[260] else row for row in ROWS])
            pq.write_table(table, options["path"], row_group_size=37)
            place = 261
    messages = []
    for rows_per_task in (10_000, 30):
        with pytest.raises(MalformedPairError) as raised:
            stored(tmp_path, LocalDownloader(**options), rows_per_task)
        messages.append(str(raised.value))
    assert messages[0] == messages[1]
    unit = "row" if name == "parquet" else "line"
    assert f", {unit} {place}: " in messages[0]


def test_files_of_different_lengths_and_a_changed_file_are_refused_as_in_one_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = write_lines(tmp_path)
    path = Path(options["target_path"])
    path.write_bytes(path.read_bytes() + b"\none more")
    messages = [_message(tmp_path, LocalDownloader(**options, on_error="skip"), size) for size in (10_000, 30)]
    assert messages[0] == messages[1]
    assert "must have the same number of lines, but" in messages[0]

    options = write_jsonl(tmp_path)
    downloader = LocalDownloader(**options, on_error="skip")
    downloader.info()
    path = Path(options["path"])
    path.write_bytes(path.read_bytes().replace(b"source 290", b"sourze 290"))
    os.utime(path, ns=(1, 1))
    messages = [_message(tmp_path, downloader, size) for size in (10_000, 30)]
    assert (
        messages[0] == messages[1] == f"{path} was changed while mtx read the file. Run again when the file is complete"
    )


def _message(root: Path, downloader: Downloader, rows_per_task: int) -> str:
    with pytest.raises(SourceError) as raised:
        stored(root, downloader, rows_per_task)
    return str(raised.value)


def test_a_reader_is_refused_on_a_machine_without_the_files(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    reader = LocalDownloader(**write_jsonl(tmp_path), on_error="skip").piece_reader("train", 3000)
    sent = pickle.dumps(reader)
    Path(tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    with pytest.raises(SourceError, match=r"a\.jsonl cannot be read: No such file"):
        pickle.loads(sent)


def test_relative_paths_hold_in_other_processes_and_messages_name_them_as_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_jsonl(tmp_path)
    monkeypatch.chdir(tmp_path)
    reader = LocalDownloader(path="a.jsonl").piece_reader("train", 3000)
    monkeypatch.chdir("/")
    assert reader is not None
    with pytest.raises(MtxError, match=r"^a\.jsonl, line 4: "):
        list(reader.read(0, {}))


def test_only_the_first_pairs_and_small_files_are_read_in_one_pass(tmp_path: Path) -> None:
    options = write_jsonl(tmp_path)
    assert LocalDownloader(**options, n=100, on_error="skip").piece_reader("train", 3000) is None
    assert LocalDownloader(**options, on_error="skip").piece_reader("train", 1 << 20) is None
    (tmp_path / "b.csv").write_text("src,tgt\n" + '"a\nb",c\n' * 2000)
    assert LocalDownloader(path=str(tmp_path / "b.csv")).piece_reader("train", 3000) is None


def test_long_lines_make_long_pieces(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"src": "x" * 5000 * (number % 4), "tgt": "y"} for number in range(40)]
    (tmp_path / "a.jsonl").write_text(lines(rows))
    caplog.set_level(logging.WARNING)
    reader = LocalDownloader(path=str(tmp_path / "a.jsonl")).piece_reader("train", 2000)
    assert reader is not None
    found = [row for first, _ in reader.ranges for batch in reader.read(first, {}) for row in batch.to_pylist()]
    assert found == rows
    assert [first for first, _ in reader.ranges[1:]] == [end for _, end in reader.ranges[:-1]]
