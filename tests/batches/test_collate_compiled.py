"""The compiled row copy beside numpy's index arithmetic, and how it is loaded."""

import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import warm_process
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches import collate_compiled
from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator, collate_rows
from mtx.data.token_rows import EncodedPairs, SpecialIds, TokenRows
from mtx.errors import DataError

PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61], [70]]))


@pytest.fixture
def fresh() -> Iterator[None]:
    """`load` forgets what it found, before and after."""
    collate_compiled.compiled_kernels.cache_clear()
    yield
    collate_compiled.compiled_kernels.cache_clear()


def test_tests_run_both_ways() -> None:
    pytest.importorskip("numba")
    assert collate_compiled.compiled_kernels() is not None


rows_of_ids = st.lists(st.lists(st.integers(0, 65_535), max_size=12), min_size=1, max_size=8)
ids = st.builds(SpecialIds, *[st.integers(0, 9)] * 4)


@settings(deadline=None)  # the first use of a type of ids compiles
@given(
    data=st.data(),
    source=rows_of_ids,
    dtypes=st.sampled_from([(np.uint16, np.uint16), (np.uint32, np.uint16), (np.int64, np.uint32)]),
    layout=st.builds(
        BatchFormat,
        source=ids,
        target=ids,
        source_eos=st.booleans(),
        label_pad_id=st.none() | st.just(-100),
        max_source_tokens=st.none() | st.integers(2, 9),
        max_target_tokens=st.none() | st.integers(2, 9),
        length_multiple=st.sampled_from([1, 8]),
        names=st.sampled_from(["mtx", "huggingface", "flat"]),
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
    rows = [chosen, chosen[:3], chosen[:0], chosen[::-1]]
    widths = data.draw(st.lists(st.tuples(*[st.integers(0, 20)] * 2), min_size=len(rows), max_size=len(rows)))
    widths = [(0, 0)] * len(rows) if layout.is_flat else widths
    several = Collator(pairs, layout)(rows, widths)
    for compiled, each, least in zip(several, rows, widths, strict=True):
        plain = collate_rows(pairs, each, layout, widths=least, compiled=False)
        alone = collate_rows(pairs, each, layout, widths=least)
        assert list(compiled) == list(plain)
        for name, tensor in plain.items():
            assert compiled[name].dtype == alone[name].dtype == tensor.dtype, name
            assert compiled[name].shape == tensor.shape, name
            assert torch.equal(compiled[name], tensor), name
            assert torch.equal(alone[name], tensor), name


@pytest.mark.parametrize("compiled", [None, False])
def test_a_batch_of_no_rows_is_as_wide_as_one_of_empty_rows(compiled: bool | None) -> None:
    batch = collate_rows(PAIRS, np.empty(0, dtype=np.int64), BatchFormat(), compiled=compiled)
    assert {name: tuple(tensor.shape) for name, tensor in batch.items()} == {
        "encoder_input_ids": (0, 1),
        "encoder_attn_mask": (0, 1),
        "decoder_input_ids": (0, 1),
        "labels": (0, 1),
        "decoder_attn_mask": (0, 1),
        "row_ids": (0,),
    }
    wide = collate_rows(PAIRS, np.empty(0, dtype=np.int64), BatchFormat(), widths=(5, 4), compiled=compiled)
    assert wide["encoder_input_ids"].shape == (0, 5)
    assert wide["labels"].shape == (0, 4)


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=30),
    dtype=st.just(np.uint16),
    names=st.sampled_from(["mtx", "flat"]),
)
def test_whole_blocks_write_nothing_behind_a_tensor_and_read_nothing_behind_the_ids(
    lengths: list[int], dtype: Any, names: Any
) -> None:
    pytest.importorskip("numba")
    offsets = np.cumsum([0, *lengths])
    capacity = np.full(offsets[-1] + 64, 7, dtype=dtype)  # what is behind the ids must not be seen
    capacity[: offsets[-1]] = np.arange(offsets[-1]) + 10
    pairs = EncodedPairs(*[TokenRows(capacity[: offsets[-1]], offsets)] * 2)
    layout = BatchFormat(names=names)
    collator, rows = Collator(pairs, layout), np.arange(len(lengths))[::-1]
    guards: list[np.ndarray] = []

    def guarded(array: np.ndarray) -> torch.Tensor:
        memory, size = np.full((array.size + 64) * array.itemsize, 99, dtype=np.uint8), 32 * array.itemsize
        guards.extend((memory[:size], memory[-size:]))
        return from_numpy(memory.view(array.dtype)[32 : 32 + array.size].reshape(array.shape))

    from_numpy = torch.from_numpy
    with mock.patch.object(torch, "from_numpy", guarded):
        (made,) = collator([rows], [(0, 0)])
    plain = collate_rows(pairs, rows, layout, compiled=False)
    assert all(torch.equal(made[name], plain[name]) for name in plain)
    assert len(guards) == 2 * len(made)
    assert all((guard == 99).all() for guard in guards)


@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_refused(row: int, compiled: bool | None) -> None:
    with pytest.raises(IndexError, match=rf"numbered from 0 to 2, but row {row} was requested"):
        collate_rows(PAIRS, np.array([0, row]), BatchFormat(), compiled=compiled)


@pytest.mark.parametrize("names", ["mtx", "flat"])
@pytest.mark.parametrize("compiled", [None, False])
def test_no_batches_are_asked_for(names: str, compiled: bool | None) -> None:
    layout = BatchFormat(names=names)  # type: ignore[arg-type]
    assert Collator(PAIRS, layout, compiled=compiled)([]) == []


