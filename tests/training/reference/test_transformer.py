"""The reference model: what it computes, what it logs, and that it learns. Eight pairs over a vocabulary of twelve."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from mtx.errors import ConfigError, DataError
from mtx.training.reference.network import position_encodings
from mtx.training.reference.transformer import TransformerTranslator

pytestmark = pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",  # Lightning's own use of torch
)

PAD, BOS, EOS = 0, 1, 2
PAIRS: list[tuple[list[int], list[int]]] = [
    ([4], [5]),
    ([4, 5], [5, 4]),
    ([6, 7, 8], [8, 7, 6]),
    ([9], [4, 4, 4, 4]),
    ([10, 11], [9]),
    ([11, 10], [10, 10]),
    ([4, 4, 4, 4, 4], [11]),
    ([8, 9, 10, 11], [4, 5, 6, 7, 8, 9]),
]
SIZES: dict[str, Any] = {"d_model": 32, "num_heads": 4, "dim_feedforward": 64, "max_positions": 16, "dropout": 0.0}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 1}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small are done before a second thread wakes up."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(**options: Any) -> TransformerTranslator:
    torch.manual_seed(0)
    vocabulary = {"source_vocab_size": 12, "target_vocab_size": 12, "pad_id": PAD, "bos_id": BOS, "eos_id": EOS}
    return TransformerTranslator(**{**vocabulary, "joint_vocabulary": True, **SIZES, **LAYERS, **options})


def padded(rows: list[list[int]], fill: int = PAD, extra: int = 0) -> Tensor:
    width = max(map(len, rows)) + extra
    return torch.tensor([row + [fill] * (width - len(row)) for row in rows])


def batch_of(rows: list[int], *, label_fill: int = PAD, extra: int = 0, source_eos: bool = True) -> dict[str, Tensor]:
    source = [PAIRS[row][0] + [EOS] * source_eos for row in rows]
    target = [PAIRS[row][1] for row in rows]
    lengths = torch.tensor([[len(ids) + 1] for ids in target])
    labels = padded([[*ids, EOS] for ids in target], label_fill, extra)
    return {
        "encoder_input_ids": padded(source, extra=extra),
        "encoder_attn_mask": padded([[1] * len(ids) for ids in source], 0, extra).bool(),
        "decoder_input_ids": padded([[BOS, *ids] for ids in target], extra=extra),
        "labels": labels,
        "decoder_attn_mask": torch.arange(labels.shape[1]) < lengths,
        "row_ids": torch.tensor(rows),
    }


class Batches:
    """A loader; a list would be several."""

    def __init__(self, batches: list[dict[str, Tensor]]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return iter(self.batches)


class Pairs(pl.LightningDataModule):
    """Serves the eight pairs in batches of unequal size; bytes of a target are ten times its row, plus one."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.batches = [batch_of(rows, **options) for rows in ([0, 1, 2, 3, 4], [5, 6], [7])]
        self.asked: list[str] = []

    def train_dataloader(self) -> Any:
        return Batches(self.batches)

    val_dataloader = test_dataloader = train_dataloader

    def num_target_bytes(self, row_ids: Tensor, split: str) -> Tensor:
        self.asked.append(split)
        return row_ids * 10 + 1


class PairsWithoutBytes(Pairs):
    num_target_bytes = None  # type: ignore[assignment]


