"""`batch_format=huggingface` beside transformers' own sequence-to-sequence models, tiny ones with random weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import collate_rows
from mtx.data.token_rows import EncodedPairs, SpecialIds, TokenRows

transformers = pytest.importorskip("transformers")

VOCAB_SIZE = 24
PAIRS = EncodedPairs(
    TokenRows.of([[5, 6, 7], [8], [9, 10, 11, 12, 13]]),
    TokenRows.of([[14, 15], [16, 17, 18, 19], [20]]),
)
ROWS = np.array([2, 0, 1])
FORMAT = BatchFormat(names="huggingface")
SPECIAL = {"pad_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": FORMAT.target.bos}


def marian(**special: int) -> Any:
    layers = {f"{part}_{what}": 2 for part in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    widths = {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 16}
    config = transformers.MarianConfig(vocab_size=VOCAB_SIZE, **layers, **widths, **{**SPECIAL, **special}, dropout=0.0)
    return transformers.MarianMTModel(config)


def t5(**special: int) -> Any:
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 2, "num_heads": 2}
    config = transformers.T5Config(vocab_size=VOCAB_SIZE, **sizes, **{**SPECIAL, **special}, dropout_rate=0.0)
    return transformers.T5ForConditionalGeneration(config)


MODELS = pytest.mark.parametrize("make", [marian, t5])
Make = Callable[..., Any]


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def batch() -> dict[str, torch.Tensor]:
    return collate_rows(PAIRS, ROWS, FORMAT)


def test_labels_are_ignored_behind_eos_and_inputs_are_padded() -> None:
    made = batch()
    assert made["labels"].tolist() == [[20, 2, -100, -100, -100], [14, 15, 2, -100, -100], [16, 17, 18, 19, 2]]
    assert made["decoder_input_ids"].tolist() == [[1, 20, 0, 0, 0], [1, 14, 15, 0, 0], [1, 16, 17, 18, 19]]
    assert made["decoder_attention_mask"].tolist() == [[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert made["input_ids"].tolist() == [[9, 10, 11, 12, 13, 2], [5, 6, 7, 2, 0, 0], [8, 2, 0, 0, 0, 0]]
    assert made["attention_mask"].sum(dim=1).tolist() == [6, 4, 2]


@MODELS
def test_a_model_takes_the_whole_batch(make: Make) -> None:
    output = make()(**batch())
    assert output.logits.shape == (3, 5, VOCAB_SIZE)
    assert torch.isfinite(output.loss)


@MODELS
def test_the_loss_is_that_of_the_real_target_tokens(make: Make) -> None:
    made, model = batch(), make()
    output = model(**made)
    real = made["labels"] != -100
    expected = torch.nn.functional.cross_entropy(output.logits[real], made["labels"][real])
    torch.testing.assert_close(output.loss, expected)
    assert int(real.sum()) == 2 + 3 + 5


@MODELS
def test_training_steps_lower_the_loss_by_finite_gradients(make: Make) -> None:
    made, model = batch(), make()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(5):
        loss = model(**made).loss
        optimizer.zero_grad()
        loss.backward()
        gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
        assert gradients
        assert all(torch.isfinite(gradient).all() for gradient in gradients)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[1] < losses[0]
    assert losses[-1] < losses[1]


@MODELS
def test_a_model_that_starts_with_bos_makes_the_same_inputs_from_the_labels(make: Make) -> None:
    made, model = batch(), make().eval()
    ours = model(**made)
    own = model(input_ids=made["input_ids"], attention_mask=made["attention_mask"], labels=made["labels"])
    torch.testing.assert_close(own.loss, ours.loss)
    real = made["labels"] != -100
    torch.testing.assert_close(own.logits[real], ours.logits[real])


@MODELS
def test_a_model_that_starts_with_pad_is_served_by_pad_as_bos(make: Make) -> None:
    # as published Marian and T5 models do; with tokenizer=pretrained: tokenizer.bos_token='<pad>'
    layout = BatchFormat(names="huggingface", target=SpecialIds(pad=0, bos=0, eos=2, unk=3))
    made, model = collate_rows(PAIRS, ROWS, layout), make(decoder_start_token_id=0).eval()
    assert made["decoder_input_ids"][:, 0].tolist() == [0, 0, 0]
    assert made["decoder_attention_mask"][:, 0].tolist() == [1, 1, 1]
    own = model(input_ids=made["input_ids"], attention_mask=made["attention_mask"], labels=made["labels"])
    torch.testing.assert_close(own.loss, model(**made).loss)


@MODELS
def test_padding_changes_nothing(make: Make) -> None:
    model = make().eval()
    together = model(**batch()).logits
    for place, row in enumerate(ROWS):
        alone = collate_rows(PAIRS, np.array([row]), FORMAT)
        logits = model(**alone).logits[0]
        torch.testing.assert_close(together[place, : len(logits)], logits, atol=1e-5, rtol=1e-4)
