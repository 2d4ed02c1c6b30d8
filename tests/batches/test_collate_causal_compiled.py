"""Compiled kernels of decoder-only batches give the batches of numpy, and write nothing beside the tensors."""

import pickle
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator, collate_rows
from mtx.batches.collate_causal_compiled import CompiledCausalCollator
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants
from mtx.data.token_rows import TokenRows
from mtx.errors import DataError

pytest.importorskip("numba")
MOST = st.none() | st.integers(2, 30)


def rows_of(lengths: list[int], first: int) -> TokenRows:
    """Return rows of numbered ids, with other ids behind them in the same memory."""
    offsets = np.cumsum([0, *lengths])
    memory = np.full(offsets[-1] + 64, 7, dtype=np.uint16)
    memory[: offsets[-1]] = np.arange(offsets[-1]) + first
    return TokenRows(memory[: offsets[-1]], offsets)


@st.composite
def prompted(draw: st.DrawFn) -> PromptedPairs:
    lengths = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=12))
    texts = draw(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=3))
    before, between = (TokenRows.of([[5] * each[side] for each in texts]) for side in range(2))
    variants = draw(st.lists(st.integers(0, len(texts) - 1), min_size=len(lengths), max_size=len(lengths)))
    of_pair = draw(st.sampled_from([np.uint32, np.int64, np.int16, None]))
    prompts = PromptVariants(before, between, None if of_pair is None else np.array(variants, of_pair))
    selection = np.arange(len(lengths), dtype=np.uint32)[::-1] if draw(st.booleans()) else None
    sides = (rows_of([each[side] for each in lengths], 100 * (side + 1)) for side in range(2))
    return PromptedPairs(*sides, selection, prompts=prompts)


@settings(deadline=None, max_examples=40)
@given(
    pairs=prompted(),
    most=st.tuples(MOST, MOST),
    shape=st.sampled_from([(0, 0, 0), (1, 0, 0), (8, 0, 0), (1, 1, 200), (1, 9, 130)]),
    data=st.data(),
)
def test_kernels_build_the_batches_of_numpy(
    pairs: PromptedPairs, most: tuple[int | None, int | None], shape: tuple[int, int, int], data: st.DataObject
) -> None:
    multiple, *widths = shape
    limits: dict[str, Any] = {"max_source_tokens": most[0], "max_target_tokens": most[1]}
    layout = BatchFormat(names="causal", length_multiple=multiple, **limits)
    numbers = st.lists(st.integers(0, len(pairs) - 1), max_size=10)
    rows = [np.array(data.draw(numbers), dtype=np.int64) for _ in range(2)]
    guards: list[np.ndarray] = []

    def guarded(array: np.ndarray) -> torch.Tensor:
        memory, size = np.full((array.size + 64) * array.itemsize, 99, dtype=np.uint8), 32 * array.itemsize
        guards.extend((memory[:size], memory[-size:]))
        return from_numpy(memory.view(array.dtype)[32 : 32 + array.size].reshape(array.shape))

    from_numpy, collator = torch.from_numpy, Collator(pairs, layout)
    with mock.patch.object(torch, "from_numpy", guarded):
        made = collator(rows, [(widths[0], widths[1])] * 2)
    assert all((guard == 99).all() for guard in guards), "a kernel wrote outside of a tensor"
    assert len(guards) == 2 * 2 * 5
    plain = Collator(pairs, layout, compiled=False)(rows, [(widths[0], widths[1])] * 2)
    for mine, expected in zip(made, plain, strict=True):
        assert list(mine) == list(expected)
        for name, tensor in expected.items():
            assert (mine[name].dtype, mine[name].shape) == (tensor.dtype, tensor.shape)
            assert torch.equal(mine[name], tensor), name


PAIRS = PromptedPairs(
    TokenRows.of([[10, 11], [20], []]),
    TokenRows.of([[50], [60, 61], [70]]),
    prompts=PromptVariants(TokenRows.of([[1]]), TokenRows.of([[9]])),
)
CAUSAL = BatchFormat(names="causal")


def test_kernels_are_used_and_load_anew_in_another_process() -> None:
    collator = Collator(PAIRS, CAUSAL)
    rows = [np.array([2, 0])]
    assert isinstance(collator._compiled_causal_collator, CompiledCausalCollator)
    (copied,), (made,) = pickle.loads(pickle.dumps(collator))(rows), collator(rows)
    assert all(torch.equal(copied[name], made[name]) for name in made)
    assert collator([]) == []


@pytest.mark.parametrize("row", [-1, 3])
def test_a_row_that_is_not_there_is_refused(row: int) -> None:
    with pytest.raises(IndexError, match=rf"numbered from 0 to 2, but row {row} was requested"):
        collate_rows(PAIRS, np.array([0, row]), CAUSAL)


def test_a_pair_that_exceeds_a_packed_row_is_refused_with_its_length() -> None:
    with pytest.raises(DataError, match=r"has 5 positions, but a pair has 6 tokens\. Set sampler\.row_tokens=6"):
        collate_rows(PAIRS, np.array([0, 2]), CAUSAL, widths=(3, 5))


@pytest.mark.parametrize("damage", ["variant", "offsets"])
def test_prompts_that_do_not_match_are_refused_and_nothing_is_read(damage: str) -> None:
    before = TokenRows(np.array([1], np.uint16), np.array([0, 5 if damage == "offsets" else 1]))
    variants = np.array([0, 0, 1], np.uint32) if damage == "variant" else None
    prompts = PromptVariants(before, TokenRows.of([[9]]), variants)
    with pytest.raises(IndexError, match="so the dataset is damaged"):
        collate_rows(PromptedPairs(PAIRS.source, PAIRS.target, prompts=prompts), np.array([0, 2]), CAUSAL)
