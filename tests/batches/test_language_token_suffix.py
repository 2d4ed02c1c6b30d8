"""Batches of the first mBART: the language token follows the EOS of a source, and starts the decoder."""

from typing import Any

import numpy as np
import pytest

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.batches.pair_lengths import batch_lengths
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import ConfigError

# Ids: padding 0, BOS 1, EOS 2, the languages 50 and 60. The third pair has no text.
PAIRS = EncodedPairs(TokenRows.of([[50, 5, 6, 7], [60, 8], [50]]), TokenRows.of([[60, 9], [50, 11, 12, 13, 14], [60]]))
ROWS = np.arange(3)


def batch_of(*, compiled: bool | None = False, widths: tuple[int, int] | None = None, **options: Any) -> dict[str, Any]:
    layout = BatchFormat(language_token_position="suffix", **options)
    found = collate_rows(PAIRS, ROWS, layout, widths=widths, compiled=compiled)
    return {name: tensor.tolist() for name, tensor in found.items()}


@pytest.mark.parametrize("compiled", [False, None])
def test_the_language_follows_the_source_and_starts_the_decoder(compiled: bool | None) -> None:
    found = batch_of(compiled=compiled)
    assert found["encoder_input_ids"] == [[5, 6, 7, 2, 50], [8, 2, 60, 0, 0], [2, 50, 0, 0, 0]]
    assert [sum(row) for row in found["encoder_attn_mask"]] == [5, 3, 2]
    assert found["decoder_input_ids"] == [[60, 9, 0, 0, 0], [50, 11, 12, 13, 14], [60, 0, 0, 0, 0]]
    assert found["labels"] == [[9, 2, 0, 0, 0], [11, 12, 13, 14, 2], [2, 0, 0, 0, 0]]
    assert [sum(row) for row in found["decoder_attn_mask"]] == [2, 5, 1]


@pytest.mark.parametrize("compiled", [False, None])
def test_a_flat_batch_has_the_same_tokens(compiled: bool | None) -> None:
    found = batch_of(compiled=compiled, names="flat", length_multiple=0)
    assert found["encoder_input_ids"] == [5, 6, 7, 2, 50, 8, 2, 60, 2, 50]
    assert found["encoder_offsets"] == [0, 5, 8, 10]
    assert found["decoder_input_ids"] == [60, 9, 50, 11, 12, 13, 14, 60]
    assert found["labels"] == [9, 2, 11, 12, 13, 14, 2, 2]
    assert found["decoder_offsets"] == [0, 2, 7, 8]
    assert found["decoder_positions"] == [0, 1, 0, 1, 2, 3, 4, 0]


@pytest.mark.parametrize("compiled", [False, None])
def test_a_packed_batch_has_the_tokens_of_a_flat_one(compiled: bool | None) -> None:
    flat, packed = (
        batch_of(compiled=compiled, names=names, length_multiple=0) for names in ("flat", "huggingface_packed")
    )
    assert packed["input_ids"] == [flat["encoder_input_ids"]]
    assert packed["position_ids"] == [[0, 1, 2, 3, 4, 0, 1, 2, 0, 1]]
    assert packed["decoder_input_ids"] == [flat["decoder_input_ids"]]
    assert packed["decoder_position_ids"] == [flat["decoder_positions"]]
    assert packed["labels"] == [flat["labels"]]
    assert (packed["encoder_offsets"], packed["decoder_offsets"]) == ([0, 5, 8, 10], [0, 2, 7, 8])


def test_decoder_only_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"batch_format=causal lack\. Set datamodule\.language_token_position=prefix"):
        BatchFormat(language_token_position="suffix", names="causal")


def test_a_truncated_source_keeps_eos_and_language() -> None:
    found = batch_of(max_source_tokens=4, max_target_tokens=3, names="huggingface")
    assert found["input_ids"][0] == [5, 6, 2, 50]
    assert found["decoder_input_ids"][1] == [50, 11, 12]
    assert found["labels"] == [[9, 2, -100], [11, 12, 2], [2, -100, -100]]


def test_widths_and_lengths_are_those_of_the_batch() -> None:
    layout = BatchFormat(language_token_position="suffix")
    lengths = batch_lengths(PAIRS, layout)
    assert (lengths.source.tolist(), lengths.target.tolist()) == ([5, 3, 2], [2, 5, 1])
    for options, width in (({"length_multiple": 4}, 8), ({"widths": (9, 7)}, 7)):
        found = batch_of(**options)  # type: ignore[arg-type]
        assert {len(row) for name in ("decoder_input_ids", "labels") for row in found[name]} == {width}


def test_sources_without_eos_end_with_the_language() -> None:
    assert batch_of(source_eos=False)["encoder_input_ids"] == [[5, 6, 7, 50], [8, 60, 0, 0], [50, 0, 0, 0]]
