"""The compiled row copy beside numpy's index arithmetic, and how it is loaded."""

import builtins
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.infra.dataset import gather
from mtx.infra.dataset.collate import BatchFormat, EncodedPairs, SpecialIds, TokenRows, collate_rows

PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61], [70]]))


@pytest.fixture
def fresh() -> Iterator[None]:
    """`load` forgets what it found, before and after."""
    gather.load.cache_clear()
    yield
    gather.load.cache_clear()


def test_tests_run_both_ways() -> None:
    pytest.importorskip("numba")
    assert gather.load() is not None


rows_of_ids = st.lists(st.lists(st.integers(0, 65_535), max_size=12), min_size=1, max_size=8)
ids = st.builds(SpecialIds, *[st.integers(0, 9)] * 4)


@settings(deadline=None)  # the first use of a type of ids compiles
@given(
    data=st.data(),
    source=rows_of_ids,
    dtypes=st.tuples(*[st.sampled_from([np.uint16, np.uint32, np.int64])] * 2),
    layout=st.builds(
        BatchFormat,
        source=ids,
        target=ids,
        source_eos=st.booleans(),
        label_pad_id=st.none() | st.just(-100),
        max_source_tokens=st.none() | st.integers(2, 9),
        max_target_tokens=st.none() | st.integers(2, 9),
        length_multiple=st.sampled_from([1, 8]),
        names=st.sampled_from(["mtx", "huggingface"]),
    ),
)
def test_both_ways_make_the_same_batch(
    data: st.DataObject, source: list[list[int]], dtypes: tuple[Any, Any], layout: BatchFormat
) -> None:
    pytest.importorskip("numba")
    target = data.draw(st.lists(st.lists(st.integers(0, 99), max_size=9), min_size=len(source), max_size=len(source)))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(source) - 1), max_size=9)), dtype=np.int64)
    sides = [
        TokenRows(rows.ids.astype(dtype), rows.offsets)
        for rows, dtype in zip((TokenRows.of(source), TokenRows.of(target)), dtypes, strict=True)
    ]
    pairs = EncodedPairs(*sides)
    compiled, plain = collate_rows(pairs, chosen, layout), collate_rows(pairs, chosen, layout, compiled=False)
    assert list(compiled) == list(plain)
    for name, tensor in plain.items():
        assert compiled[name].dtype == tensor.dtype, name
        assert torch.equal(compiled[name], tensor), name


@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_refused(row: int, compiled: bool | None) -> None:
    with pytest.raises(IndexError, match=rf"numbered from 0 to 2, but row {row} was asked for"):
        collate_rows(PAIRS, np.array([0, row]), BatchFormat(), compiled=compiled)


@pytest.mark.parametrize("offsets", [[0, 2, 9], [0, -1, 3], [0, 3, 2]])
def test_offsets_that_do_not_fit_the_ids_are_refused_and_nothing_is_read(offsets: list[int]) -> None:
    pytest.importorskip("numba")
    damaged = TokenRows(np.arange(3, dtype=np.uint16), np.array(offsets, dtype=np.int64))
    with pytest.raises(IndexError, match=r"offsets of the encoded rows do not fit .* is damaged"):
        collate_rows(EncodedPairs(damaged, damaged), np.array([0, 1]), BatchFormat())


def test_rows_given_are_neither_kept_nor_changed() -> None:
    rows = np.array([2, 0])
    rows.flags.writeable = False
    batch = collate_rows(PAIRS, rows, BatchFormat())
    batch["row_ids"] += 1
    assert rows.tolist() == [2, 0]


def test_ids_are_read_only_also_in_another_process() -> None:
    rows: TokenRows = pickle.loads(pickle.dumps(PAIRS.source))
    assert not rows.ids.flags.writeable
    assert not rows.offsets.flags.writeable
    assert rows[0].tolist() == [10, 11]


def test_memory_mapped_and_strided_ids_are_taken(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.array([10, 11, 20], dtype=np.uint16))
    mapped = TokenRows(np.load(tmp_path / "ids.npy", mmap_mode="r"), PAIRS.source.offsets)
    strided = TokenRows(np.array([10, 0, 11, 0, 20], dtype=np.uint16)[::2], PAIRS.source.offsets)
    for side in (mapped, strided):
        batch = collate_rows(EncodedPairs(side, PAIRS.target), np.array([1, 0]), BatchFormat())
        assert batch["encoder_input_ids"].tolist() == [[20, 2, 0], [10, 11, 2]]


@pytest.mark.usefixtures("fresh")
def test_without_numba_batches_come_from_numpy(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, ModuleNotFoundError("No module named 'numba'"))
    assert gather.load() is None
    assert collate_rows(PAIRS, np.array([0]), BatchFormat())["labels"].tolist() == [[50, 2]]
    assert not caplog.records


@pytest.mark.usefixtures("fresh")
def test_a_numba_that_cannot_be_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, ImportError("Numba needs NumPy 2.3 or less"))
    assert gather.load() is None
    assert "about half the rate" in caplog.text
    assert "Numba needs NumPy 2.3 or less" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_nothing_can_be_cached_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    numba = pytest.importorskip("numba")

    def njit(**options: Any) -> Any:
        def compiler(function: Any) -> Any:
            raise RuntimeError(f"cannot cache function {function.__name__}: no locator available")

        return compiler

    monkeypatch.setattr(numba, "njit", njit)
    assert gather.load() is None
    assert "no locator available" in caplog.text
    assert "NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_numba_is_told_not_to_compile_batches_come_from_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", 1)
    assert gather.load() is None


def test_a_lock_that_cannot_be_taken_delays_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("numba")
    made = []
    (tmp_path / "file").write_text("")

    class Compiled:
        stats = SimpleNamespace(cache_path=tmp_path / "file")  # no folder

        def __init__(self, function: Any) -> None: ...

        def compile(self, signature: Any) -> None:
            made.append(signature)

    kernels = gather.Kernels(Compiled)
    with caplog.at_level(logging.WARNING):
        kernels.prepare(np.dtype(np.uint16))
    assert "without waiting for other processes" in caplog.text
    assert len(made) == 3
    kernels.prepare(np.dtype(np.uint16))
    assert len(made) == 3


@pytest.mark.slow
def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    code = (
        "import numpy as np\nfrom mtx.infra.dataset import gather\n"
        "kernels = gather.load()\nkernels.prepare(np.dtype(np.uint16))\n"
        "print(sum(kernels.fill_target.stats.cache_misses.values()))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert sorted(process.communicate(timeout=100)[0].strip() for process in started) == ["0", "1"]


def test_importing_mtx_does_not_import_numba() -> None:
    code = "import sys, mtx, mtx.app, mtx.training.datamodule; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=100).returncode == 0


def refuse(monkeypatch: pytest.MonkeyPatch, error: ImportError) -> None:
    """Let `import numba` raise."""
    real = builtins.__import__

    def imported(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "numba":
            raise error
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", imported)
