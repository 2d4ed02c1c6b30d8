"""Gradients over accumulated batches and over ranks are those of one big batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from small_runs import BATCHES, PACKAGES, Loader, batch_of, flat_weights, gradient_of, in_ranks, trainer, word_model
from torch import Tensor

from mtx.errors import ConfigError, DataError
from mtx.training.callbacks import TokenMeanGradients
from mtx.training.reference.transformer import TransformerTranslator


def fitted(package: Any = None, batches: Any = None, callbacks: Any = None, **options: Any) -> Any:
    package = package or PACKAGES[0]
    model = word_model(package)(batches)
    callbacks = [TokenMeanGradients()] if callbacks is None else callbacks
    trainer(package, callbacks=callbacks, **options).fit(model)
    return model


@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning.pytorch"])
def test_accumulated_batches_give_the_gradient_of_one_big_batch(package: Any) -> None:
    found = fitted(package, accumulate_grad_batches=3, max_steps=1, precision="64-true").gradients
    expected = gradient_of(word_model()().double(), BATCHES[:3])
    assert len(found) == 1
    torch.testing.assert_close(found[0], expected, atol=1e-12, rtol=1e-12)
    plain = fitted(package, callbacks=[], accumulate_grad_batches=3, max_steps=1, precision="64-true").gradients
    assert (plain[0] - expected).abs().max() > 1e-2  # or there would be nothing to do


def test_a_window_that_the_end_of_the_epoch_cuts_short_counts_what_is_in_it() -> None:
    model = fitted(batches=BATCHES[:5], accumulate_grad_batches=4, precision="64-true")
    assert len(model.gradients) == 2
    start = word_model()().double()
    torch.testing.assert_close(model.gradients[0], gradient_of(start, BATCHES[:4]))
    for parameter, gradient in zip(start.parameters(), start_gradients(start, BATCHES[:4]), strict=True):
        parameter.data -= 0.5 * gradient
    torch.testing.assert_close(model.gradients[1], gradient_of(start, BATCHES[4:5]))


def start_gradients(model: Any, batches: Any) -> list[Tensor]:
    flat = gradient_of(model, batches)
    sizes = [p.numel() for p in model.parameters()]
    return [part.view_as(p) for part, p in zip(flat.split(sizes), model.parameters(), strict=True)]


def test_gradients_are_clipped_after_they_are_scaled() -> None:
    expected = gradient_of(word_model()().double(), BATCHES[:2])
    for clip in (float(expected.norm()) * 0.5, float(expected.norm()) * 1.5):
        before = flat_weights(word_model()().double())
        model = fitted(accumulate_grad_batches=2, max_steps=1, precision="64-true", gradient_clip_val=clip)
        moved = (before - flat_weights(model)) / 0.5
        torch.testing.assert_close(moved, expected * min(1.0, clip / float(expected.norm())), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("scaler", [None, torch.amp.GradScaler("cpu")], ids=["bf16", "fp16 with a scaler"])
def test_mixed_precision_and_its_scaler_change_nothing(scaler: Any) -> None:
    plugin = MixedPrecision("bf16-mixed" if scaler is None else "16-mixed", device="cpu", scaler=scaler)
    found = fitted(accumulate_grad_batches=3, max_steps=1, plugins=[plugin]).gradients
    torch.testing.assert_close(found[0], gradient_of(word_model()(), BATCHES[:3]), atol=2e-2, rtol=2e-2)


def test_batches_without_a_token_count_for_nothing() -> None:
    empty = batch_of([0, 0], width=2)
    found = fitted(batches=[BATCHES[0], empty, BATCHES[1]], accumulate_grad_batches=3, precision="64-true").gradients
    torch.testing.assert_close(found[0], gradient_of(word_model()().double(), BATCHES[:2]))
    (nothing,) = fitted(batches=[empty, empty], accumulate_grad_batches=2).gradients
    assert not nothing.any()


def test_one_rank_without_accumulation_stays_as_it_is_to_the_bit() -> None:
    assert torch.equal(flat_weights(fitted()), flat_weights(fitted(callbacks=[])))


class Translator(TransformerTranslator):
    """The reference model, which tells its gradients."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gradients: list[Tensor] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        self.gradients.append(torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]))


def test_the_reference_model_brings_the_callback_along() -> None:
    def batch(lengths: list[int], seed: int) -> dict[str, Tensor]:
        made = batch_of(lengths, seed)
        source = made["encoder_attn_mask"].long() * 4
        return {**made, "encoder_input_ids": source, "row_ids": torch.arange(len(lengths))}

    batches = [batch([3, 5], 1), batch([2], 2), batch([7, 1, 4], 3)]
    torch.manual_seed(1)
    size: dict[str, Any] = {"d_model": 8, "num_heads": 2, "num_encoder_layers": 1, "num_decoder_layers": 1}
    special = {"pad_id": 0, "bos_id": 1, "eos_id": 2, "source_vocab_size": 12, "target_vocab_size": 12}
    model = Translator(**special, **size, dropout=0.0)
    weights = [len(b["labels"][b["decoder_attn_mask"]]) for b in batches]
    total = sum(w * model.loss(b) for w, b in zip(weights, batches, strict=True)) / sum(weights)
    gradients = torch.autograd.grad(total, list(model.parameters()))
    expected = torch.cat([gradient.flatten() for gradient in gradients])
    run = trainer(accumulate_grad_batches=3, callbacks=[])
    run.fit(model, Loader(run, batches), Loader(run, batches))
    torch.testing.assert_close(model.gradients[0], expected, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
def test_ranks_with_unequal_batches_give_the_gradient_of_one_big_batch(tmp_path: Path) -> None:
    options = {"devices": 2, "accumulate_grad_batches": 2, "max_steps": 1, "precision": "64-true"}
    found = in_ranks(tmp_path, "TokenMeanGradients", **options)["gradients"]
    torch.testing.assert_close(found[0], gradient_of(word_model()().double(), BATCHES[:4]), atol=1e-12, rtol=1e-12)


def test_a_module_that_optimizes_by_itself_is_refused() -> None:
    model = word_model()()
    model.automatic_optimization = False
    with pytest.raises(ConfigError, match=r"Words sets automatic_optimization=False. Remove the callback"):
        trainer(callbacks=[TokenMeanGradients()]).fit(model)


def test_a_strategy_that_accumulates_by_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(callbacks=[TokenMeanGradients()])
    monkeypatch.setattr(type(run.strategy), "handles_gradient_accumulation", property(lambda self: True))
    with pytest.raises(ConfigError, match=r"SingleDeviceStrategy accumulates them itself. Set trainer.strategy=ddp"):
        run.fit(word_model()())


def test_a_batch_without_a_mask_is_refused() -> None:
    without = {name: value for name, value in BATCHES[0].items() if name != "decoder_attn_mask"}
    with pytest.raises(DataError, match=r"but the batch has neither \(encoder_attn_mask, decoder_input_ids, labels\)"):
        fitted(batches=[without, without], accumulate_grad_batches=2)