@pytest.mark.parametrize("names", ["mtx", "flat"])
@pytest.mark.parametrize("dtype", [np.uint32, np.int64, np.int16])
@pytest.mark.parametrize("step", [1, 2])
def test_selected_rows_are_looked_up_and_keep_the_numbers_of_their_pairs(names: str, dtype: type, step: int) -> None:
    selection = np.array([2, 0, 2, 1, 1, 0], dtype=dtype)[::step]
    pairs, layout = EncodedPairs(PAIRS.source, PAIRS.target, selection), BatchFormat(names=names)  # type: ignore[arg-type]
    asked = np.arange(len(selection))[::-1].copy()
    made = collate_rows(pairs, asked, layout)
    plain = collate_rows(pairs, asked, layout, compiled=False)
    rows = collate_rows(PAIRS, selection[asked].astype(np.int64), layout)
    assert made["row_ids"].tolist() == plain["row_ids"].tolist() == asked.tolist()
    for name in set(made) - {"row_ids"}:
        assert torch.equal(made[name], plain[name])
        assert torch.equal(made[name], rows[name])


@pytest.mark.parametrize("compiled", [None, False])
@pytest.mark.parametrize("pair", [-1, 2])
def test_a_pair_that_was_not_selected_is_refused(pair: int, compiled: bool | None) -> None:
    pairs = EncodedPairs(PAIRS.source, PAIRS.target, np.array([2, 0], dtype=np.uint32))
    with pytest.raises(IndexError, match=rf"numbered from 0 to 1, but row {pair} was requested"):
        collate_rows(pairs, np.array([0, pair]), BatchFormat(), compiled=compiled)


@pytest.mark.parametrize("selection", [np.array([0, 3], dtype=np.uint32), np.array([0, -1])], ids=["after", "before"])
def test_a_selected_row_that_is_not_there_is_refused_and_nothing_is_read(selection: np.ndarray) -> None:
    pytest.importorskip("numba")
    with pytest.raises(IndexError, match="so the dataset is damaged"):
        collate_rows(EncodedPairs(PAIRS.source, PAIRS.target, selection), np.array([0, 1]), BatchFormat())


@pytest.mark.parametrize("offsets", [[0, 2, 9], [0, -1, 3], [0, 3, 2]])
def test_offsets_that_do_not_fit_the_ids_are_refused_and_nothing_is_read(offsets: list[int]) -> None:
    pytest.importorskip("numba")
    damaged = TokenRows(np.arange(3, dtype=np.uint16), np.array(offsets, dtype=np.int64))
    with pytest.raises(
        IndexError, match=r"offsets of the encoded rows do not match their ids, so the dataset is damaged"
    ):
        collate_rows(EncodedPairs(damaged, damaged), np.array([0, 1]), BatchFormat())


def test_sides_of_unequal_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="pairs have as many sources as targets, but there are 2 sources and 1 targets"):
        EncodedPairs(TokenRows.of([[4], [5]]), TokenRows.of([[6]]))


@pytest.mark.parametrize("dtype", ["<i4", "<i2", ">u2", ">u4", ">i8", "u1", "u8"])
def test_ids_of_other_integers_are_converted(dtype: str) -> None:
    rows = TokenRows(np.array([4, 5, 6], dtype), np.array([0, 1, 3], ">i4"))
    assert (rows.ids.dtype, rows.offsets.dtype) == (np.dtype(np.int64), np.dtype(np.int64))
    assert [rows[row].tolist() for row in range(2)] == [[4], [5, 6]]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_ids_that_kernels_read_are_not_copied(dtype: type) -> None:
    ids = np.array([4, 5, 6], dtype)
    assert np.shares_memory(ids, TokenRows(ids, np.array([0, 3])).ids)


def test_ids_that_are_no_integers_are_refused() -> None:
    with pytest.raises(DataError, match="token ids and offsets are integers, but have the type float64"):
        TokenRows(np.array([4.0]), np.array([0, 1]))


def test_widths_of_another_number_of_batches_are_refused() -> None:
    rows = [np.array([0]), np.array([1])]
    with pytest.raises(ValueError, match="argument 2 is shorter than argument 1"):
        Collator(PAIRS, BatchFormat(), compiled=False)(rows, [(0, 0)])


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
def test_where_numba_is_told_not_to_compile_batches_come_from_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    assert collate_compiled.compiled_kernels() is None
    assert collate_rows(PAIRS, np.array([0]), BatchFormat())["labels"].tolist() == [[50, 2]]


@pytest.mark.slow
def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    pytest.importorskip("numba")
    code = (
        "import sys\nfrom mtx.infra.dataset import gather\n"
        "assert gather.compiled_kernels() is not None\nprint('numba' in sys.modules)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    # The server has not imported numba either, as the next test shows.
    with ExitStack() as stack:
        first = [stack.enter_context(warm_process.started("-c", code, env=environment)) for _ in range(2)]
        assert sorted(process.wait(100).stdout.strip() for process in first) == ["False", "True"]
    later = warm_process.run("-c", code, env=environment)
    assert later.stdout.strip() == "False", "a later process needs no numba"


def test_importing_mtx_does_not_import_numba() -> None:
    code = "import sys, mtx, mtx.app.command, mtx.training.datamodule; sys.exit('numba' in sys.modules)"
    assert warm_process.run("-c", code).returncode == 0  # whose server has imported these, and more
