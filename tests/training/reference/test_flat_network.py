"""The reference model on flat batches: equal to padded batches, and attention that keeps pairs apart."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.batches.collate_flat import padded_sources
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import DataError
from mtx.training.reference.flat_attention import (
    attention_layout,
    flat_attention,
    is_varlen_device,
    reference_attention,
    varlen_attention,
    varlen_kernel,
)
from mtx.training.reference.transformer import TransformerTranslator

RANDOM = np.random.default_rng(0)
LENGTHS = [1, 0, 7, 3, 12, 2, 2, 30]
PAIRS = EncodedPairs(
    TokenRows.of([RANDOM.integers(4, 40, length).tolist() for length in LENGTHS]),
    TokenRows.of([RANDOM.integers(4, 40, length).tolist() for length in [2, 5, 6, 0, 9, 1, 2, 31]]),
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(**options: Any) -> TransformerTranslator:
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "dim_feedforward": 32, "num_encoder_layers": 2, "num_decoder_layers": 2}
    vocabulary = {"source_vocab_size": 40, "target_vocab_size": 40, "pad_id": 0, "bos_id": 1, "eos_id": 2}
    return TransformerTranslator(**{**vocabulary, **sizes, "dropout": 0.0, "max_positions": 64, **options})


def batches(rows: list[int]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    chosen = np.array(rows)
    return collate_rows(PAIRS, chosen, BatchFormat()), collate_rows(PAIRS, chosen, BatchFormat(names="flat"))


def test_padded_and_flat_batches_of_the_same_pairs_give_the_same_outputs_and_gradients() -> None:
    net, (padded, flat) = model(), batches([4, 1, 7, 0, 2, 3, 6, 5])
    real = padded["decoder_attn_mask"]
    assert torch.equal(padded["labels"][real], flat["labels"])
    torch.testing.assert_close(net(padded)[real], net(flat), rtol=1e-5, atol=1e-5)
    found = []
    for batch in (padded, flat):
        net.zero_grad()
        loss = net.loss(batch)
        loss.backward()
        found.append((loss.detach(), [parameter.grad.clone() for parameter in net.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-6)


def test_a_pair_does_not_see_the_other_pairs_of_its_batch() -> None:
    net, (_, flat), (_, alone) = model(), batches([4, 2, 7]), batches([2])
    begin, end = flat["decoder_offsets"][1:3].tolist()
    torch.testing.assert_close(net(flat)[begin:end], net(alone), rtol=1e-5, atol=1e-5)


def test_dropout_is_applied_in_training_only() -> None:
    net, (_, flat) = model(dropout=0.5), batches([4, 2])
    assert not torch.equal(net(flat), net(flat))
    net.eval()
    assert torch.equal(net(flat), net(flat))


def test_validation_sums_and_translations_are_those_of_padded_batches() -> None:
    net, (padded, flat) = model(), batches([2, 7, 0, 4])
    assert net.translate(padded, 5, beam=2) == net.translate(flat, 5, beam=2)
    counts = [net._label_states(batch)[2].tolist() for batch in (padded, flat)]
    assert counts[0] == counts[1] == [7, 32, 3, 10]
    ids, mask = padded_sources(flat, 0)
    assert torch.equal(ids, padded["encoder_input_ids"])
    assert torch.equal(mask, padded["encoder_attn_mask"])


def test_a_sequence_beyond_the_model_is_refused() -> None:
    with pytest.raises(
        DataError, match=r"a source of 31 positions, but the model takes at most 8\. Set model\.max_pos"
    ):
        model(max_positions=8)(batches([7])[1])


def test_a_flat_batch_without_a_field_is_refused() -> None:
    _, flat = batches([0])
    del flat["decoder_positions"]
    with pytest.raises(DataError, match=r"lacks decoder_positions and has encoder_input_ids"):
        model()(flat)


def offsets(lengths: list[int]) -> Tensor:
    return torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32)


@pytest.mark.parametrize("is_causal", [False, True])
def test_attention_by_groups_is_the_attention_of_each_pair(is_causal: bool) -> None:
    torch.manual_seed(1)
    queries = offsets([3, 9, 1, 4, 40, 5])
    keys = queries if is_causal else offsets([2, 11, 1, 30, 2, 5])
    layout = attention_layout(queries, keys)
    assert len(layout.groups) > 1
    query = torch.randn(int(queries[-1]), 2, 8, requires_grad=True)
    key_value = torch.randn(int(keys[-1]), 2, 2, 8, requires_grad=True)
    expected = reference_attention(query, key_value, layout, is_causal=is_causal)
    found = flat_attention(query, key_value, layout, is_causal=is_causal)
    torch.testing.assert_close(found, expected)
    weights = torch.randn_like(found)
    wanted = torch.autograd.grad((expected * weights).sum(), (query, key_value))
    torch.testing.assert_close(torch.autograd.grad((found * weights).sum(), (query, key_value)), wanted)


def test_a_pair_without_keys_gets_zeros_and_no_pair_is_no_work() -> None:
    layout = attention_layout(offsets([2, 3]), offsets([0, 2]))
    found = flat_attention(torch.randn(5, 2, 8), torch.randn(2, 2, 2, 8), layout)
    assert found[:2].abs().max() == 0
    assert found[2:].abs().min() > 0
    keyless = attention_layout(offsets([2, 3]), offsets([0, 0]))
    assert flat_attention(torch.randn(5, 2, 8), torch.randn(0, 2, 2, 8), keyless).abs().max() == 0
    empty = attention_layout(offsets([]), offsets([]))
    assert flat_attention(torch.randn(0, 2, 8), torch.randn(0, 2, 2, 8), empty).shape == (0, 2, 8)


def test_the_varlen_kernel_gets_the_shapes_and_types_of_its_contract() -> None:
    layout = attention_layout(offsets([2, 3]), offsets([4, 1]))
    asked = []

    def kernel(query: Tensor, key: Tensor, value: Tensor, *arguments: Any, window_size: Any) -> Tensor:
        asked.append((query.shape, key.shape, value.shape, query.dtype, *arguments, window_size))
        return query

    sides = torch.randn(5, 2, 8).half(), torch.randn(5, 2, 2, 8).half()
    assert varlen_attention(kernel, *sides, layout, is_causal=True) is sides[0]
    shapes, (of_queries, of_keys, *rest) = asked[0][:4], asked[0][4:]
    assert shapes == ((5, 2, 8), (5, 2, 8), (5, 2, 8), torch.float16)
    assert of_queries.dtype == of_keys.dtype == torch.int32
    assert (of_queries.tolist(), of_keys.tolist(), *rest) == ([0, 2, 5], [0, 4, 5], 3, 4, (-1, 0))


def test_old_kernels_and_old_devices_take_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    varlen = pytest.importorskip("torch.nn.attention.varlen")
    for kernel, is_taken in ((lambda query, window_size: None, True), (lambda query, is_causal: None, False)):
        monkeypatch.setattr(varlen, "varlen_attn", kernel)
        assert (varlen_kernel.__wrapped__() is not None) == is_taken
    for capability, is_taken in (((7, 5), False), ((8, 0), True), ((9, 0), True)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device, found=capability: found)
        assert is_varlen_device.__wrapped__(torch.device("cuda", 0)) == is_taken
