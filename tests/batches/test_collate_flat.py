"""Flat batches: tokens of all pairs one after another, with offsets and positions, and as jagged nested tensors."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator, collate_rows
from mtx.batches.collate_flat import jagged, padded_sources
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import ConfigError, DataError

PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61, 62], []]))
FLAT = BatchFormat(names="flat")
BOS, EOS = FLAT.target.bos, FLAT.target.eos


@pytest.mark.parametrize("compiled", [None, False])
def test_pairs_stand_one_after_another_in_the_order_of_the_rows(compiled: bool | None) -> None:
    batch = collate_rows(PAIRS, np.array([1, 2, 0]), FLAT, compiled=compiled)
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "encoder_input_ids": [20, EOS, EOS, 10, 11, EOS],
        "encoder_offsets": [0, 2, 3, 6],
        "encoder_positions": [0, 1, 0, 0, 1, 2],
        "decoder_input_ids": [BOS, 60, 61, 62, BOS, BOS, 50],
        "labels": [60, 61, 62, EOS, EOS, 50, EOS],
        "decoder_offsets": [0, 4, 5, 7],
        "decoder_positions": [0, 1, 2, 3, 0, 0, 1],
        "row_ids": [1, 2, 0],
    }
    packed = collate_rows(PAIRS, np.array([1, 2, 0]), replace(FLAT, names="huggingface_packed"), compiled=compiled)
    names = {"encoder_input_ids": "input_ids", "encoder_positions": "position_ids"}
    names |= {"decoder_positions": "decoder_position_ids"}
    for name, tensor in batch.items():
        same = packed.pop(names.get(name, name))
        assert torch.equal(same, tensor if name.endswith(("offsets", "row_ids")) else tensor.long()[None])
    assert not packed
    is_int32 = {name for name, tensor in batch.items() if tensor.dtype == torch.int32}
    assert is_int32 == {f"{side}_{name}" for side in ("encoder", "decoder") for name in ("offsets", "positions")}


@pytest.mark.parametrize("compiled", [None, False])
def test_long_pairs_are_truncated_and_a_source_may_have_no_eos(compiled: bool | None) -> None:
    layout = BatchFormat(names="flat", source_eos=False, max_source_tokens=2, max_target_tokens=2)
    batch = collate_rows(PAIRS, np.array([0, 2, 1]), layout, compiled=compiled)
    assert batch["encoder_input_ids"].tolist() == [10, 11, 20]
    assert batch["encoder_offsets"].tolist() == [0, 2, 2, 3]
    assert batch["labels"].tolist() == [50, EOS, EOS, 60, EOS]


@pytest.mark.parametrize("compiled", [None, False])
def test_a_batch_of_no_rows_has_no_tokens(compiled: bool | None) -> None:
    batch = collate_rows(PAIRS, np.empty(0, dtype=np.int64), FLAT, compiled=compiled)
    assert batch["encoder_offsets"].tolist() == batch["decoder_offsets"].tolist() == [0]
    assert [len(batch[name]) for name in ("encoder_input_ids", "labels", "row_ids")] == [0, 0, 0]


def test_fixed_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_format=flat have no padding\. Set datamodule\.batch_format=mtx, or"):
        Collator(PAIRS, FLAT)([np.array([0])], [(4, 4)])


def test_jagged_tensors_share_the_memory_of_the_batch() -> None:
    batch = collate_rows(PAIRS, np.array([1, 0]), FLAT)
    nested = jagged(batch)
    assert [each.tolist() for each in nested["encoder_input_ids"].unbind()] == [[20, EOS], [10, 11, EOS]]
    assert [each.tolist() for each in nested["labels"].unbind()] == [[60, 61, 62, EOS], [50, EOS]]
    assert nested["labels"].values().data_ptr() == batch["labels"].data_ptr()
    assert nested["row_ids"].tolist() == [1, 0]
    assert "labels" not in jagged({name: batch[name] for name in batch if name.startswith(("encoder", "row"))})
    for names, first in (("mtx", "encoder_input_ids"), ("huggingface_packed", "input_ids")):
        with pytest.raises(DataError, match=rf"jagged takes a flat batch, .* has {first}, .*batch_format=flat"):
            jagged(collate_rows(PAIRS, np.array([0]), BatchFormat(names=names)))  # type: ignore[arg-type]


@pytest.mark.parametrize("names", ["mtx", "huggingface", "flat", "huggingface_packed"])
def test_sources_of_any_format_are_padded_for_a_search(names: Any) -> None:
    layout = BatchFormat(names=names, source_eos=False)
    ids, mask = padded_sources(collate_rows(PAIRS, np.array([1, 2, 0]), layout), 0)
    assert ids.tolist() == [[20, 0], [0, 0], [10, 11]]
    assert mask.tolist() == [[True, False], [False, False], [True, True]]
    with pytest.raises(DataError, match=r"a batch has no sources with a mask or offsets, but labels"):
        padded_sources({"labels": ids}, 0)
