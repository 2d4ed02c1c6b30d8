"""Decoder-only batches, worked by hand: one pair a row, packed rows, and one row without padding."""

from typing import Any

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Collator, collate_rows
from mtx.batches.collate_causal import block_causal_mask, model_inputs, pair_offsets, prompt_arrays, prompt_inputs
from mtx.batches.pair_lengths import batch_lengths, tensor_lengths, truncated_lengths
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.prompted_pairs import PromptedPairs, PromptVariants, crossed_pairs
from mtx.batches.schema import batch_masks, longest_source, num_pairs, target_tokens
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import DataError
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.training.batch_datasets import PromptBatches

CAUSAL = BatchFormat(names="causal")
SOURCES, TARGETS = TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61, 62], [70]])
PROMPTS = PromptVariants(TokenRows.of([[1], [1, 5]]), TokenRows.of([[9], [8, 9]]), np.array([0, 1, 0], np.uint32))
PAIRS = PromptedPairs(SOURCES, TARGETS, prompts=PROMPTS)
ORDER = np.array([1, 0, 2])  # sequences of 9, 6 and 4 tokens


def as_lists(batch: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.tolist() for name, tensor in batch.items()}


def test_a_row_of_one_pair_has_labels_at_target_and_eos_alone() -> None:
    assert as_lists(collate_rows(PAIRS, ORDER[:2], CAUSAL)) == {
        "input_ids": [[1, 5, 20, 8, 9, 60, 61, 62, 2], [1, 10, 11, 9, 50, 2, 0, 0, 0]],
        "position_ids": [[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4, 5, 0, 0, 0]],
        "labels": [[-100] * 5 + [60, 61, 62, 2], [-100] * 4 + [50, 2] + [-100] * 3],
        "segment_ids": [[1] * 9, [2] * 6 + [0] * 3],
        "row_ids": [1, 0],
    }


def test_packed_rows_have_the_planned_shape_and_take_pairs_as_long_as_they_fit() -> None:
    batch = collate_rows(PAIRS, ORDER, CAUSAL, widths=(3, 11))
    assert batch["input_ids"].tolist() == [
        [1, 5, 20, 8, 9, 60, 61, 62, 2, 0, 0],
        [1, 10, 11, 9, 50, 2, 1, 9, 70, 2, 0],
        [0] * 11,
    ]
    assert batch["position_ids"][1].tolist() == [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 0]
    assert batch["segment_ids"][1].tolist() == [2] * 6 + [3] * 4 + [0]
    assert batch["labels"][1].tolist() == [-100] * 4 + [50, 2, -100, -100, 70, 2, -100]
    assert (num_pairs(batch), longest_source(batch), target_tokens(batch)) == (3, 5, 8)
    (mask,) = batch_masks(batch)
    assert (mask.numel(), int(mask.count_nonzero())) == (33, 19)
    assert collate_rows(PAIRS, ORDER[:0], CAUSAL, widths=(2, 4))["segment_ids"].tolist() == [[0] * 4] * 2


def test_a_batch_without_padding_is_one_row_with_offsets() -> None:
    batch = collate_rows(PAIRS, ORDER, BatchFormat(names="causal", length_multiple=NO_PADDING))
    assert batch["input_ids"].shape == (1, 19)
    assert batch["segment_ids"].min() == 1
    assert pair_offsets(batch).tolist() == [0, 9, 15, 19]
    assert pair_offsets(batch).dtype == torch.int32
    assert set(model_inputs(batch)) == {"input_ids", "position_ids", "labels", "use_cache"}
    assert model_inputs(batch)["use_cache"] is False, "with a cache, transformers lets pairs see each other"


def test_long_sides_are_cut_and_the_prompt_stays_whole() -> None:
    layout = BatchFormat(names="causal", max_source_tokens=3, max_target_tokens=3, length_multiple=8)
    batch = collate_rows(PAIRS, np.array([0, 1]), layout)
    assert batch["input_ids"].tolist() == [[1, 10, 9, 50, 2, 0, 0, 0], [1, 5, 8, 9, 60, 61, 2, 0]]


def test_prompts_are_padded_on_the_left() -> None:
    expected = [[1, 5, 20, 8, 9], [0, 1, 10, 11, 9], [0, 0, 0, 1, 9]]
    ids, mask = prompt_arrays(PAIRS, ORDER, CAUSAL)
    assert ids.tolist() == expected
    assert mask.tolist() == [[1] * 5, [0] + [1] * 4, [0] * 3 + [1] * 2]
    for widths in (None, (2, 11)):
        assert as_lists(prompt_inputs(collate_rows(PAIRS, ORDER, CAUSAL, widths=widths))) == {
            "input_ids": expected,
            "attention_mask": mask.tolist(),
        }


