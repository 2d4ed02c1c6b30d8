"""A model whose packed pairs see each other is refused before the first step, on whatever way they do."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from test_datamodule import datamodule
from torch import Tensor, nn

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import ConfigError, DataError
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.evaluation.likelihood import sums_by_pair
from mtx.training.model_batch_formats import check_packed_split
from mtx.training.packed_batch_outputs import (
    causal_arguments,
    check_packed_model,
    packed_outputs,
    packed_pair_nats,
    pair_mask,
)
from mtx.training.packed_positions import positions_of_pairs
from mtx.training.pair_leakage import check_batch_is_apart, check_pairs_are_apart, packed_batch, single_pair
from mtx.training.split_data import SplitData

Batch = dict[str, Tensor]
PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61, 62], []]))


class Unigram(pl.LightningModule):
    """Score each label by a table of its own, or by a mix that a test gives."""

    batch_formats = ("huggingface_packed",)

    def __init__(self, mix: Callable[[Tensor, Batch], Tensor] = lambda nats, batch: nats, dtype: Any = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(300, 1, dtype=dtype)  # as many ids as bytes, and more
        self.mix, self.calls = mix, 0

    def target_nats(self, batch: Batch) -> Tensor:
        self.calls += 1
        assert not self.training
        torch.rand(1)
        nats = self.mix(self.table(batch["labels"])[0, :, 0].float(), batch)
        return sums_by_pair(nats, batch["decoder_offsets"].diff())


def check(model: Unigram) -> None:
    check_pairs_are_apart(model.target_nats, model, num_source_ids=100, num_target_ids=100)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_model_that_keeps_pairs_apart_passes_once_and_keeps_its_mode(dtype: Any) -> None:
    model = Unigram(dtype=dtype)
    model.train()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    check(model)
    check(model)
    assert torch.rand(1) == expected
    assert model.calls == 5
    assert model.table.training


def test_a_small_influence_on_a_later_or_an_earlier_pair_is_seen() -> None:
    for mix in (
        lambda nats, _: nats + 1e-5 * nats.mean(),
        lambda nats, _: nats + 1e-5 * nats.cumsum(0),
        lambda nats, _: nats + 1e-5 * nats.flip(0).cumsum(0).flip(0),
    ):
        with pytest.raises(
            ConfigError,
            match=r"^Unigram mixes the pairs of a batch with datamodule\.batch_format=huggingface_packed: after one "
            r"pair was changed, the loss of another went from -?[\d.]+ to -?[\d.]+ nats per token\. Set "
            r"datamodule\.batch_format=huggingface$",
        ):
            check(Unigram(mix))


def test_positions_that_do_not_restart_are_seen() -> None:
    with pytest.raises(ConfigError, match=r"Unigram gives a pair another loss than the pair has alone: .* instead of"):
        check(Unigram(lambda nats, _: nats + 1e-3 * torch.arange(len(nats))))


def test_a_model_that_fails_on_packed_batches_is_refused() -> None:
    def fail(nats: Tensor, _: Batch) -> Tensor:
        return nats.view(3, 100)

    with pytest.raises(ConfigError, match=r"^Unigram fails on a batch with .*=huggingface_packed: .*\. If it does not"):
        check(Unigram(fail))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError, DataError])
def test_errors_that_are_not_of_the_format_stay_as_they_are(error: type[Exception]) -> None:
    def fail(nats: Tensor, _: Batch) -> Tensor:
        raise error("full")

    with pytest.raises(error, match=r"^full$"):
        check(Unigram(fail))


def test_a_loss_that_is_not_finite_is_no_fault_of_the_format() -> None:
    model = Model()
    nn.init.constant_(model.table.weight, float("nan"))
    for each in (lambda: check(Unigram(lambda nats, _: nats / 0)), lambda: check_packed_model(model)):
        with pytest.raises(ConfigError, match=r"^the loss of \w+ for a single pair is -?(nan|inf) before.*its weights"):
            each()


def test_another_dtype_or_attention_is_checked_again() -> None:
    model = Unigram()
    check(model)
    check(model.bfloat16())
    assert model.calls == 10
    model.config = SimpleNamespace(_attn_implementation="eager")
    check(model)
    assert model.calls == 15
    with torch.autocast("cpu", torch.bfloat16):
        check(model)
    assert model.calls == 20


def test_what_depends_on_the_number_of_tokens_is_seen_in_a_batch_of_the_data() -> None:
    pairs = [(torch.full((30,), number), torch.full((20,), number)) for number in range(10, 13)]
    batch = packed_batch(pairs, torch.device("cpu"))
    alone = single_pair(batch, 1)
    expected = packed_batch(pairs[1:2], torch.device("cpu")) | {"row_ids": torch.tensor([1])}
    assert {key: value.tolist() for key, value in alone.items()} == {
        key: value.tolist() for key, value in expected.items()
    }
    model = Unigram(lambda nats, _: nats + 0.01 * (len(nats) > 50))
    check(model)
    with pytest.raises(ConfigError, match="Unigram gives a pair another loss than the pair has alone"):
        check_batch_is_apart(model.target_nats, model, batch)
    of_transformers = Model()
    packed_outputs(of_transformers, batch)
    of_transformers.loss = 1.1
    with pytest.raises(ConfigError, match="the loss of Model"):
        packed_outputs(of_transformers.bfloat16(), batch)


def test_the_check_computes_under_autocast_if_the_model_needs_it() -> None:
    batch = packed_batch([(torch.tensor([5]), torch.tensor([6, 7]))], torch.device("cpu"))
    model = Model()
    model.layer = nn.Linear(100, 100)
    with torch.autocast("cpu", torch.bfloat16):
        packed_outputs(model, batch).loss.backward()
    assert model.seen == [*[torch.float32] * 8, torch.bfloat16]
    assert model.layer.weight.grad.norm() > 0

    class Half(nn.Linear):
        def forward(self, given: Tensor) -> Tensor:
            found = super().forward(given)
            assert found.dtype == torch.bfloat16
            return found

    model = Model()
    model.layer = Half(100, 100)
    with torch.autocast("cpu", torch.bfloat16):
        packed_outputs(model, batch)
    with pytest.raises(ConfigError, match="Model fails on a batch"):
        packed_outputs(model, batch)


def trainer_of(model: pl.LightningModule, *, is_sharded: bool = False) -> Any:
    return SimpleNamespace(
        lightning_module=model,
        world_size=1,
        distributed_sampler_kwargs=None,
        strategy=SimpleNamespace(restore_checkpoint_after_setup=is_sharded),
        precision_plugin=SimpleNamespace(forward_context=lambda: torch.autocast("cpu", torch.bfloat16)),
    )


def test_a_run_is_refused_before_its_first_step_in_the_precision_of_the_trainer(tmp_path: Path) -> None:
    made = datamodule(tmp_path, batch_format="huggingface_packed")
    made.prepare_data()

    def mix(nats: Tensor, _: Batch) -> Tensor:
        assert torch.is_autocast_enabled("cpu")
        return nats + nats.mean()

    mixing = Unigram(mix)
    made.trainer = trainer_of(mixing)
    made.setup("fit")
    assert not mixing.calls, "before the Trainer moves the model to its device"
    for loader in (made.val_dataloader, made.train_dataloader):
        with pytest.raises(ConfigError, match="Unigram mixes the pairs"):
            loader()
    for model in (Unigram(), pl.LightningModule()):
        made.trainer = trainer_of(model)
        made.val_dataloader()
    made.trainer = trainer_of(Unigram(mix), is_sharded=True)
    made.val_dataloader()


def test_empty_sources_are_refused_before_training_of_an_encoder() -> None:
    layout = BatchFormat(names="huggingface_packed", source_eos=False)
    split = SplitData(PAIRS, np.ones(3, np.int64), layout, "drop")
    model = pl.LightningModule()
    model.inner = Model(has_encoder=True)
    with pytest.raises(
        ConfigError, match=r"encoder-decoder model needs .* but 1 pairs of the train split have none\. Set .*eos=true"
    ):
        check_packed_split(trainer_of(model), split, dict, "train")
    model.inner = Model()
    check_packed_split(trainer_of(model), split, dict, "train")


def test_masks_have_the_dtype_of_autocast_and_large_ones_warn(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = packed_batch([(torch.tensor([5]), torch.tensor([6, 7]))], torch.device("cpu"))
    model = Model(has_encoder=True)
    packed_outputs(model, batch)
    assert model.mask.dtype == torch.float32
    monkeypatch.setattr("mtx.training.packed_batch_outputs.LARGE_MASKS_BYTES", 2 * (1 + 2 + 4) - 1)
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        packed_outputs(model, batch)
    assert model.mask.dtype == torch.bfloat16
    assert "the attention masks of a batch take 0.0 GB, since they grow with the square of its 3 tokens" in caplog.text


def test_block_sparse_attention_is_refused_and_stays_as_it_is() -> None:
    model = Model(has_encoder=True)
    model.config.attention_type = "block_sparse"
    with pytest.raises(ConfigError, match=r'=block_sparse of Model .* with attention_type="original_full"'):
        check_packed_model(model)
    assert not model.seen


def test_masks_and_sequences_are_those_of_single_pairs() -> None:
    batch = collate_rows(PAIRS, np.array([1, 0]), BatchFormat(names="huggingface_packed", source_eos=False))
    assert (pair_mask(batch["decoder_offsets"], batch["encoder_offsets"], torch.float32)[0, 0] == 0).int().tolist() == [
        *[[1, 0, 0]] * 4,
        *[[0, 1, 1]] * 2,
    ]
    own = pair_mask(batch["decoder_offsets"], batch["decoder_offsets"], torch.float16, is_causal=True)
    assert own.dtype == torch.float16
    assert (own[0, 0] == 0).int().tolist()[3:5] == [[1, 1, 1, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    assert own.min() == torch.finfo(torch.float16).min
    found = causal_arguments(batch, uses_flash=True)
    bos, eos = 1, 2
    assert found["input_ids"].tolist() == [[20, bos, 60, 61, 62, 10, 11, bos, 50]]
    assert found["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3]]
    assert found["logits_to_keep"].tolist() == [1, 2, 3, 4, 7, 8]
    assert found["shift_labels"].tolist() == found["labels"].tolist() == [[60, 61, 62, eos, 50, eos]]
    assert found["cu_seq_lens_q"].tolist() == found["cu_seq_lens_k"].tolist() == [0, 5, 9]
    assert found["max_length_q"] == found["max_length_k"] == 5
    assert "cu_seq_lens_q" not in causal_arguments(batch)
    logits = torch.randn(1, 6, 70)
    assert torch.allclose(packed_pair_nats(logits, batch), pair_likelihood(batch, logits).nats)


def test_a_position_module_sees_padded_rows_and_gives_packed_states() -> None:
    seen: list[Any] = []

    class Positions(nn.Module):
        def forward(self, ids: Tensor, shape: torch.Size, scale: float = 1.0, places: Tensor | None = None) -> Tensor:
            seen.extend([ids.tolist(), tuple(shape), scale, places if places is None else places.tolist()])
            return scale * torch.arange(ids.shape[1])[:, None] + ids[..., None]

    stack = nn.Module()
    stack.embed_positions = Positions()
    ids = torch.tensor([[5, 6, 7]])
    with positions_of_pairs(stack, torch.tensor([0, 1, 3], dtype=torch.int32), 9):
        assert stack.embed_positions(ids, ids.shape, 10, places=torch.arange(3)).tolist() == [[[5], [6], [17]]]
    assert seen == [[[5, 9], [6, 7]], (2, 2), 10, [0, 1]]
    assert stack.embed_positions(ids, ids.shape).tolist() == [[[5], [7], [9]]], "without the context as it was"


class Model(nn.Module):
    """The interface of a transformers model, with the logits and the loss that a test gives."""

    dtype = torch.float32

    layer: Any
    mask: Any

    def __init__(self, *, loss: float = 1.0, attention: str = "sdpa", has_encoder: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 100)
        self.config = SimpleNamespace(
            is_encoder_decoder=has_encoder, _attn_implementation=attention, pad_token_id=0, decoder_vocab_size=None
        )
        self.loss, self.layer, self.mask = loss, nn.Identity(), None
        self.seen: list[torch.dtype] = []

    def get_input_embeddings(self) -> nn.Module:
        return self.table

    def get_encoder(self) -> Any:
        return self

    def get_decoder(self) -> Any:
        return self

    def forward(self, **given: Any) -> Any:
        if self.config.is_encoder_decoder:
            logits = self.table(given.get("decoder_input_ids", given.get("input_ids")))
        else:
            logits = self.table(given["input_ids"])[:, given["logits_to_keep"]]
        logits, self.mask = self.layer(logits), given.get("decoder_attention_mask")
        self.seen.append(logits.dtype)
        if "labels" not in given:
            return logits
        loss = nn.functional.cross_entropy(logits[0], given["labels"][0])
        return SimpleNamespace(logits=logits, loss=self.loss * loss)


def test_a_loss_that_is_no_mean_over_target_tokens_is_refused() -> None:
    batch = packed_batch([(torch.tensor([5]), torch.tensor([6, 7]))], torch.device("cpu"))
    assert packed_outputs(Model(), batch).logits.shape == (1, 2, 100)
    assert packed_outputs(Model(has_encoder=True), batch).loss > 0
    with pytest.raises(ConfigError, match=r"^the loss of Model for a batch .* is [\d.]+, but the mean over the target"):
        packed_outputs(Model(loss=1.1), batch)


def test_batches_and_attention_that_cannot_be_packed_are_refused() -> None:
    with pytest.raises(
        DataError,
        match=r"packed_outputs takes batches with datamodule\.batch_format=huggingface_packed, but a batch lacks",
    ):
        packed_outputs(Model(), collate_rows(PAIRS, np.array([0]), BatchFormat()))
    no_source = collate_rows(PAIRS, np.array([2]), BatchFormat(names="huggingface_packed", source_eos=False))
    with pytest.raises(DataError, match=r"at least one token in each source, but a pair has none\. Set .*eos=true"):
        packed_outputs(Model(has_encoder=True), no_source)
    assert packed_outputs(Model(), no_source).loss > 0
    with pytest.raises(ConfigError, match=r"flash_attention_2 of Model does not take\. Create .*\"sdpa\", or set"):
        packed_outputs(Model(has_encoder=True, attention="flash_attention_2"), no_source)
