"""Batches worked out by hand: ids 0 pad, 1 BOS, 2 EOS."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.batches.pair_lengths import batch_lengths, truncated_lengths
from mtx.data.token_rows import EncodedPairs, SpecialIds, TokenRows
from mtx.errors import ConfigError

PAIRS = EncodedPairs(
    source=TokenRows.of([[10, 11, 12], [20], [], [30, 31, 32, 33, 34]]),
    target=TokenRows.of([[50], [60, 61], [70, 71, 72], []]),
)


def test_pads_to_the_longest_row_and_closes_labels_with_eos_before_the_padding() -> None:
    batch = collate_rows(PAIRS, np.array([1, 0]), BatchFormat())
    assert batch["encoder_input_ids"].tolist() == [[20, 2, 0, 0], [10, 11, 12, 2]]
    assert batch["encoder_attn_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["decoder_input_ids"].tolist() == [[1, 60, 61], [1, 50, 0]]
    assert batch["labels"].tolist() == [[60, 61, 2], [50, 2, 0]]
    assert batch["decoder_attn_mask"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["row_ids"].tolist() == [1, 0]


def test_has_the_dtypes_of_the_contract() -> None:
    batch = collate_rows(PAIRS, np.array([0, 3]), BatchFormat())
    assert {name: tensor.dtype for name, tensor in batch.items()} == {
        "encoder_input_ids": torch.int64,
        "encoder_attn_mask": torch.bool,
        "decoder_input_ids": torch.int64,
        "labels": torch.int64,
        "decoder_attn_mask": torch.bool,
        "row_ids": torch.int64,
    }


def test_empty_sides_still_have_their_special_tokens() -> None:
    batch = collate_rows(PAIRS, np.array([2, 3]), BatchFormat())
    assert batch["encoder_input_ids"].tolist() == [[2, 0, 0, 0, 0, 0], [30, 31, 32, 33, 34, 2]]
    assert batch["labels"].tolist() == [[70, 71, 72, 2], [2, 0, 0, 0]]
    assert batch["decoder_input_ids"].tolist() == [[1, 70, 71, 72], [1, 0, 0, 0]]


def test_maxima_count_eos_and_bos_and_keep_eos_at_the_end() -> None:
    batch = collate_rows(PAIRS, np.array([3, 2]), BatchFormat(max_source_tokens=3, max_target_tokens=2))
    assert batch["encoder_input_ids"].tolist() == [[30, 31, 2], [2, 0, 0]]
    assert batch["labels"].tolist() == [[2, 0], [70, 2]]


def test_source_without_eos() -> None:
    batch = collate_rows(PAIRS, np.array([0, 1]), BatchFormat(source_eos=False))
    assert batch["encoder_input_ids"].tolist() == [[10, 11, 12], [20, 0, 0]]
    assert batch["encoder_attn_mask"].tolist() == [[True] * 3, [True, False, False]]


def test_label_padding_by_config_leaves_the_decoder_input_alone() -> None:
    batch = collate_rows(PAIRS, np.array([0, 1]), BatchFormat(label_pad_id=-100))
    assert batch["labels"].tolist() == [[50, 2, -100], [60, 61, 2]]
    assert batch["decoder_input_ids"].tolist() == [[1, 50, 0], [1, 60, 61]]


def test_huggingface_names_have_labels_of_minus_100_and_nothing_that_a_model_would_refuse() -> None:
    batch = collate_rows(PAIRS, np.array([0, 1]), BatchFormat(names="huggingface"))
    assert set(batch) == {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels"}
    assert batch["labels"].tolist() == [[50, 2, -100], [60, 61, 2]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]


def test_each_side_uses_its_own_special_ids() -> None:
    layout = BatchFormat(source=SpecialIds(pad=7, eos=8), target=SpecialIds(pad=5, bos=6, eos=9))
    batch = collate_rows(PAIRS, np.array([0, 1]), layout)
    assert batch["encoder_input_ids"].tolist() == [[10, 11, 12, 8], [20, 8, 7, 7]]
    assert batch["decoder_input_ids"].tolist() == [[6, 50, 5], [6, 60, 61]]
    assert batch["labels"].tolist() == [[50, 9, 5], [60, 61, 9]]


def test_widths_are_rounded_up_to_a_multiple() -> None:
    batch = collate_rows(PAIRS, np.array([0, 1]), BatchFormat(length_multiple=8))
    assert batch["encoder_input_ids"].tolist() == [[10, 11, 12, 2, 0, 0, 0, 0], [20, 2, 0, 0, 0, 0, 0, 0]]
    assert batch["labels"].shape == (2, 8)
    assert batch["decoder_attn_mask"].sum().item() == 5


@pytest.mark.parametrize("name", ["max_source_tokens", "max_target_tokens"])
def test_a_maximum_below_two_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"datamodule\.{name} .* at least 2 .*or null, but is 1"):
        BatchFormat(**{name: 1})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"datamodule\.batch_format is one of causal, flat, huggingface, mtx, but is 'tf'"
    ):
        BatchFormat(names="tf")  # type: ignore[arg-type]


rows = st.lists(st.lists(st.integers(3, 65_535), max_size=12), min_size=1, max_size=8)


@settings(deadline=None)  # the first batch of a process loads compiled kernels
@given(data=st.data(), source=rows, source_eos=st.booleans(), most=st.none() | st.integers(2, 9))
def test_agrees_with_a_plain_python_reference(
    data: st.DataObject, source: list[list[int]], source_eos: bool, most: int | None
) -> None:
    target = data.draw(st.lists(st.lists(st.integers(3, 99), max_size=9), min_size=len(source), max_size=len(source)))
    chosen = data.draw(st.lists(st.integers(0, len(source) - 1), min_size=1, max_size=9))
    layout = BatchFormat(source_eos=source_eos, max_source_tokens=most, max_target_tokens=most)
    pairs = EncodedPairs(TokenRows.of(source), TokenRows.of(target))
    batch = collate_rows(pairs, np.array(chosen), layout)

    capacity = len(source[0]) + 99 if most is None else most
    sources = [source[i][: capacity - source_eos] + [2] * source_eos for i in chosen]
    targets = [target[i][: capacity - 1] for i in chosen]
    longest = max(map(len, sources))
    assert batch["encoder_input_ids"].tolist() == [row + [0] * (longest - len(row)) for row in sources]
    assert batch["encoder_attn_mask"].sum(1).tolist() == [len(row) for row in sources]
    longest = max(map(len, targets)) + 1
    assert batch["labels"].tolist() == [row + [2] + [0] * (longest - len(row) - 1) for row in targets]
    assert batch["decoder_input_ids"].tolist() == [[1, *row] + [0] * (longest - len(row) - 1) for row in targets]
    assert batch["decoder_attn_mask"].sum(1).tolist() == [len(row) + 1 for row in targets]
    capped = truncated_lengths(batch_lengths(pairs, layout), layout)
    assert capped.source[chosen].tolist() == [len(row) for row in sources]
    assert capped.target[chosen].tolist() == [len(row) + 1 for row in targets]