def test_prompts_end_with_given_target_ids() -> None:
    expected = [[1, 5, 20, 8, 9, 60], [0, 1, 10, 11, 9, 50], [0, 0, 0, 1, 9, 70]]
    ids, mask = prompt_arrays(PAIRS, ORDER, BatchFormat(names="causal", forced_target_tokens=1))
    assert ids.tolist() == expected
    assert mask.tolist() == [[1] * 6, [0] + [1] * 5, [0] * 3 + [1] * 3]
    for widths in (None, (2, 11)):
        batch = collate_rows(PAIRS, ORDER, CAUSAL, widths=widths)
        assert as_lists(prompt_inputs(batch, forced_target_tokens=1)) == {
            "input_ids": expected,
            "attention_mask": mask.tolist(),
        }
    empty = PromptedPairs(SOURCES, TokenRows.of([[], [60], [70]]), prompts=PROMPTS)
    batch = collate_rows(empty, ORDER, CAUSAL, widths=(2, 11))
    assert prompt_inputs(batch, forced_target_tokens=1)["input_ids"].tolist() == [
        [1, 5, 20, 8, 9, 60],
        [0, 0, 1, 10, 11, 9],
        [0, 0, 0, 1, 9, 70],
    ]


def test_the_mask_keeps_pairs_apart_and_no_position_is_without_itself() -> None:
    mask = block_causal_mask(collate_rows(PAIRS, ORDER[1:], CAUSAL, widths=(1, 12)))
    expected = torch.zeros(12, 12, dtype=torch.bool)
    expected[:6, :6] = torch.ones(6, 6).tril().bool()
    expected[6:10, 6:10] = torch.ones(4, 4).tril().bool()
    expected[10:, 10:] = torch.eye(2).bool()
    assert torch.equal(mask[0, 0], expected)


def test_likelihoods_of_pairs_are_the_same_in_all_rows() -> None:
    table = torch.randn(80, 80, generator=torch.Generator().manual_seed(0))  # a model that sees the last token alone
    expected = None
    for layout, widths in ((CAUSAL, None), (CAUSAL, (2, 11)), (BatchFormat(names="causal", length_multiple=0), None)):
        batch = collate_rows(PAIRS, ORDER, layout, widths=widths)
        found = pair_likelihood(batch, table[batch["input_ids"]])
        assert found.num_labels.tolist() == [4, 2, 2]
        by_hand = -table[torch.tensor([9, 50])].log_softmax(-1)[[0, 1], [50, 2]].double().sum()
        torch.testing.assert_close(found.nats[1], by_hand)
        expected = found.nats if expected is None else expected
        torch.testing.assert_close(found.nats, expected)
        forced = pair_likelihood(batch, table[batch["input_ids"]], forced_target_tokens=1)
        assert forced.num_labels.tolist() == [3, 1, 1]
        with pytest.raises(DataError, match=r"logits have the shape of input_ids, \[R, L\], .* but are \[1, 80\]"):
            pair_likelihood(batch, table[:1])


def test_pairs_without_prompts_other_batches_and_wrong_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"batch_format=causal need pairs with a prompt, but these are plain pairs"):
        collate_rows(EncodedPairs(SOURCES, TARGETS), ORDER, CAUSAL)
    with pytest.raises(DataError, match=r"has segment_ids, but the batch has x\. Set datamodule\.batch_format=causal"):
        pair_offsets({"x": ORDER})
    with pytest.raises(DataError, match=r"has 8 positions, but a pair has 9 tokens\. Set sampler\.row_tokens=9"):
        collate_rows(PAIRS, ORDER, CAUSAL, widths=(3, 8))
    with pytest.raises(IndexError, match="3"):
        Collator(PAIRS, CAUSAL)([np.array([3])])


@pytest.mark.parametrize("most", [2, 3, 4, None])
def test_planned_lengths_are_those_of_the_batch(most: int | None) -> None:
    layout = BatchFormat(names="causal", max_source_tokens=most, max_target_tokens=3)
    planned = tensor_lengths(truncated_lengths(batch_lengths(PAIRS, layout), layout, PROMPTS), layout)
    batch = collate_rows(PAIRS, np.arange(3), layout)
    assert planned.source.tolist() == (batch["segment_ids"] > 0).sum(dim=1).tolist()


def test_batches_for_prediction_are_prompts_already() -> None:
    batch = PromptBatches(PAIRS, CAUSAL)[ORDER]
    assert as_lists(prompt_inputs(batch)) == {name: batch[name].tolist() for name in ("input_ids", "attention_mask")}


def test_pairs_of_a_source_and_another_target_have_the_prompt_of_the_source() -> None:
    crossed = crossed_pairs(PAIRS, np.array([1, 0]), np.array([0, 2]))
    assert collate_rows(crossed, np.arange(2), CAUSAL)["input_ids"].tolist() == [
        [1, 5, 20, 8, 9, 50, 2],
        [1, 10, 11, 9, 70, 2, 0],
    ]


def test_labels_of_the_batch_are_shifted_and_logits_are_checked() -> None:
    batch = collate_rows(PAIRS, ORDER, CAUSAL)
    logits = torch.randn(*batch["input_ids"].shape, 80)
    assert pair_likelihood(batch, logits, batch["labels"]).nats.tolist() == pair_likelihood(batch, logits).nats.tolist()
    wrong: Any = [1.0]
    with pytest.raises(DataError, match="logits are a list"):
        pair_likelihood(batch, wrong)