def trainer(root: Path, **options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    defaults = {"enable_checkpointing": False, "num_sanity_val_steps": 0, "default_root_dir": root}
    return pl.Trainer(**{**quiet, **defaults, "log_every_n_steps": 1, "max_steps": 3, **options})


def nll_by_hand(net: TransformerTranslator, batch: dict[str, Tensor]) -> float:
    """Sum of -log p over real labels, from scores at all positions."""
    net.eval()
    with torch.no_grad():
        log_p = net(batch).log_softmax(-1)
    total = 0.0
    for row, labels in enumerate(batch["labels"].tolist()):
        for position, label in enumerate(labels):
            total -= float(log_p[row, position, label]) if batch["decoder_attn_mask"][row, position] else 0.0
    return total


@pytest.mark.parametrize("label_fill", [PAD, -100])
def test_the_training_loss_is_the_mean_over_real_labels(label_fill: int) -> None:
    net = model(label_smoothing=0.0)
    batch = batch_of([0, 2, 7], label_fill=label_fill)
    expected = nll_by_hand(net, batch) / (2 + 4 + 7)
    assert net.loss(batch).item() == pytest.approx(expected, rel=1e-5)


def test_label_smoothing_is_that_of_torch_and_in_the_training_loss_only(tmp_path: Path) -> None:
    smooth, plain = model(label_smoothing=0.2), model(label_smoothing=0.0)
    batch = batch_of([0, 2, 7])
    mask = batch["decoder_attn_mask"]
    expected = functional.cross_entropy(smooth(batch)[mask], batch["labels"][mask], label_smoothing=0.2)
    assert smooth.loss(batch).item() == pytest.approx(expected.item(), rel=1e-5)
    figures = [trainer(tmp_path).validate(net, datamodule=Pairs(), verbose=False)[0] for net in (smooth, plain)]
    assert figures[0] == pytest.approx(figures[1])


def test_more_padding_changes_no_loss() -> None:
    net = model()
    losses = [net.loss(batch_of([0, 3, 7], extra=extra)).item() for extra in (0, 5)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_position_does_not_see_later_targets() -> None:
    net = model().eval()
    batch, other = batch_of([7]), batch_of([7])
    other["decoder_input_ids"][0, 4:] = 11
    assert torch.allclose(net(batch)[0, :4], net(other)[0, :4], atol=1e-5)
    assert not torch.allclose(net(batch)[0, 4:], net(other)[0, 4:], atol=1e-5)


def test_what_is_said_depends_on_the_source() -> None:
    net = model().eval()
    batch, other = batch_of([7]), batch_of([7])
    other["encoder_input_ids"][0, 0] = 5
    assert not torch.allclose(net(batch), net(other), atol=1e-4)


def test_a_source_without_tokens_gives_a_finite_loss_and_gradients() -> None:
    net = model()
    batch = batch_of([0, 7])
    batch["encoder_attn_mask"][0] = False
    loss = net.loss(batch)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    assert torch.isfinite(loss)
    assert batch["encoder_attn_mask"][0].sum() == 0  # the batch is as it was


def test_embeddings_are_shared_by_both_sides_only_where_the_vocabulary_is() -> None:
    joint, apart = model(), model(joint_vocabulary=False, source_vocab_size=20)
    assert joint.network.source_embedding.weight is joint.network.target_embedding.weight
    assert apart.network.source_embedding.weight.shape == (20, 32)
    sizes = [sum(p.numel() for p in net.parameters()) for net in (joint, apart)]
    assert sizes[1] - sizes[0] == 20 * 32  # and the output layer has no weights of its own in either
    assert apart(batch_of([0, 1])).shape == (2, 3, 12)


def test_positions_are_encoded_as_in_the_paper() -> None:
    table = position_encodings(7, 8)
    assert table[5, 0].item() == pytest.approx(math.sin(5))
    assert table[5, 1].item() == pytest.approx(math.cos(5))
    assert table[5, 6].item() == pytest.approx(math.sin(5 / 10_000 ** (6 / 8)), abs=1e-6)


def test_the_learning_rate_rises_then_falls_with_the_root_of_the_steps() -> None:
    net = model(learning_rate=0.4, warmup_steps=4)
    configured: Any = net.configure_optimizers()
    optimizer, scheduler = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
    assert configured["lr_scheduler"]["interval"] == "step"
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert rates[15] == pytest.approx(0.2)  # four times as many steps, half the rate


def test_weights_decay_but_embeddings_norms_and_biases_do_not() -> None:
    net = model(weight_decay=0.5)
    configured: Any = net.configure_optimizers()
    decayed, others = configured["optimizer"].param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.5, 0.0)
    assert any(p is net.network.target_embedding.weight for p in others["params"])
    assert all(p.dim() == 2 for p in decayed["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(list(net.parameters()))


def test_learns_eight_pairs_by_heart() -> None:
    net = model(learning_rate=1e-2, warmup_steps=10, label_smoothing=0.05)
    configured: Any = net.configure_optimizers()
    batch = batch_of(list(range(8)))
    for _ in range(80):
        configured["optimizer"].zero_grad()
        net.loss(batch).backward()
        configured["optimizer"].step()
        configured["lr_scheduler"]["scheduler"].step()
    assert net.translate(batch, max_tokens=10) == [target for _, target in PAIRS]
    assert net.training
    assert net.translate(batch_of([7, 0]), max_tokens=10) == [PAIRS[7][1], PAIRS[0][1]]
    assert net.translate(batch_of([7, 0]), max_tokens=3) == [[4, 5, 6], [5]]


def test_an_untrained_model_stops_translating_at_the_maximum() -> None:
    net = model(max_positions=6)
    with torch.no_grad():
        net.network.target_embedding.weight[EOS] = 0  # one score is 0; some other token is likelier
    assert [len(ids) for ids in net.translate(batch_of([0, 1]), max_tokens=4)] == [4, 4]
    assert [len(ids) for ids in net.translate(batch_of([0, 1]), max_tokens=99)] == [6, 6]


@pytest.mark.parametrize("prefix", ["val", "test"])
def test_held_out_figures_are_sums_over_all_batches(tmp_path: Path, prefix: str) -> None:
    net, data = model(), Pairs()
    run = trainer(tmp_path)
    found = (run.validate if prefix == "val" else run.test)(net, datamodule=data, verbose=False)[0]
    nll = sum(nll_by_hand(net, batch) for batch in data.batches)
    num_tokens = sum(len(target) + 1 for _, target in PAIRS)
    num_bytes = sum(10 * row + 1 for row in range(8))
    assert found[f"{prefix}/loss"] == pytest.approx(nll / num_tokens, rel=1e-5)
    assert found[f"{prefix}/bits_per_byte"] == pytest.approx(nll / math.log(2) / num_bytes, rel=1e-5)
    assert set(data.asked) == {"validation" if prefix == "val" else "test"}


def test_large_vocabularies_are_scored_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = model()
    whole = trainer(tmp_path).validate(net, datamodule=Pairs(), verbose=False)[0]
    monkeypatch.setattr("mtx.training.reference.target_likelihoods.MAX_LOGITS", 12 * 3)  # three labels at once
    assert trainer(tmp_path).validate(net, datamodule=Pairs(), verbose=False)[0] == pytest.approx(whole)


def test_without_bytes_the_loss_is_logged_and_the_lack_told_once(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="bits per byte are not logged, because the data module has no") as told:
        found = trainer(tmp_path).validate(model(), datamodule=PairsWithoutBytes(), verbose=False)[0]
    assert sum("bits per byte" in str(warning.message) for warning in told) == 1
    assert set(found) == {"val/loss"}


def test_each_validation_begins_anew(tmp_path: Path) -> None:
    net, run = model(), trainer(tmp_path)
    first, second = (run.validate(net, datamodule=Pairs(), verbose=False)[0] for _ in range(2))
    assert first == second


def test_training_with_a_trial_validation_logs_losses(tmp_path: Path) -> None:
    run = trainer(tmp_path, num_sanity_val_steps=2, max_steps=4)
    run.fit(model(), datamodule=Pairs(label_fill=-100))
    assert {"train/loss", "val/loss", "val/bits_per_byte"} <= set(run.callback_metrics)


def test_a_checkpoint_brings_settings_and_weights_back(tmp_path: Path) -> None:
    net = model(label_smoothing=0.3, activation="relu")
    run = trainer(tmp_path)
    run.fit(net, datamodule=Pairs())
    run.save_checkpoint(tmp_path / "a.ckpt")
    loaded = TransformerTranslator.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert dict(loaded.hparams) == dict(net.hparams)
    assert (loaded.hparams["label_smoothing"], loaded.hparams["activation"]) == (0.3, "relu")
    assert torch.equal(loaded(batch_of([7])), net(batch_of([7])))


def test_training_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    nets = [model(), model(), model(learning_rate=9.0)]
    trainer(tmp_path, max_steps=6).fit(nets[0], datamodule=Pairs())
    half = trainer(tmp_path, max_steps=3)
    half.fit(nets[1], datamodule=Pairs())
    half.save_checkpoint(tmp_path / "half.ckpt")
    trainer(tmp_path, max_steps=6).fit(nets[2], datamodule=Pairs(), ckpt_path=tmp_path / "half.ckpt")
    for straight, resumed in zip(nets[0].parameters(), nets[2].parameters(), strict=True):
        assert torch.allclose(straight, resumed, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"d_model": 30}, "model.d_model must be even and a multiple of model.num_heads, but is 30 with 4 heads"),
        ({"d_model": 9, "num_heads": 3}, "model.d_model must be even"),
        (
            {"target_vocab_size": 13},
            "both vocabularies must have the same size, but the source has 12 tokens and the target 13",
        ),
        ({"warmup_steps": 0}, "model.warmup_steps is an integer of at least 1, but is 0"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        model(**options)


def test_a_sequence_beyond_the_model_is_refused_with_the_keys_to_change() -> None:
    net = model(max_positions=5)
    with pytest.raises(
        DataError, match=r"7 target positions, .* at most 5. Set model.max_positions=7 or more, or data"
    ):
        net.loss(batch_of([7]))
    with pytest.raises(DataError, match="6 source positions"):
        net.loss(batch_of([6]))


def test_data_with_sentences_beyond_the_model_is_refused_before_training(tmp_path: Path) -> None:
    data = Pairs()
    data.facts = lambda: {"max_source_tokens": None, "max_target_tokens": 17}  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"max_positions=16 tokens, but batches may have 17 \(datamodule.max_target"):
        trainer(tmp_path).fit(model(), datamodule=data)
    assert data.asked == []


def test_batches_of_another_form_are_refused() -> None:
    with pytest.raises(
        DataError, match=r"a batch lacks encoder_input_ids, .* and has input_ids, labels.*batch_format=mtx"
    ):
        model().loss({"input_ids": torch.zeros(1, 1), "labels": torch.zeros(1, 1)})
