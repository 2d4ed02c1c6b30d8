"""The held-out figure of a user's own model, from its logits."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from mtx.errors import DataError
from mtx.evaluation import Translator, bits_per_byte_of, log_held_out
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.evaluation.likelihood import PairScorer

LOGITS = torch.zeros(2, 3, 4)  # four equally likely tokens: 2 bits a label
LABELS = torch.tensor([[1, 2, 3], [1, -100, -100]])
FLAT = {"labels": torch.tensor([1, 2, 3, 1]), "decoder_offsets": torch.tensor([0, 3, 4], dtype=torch.int32)}


class Module:
    """A stand-in for a LightningModule that keeps what it logs."""

    device = torch.device("cpu")

    def __init__(self, val_names: tuple[str, ...] = ("validation",), fn: str = "validate", data: Any = None) -> None:
        self.trainer = SimpleNamespace(state=SimpleNamespace(fn=fn), datamodule=data or self)
        self.val_names = val_names
        self.logged: list[tuple[str, float, int]] = []

    def num_target_bytes(self, rows: Tensor, split: str) -> Tensor:
        return 2 + rows  # rows 0 and 1: five bytes

    def log(self, name: str, value: Tensor, *, batch_size: int, **options: Any) -> None:
        assert options["add_dataloader_idx"] is options["on_step"] is False
        self.logged.append((name, float(value), batch_size))


def batch(**others: Tensor) -> dict[str, Tensor]:
    mask = torch.tensor([[True, True, True], [True, False, False]])
    labels = torch.tensor([[1, 2, 3], [1, 0, 0]])
    return {"labels": labels, "decoder_attn_mask": mask, "row_ids": torch.tensor([0, 1]), **others}


def test_bits_per_byte_count_real_labels_alone() -> None:
    assert bits_per_byte_of(LOGITS, LABELS, 16) == pytest.approx(4 * 2 / 16)
    assert bits_per_byte_of(LOGITS.half(), LABELS, torch.tensor([10, 6])) == pytest.approx(0.5)
    assert bits_per_byte_of(LOGITS, LABELS.clamp_min(0), 16, mask=LABELS >= 0) == pytest.approx(0.5)
    certain = torch.zeros(1, 1, 4)
    certain[..., 2] = 50
    assert bits_per_byte_of(certain, torch.tensor([[2]]), 3) == pytest.approx(0)


@pytest.mark.parametrize(
    ("logits", "num_bytes", "told"),
    [
        (LOGITS, 0, "need at least one byte of target text, but num_bytes is 0"),
        (LOGITS[:, :2], 16, r"but are: logits \[2, 2, 4\], labels \[2, 3\]"),
    ],
)
def test_what_does_not_fit_is_told(logits: Tensor, num_bytes: int, told: str) -> None:
    with pytest.raises(DataError, match=told):
        bits_per_byte_of(logits, LABELS, num_bytes)


def test_each_pair_has_its_nats_in_every_format() -> None:
    expected = [3 * math.log(4), math.log(4)]
    for found in (
        pair_likelihood(batch(), LOGITS),
        pair_likelihood(FLAT, torch.zeros(4, 4)),
        pair_likelihood({}, LOGITS, LABELS),
        pair_likelihood({"labels": LABELS}, LOGITS),
    ):
        assert found.nats.tolist() == pytest.approx(expected)
        assert found.num_labels.tolist() == [3, 1]
    with pytest.raises(DataError, match="a batch has no labels, but row_ids"):
        pair_likelihood({"row_ids": FLAT["labels"]}, LOGITS)


def test_logged_figures_are_weighted_by_bytes_and_by_labels() -> None:
    module = Module()
    log_held_out(module, batch(), LOGITS, 0)
    log_held_out(module, batch(), LOGITS, 1)
    assert module.logged[:2] == [
        ("val/bits_per_byte", pytest.approx(8 / 5), 5),
        ("val/loss", pytest.approx(math.log(4)), 4),
    ]
    assert isinstance(module, PairScorer)
    table = module.pair_likelihoods["validation"].as_tensor()  # type: ignore[attr-defined]
    assert table[0].tolist() == [0, 1, 0, 1]
    assert table[2].tolist() == [2, 3, 2, 3]
    log_held_out(module, batch(), LOGITS, 0)  # the next validation
    assert module.pair_likelihoods["validation"].as_tensor().shape[1] == 2  # type: ignore[attr-defined]


def test_each_validation_set_has_its_names() -> None:
    module = Module(("validation", "news"))
    log_held_out(module, batch(), LOGITS, 0, 0)
    log_held_out(module, batch(), LOGITS, 0, 1)
    names = [name for name, *_ in module.logged]
    assert names.count("val/bits_per_byte") == names.count("val/news/bits_per_byte") == 1
    assert sorted(module.pair_likelihoods) == ["news", "validation"]  # type: ignore[attr-defined]
    tested = Module(fn="test")
    log_held_out(tested, batch(), LOGITS, 0)
    assert [name for name, *_ in tested.logged] == ["test/bits_per_byte", "test/loss"]


def test_a_batch_without_rows_and_another_data_module_are_told() -> None:
    with pytest.raises(DataError, match=r"Set datamodule\.batch_format=mtx and .*, or set huggingface_packed$"):
        log_held_out(Module(), {"labels": LABELS}, LOGITS, 0)
    with pytest.raises(DataError, match=r"which object lacks\. Train with mtx's data module"):
        log_held_out(Module(data=object()), batch(), LOGITS, 0)


def test_the_protocol_of_generation_is_a_method() -> None:
    class Own:
        def translate(self, batch: Any, max_tokens: int, *, beam: int = 1) -> list[list[int]]:
            return []

    assert isinstance(Own(), Translator)
    assert not isinstance(object(), Translator)


@pytest.mark.parametrize(
    ("labels", "num_bytes", "told"),
    [
        (LABELS.float(), 16, r"labels one of ids \(int64\), but labels are of torch.float32"),
        (LABELS.tolist(), 16, "but labels are a list"),
        (LABELS.clamp_min(4), 16, r"below the size of the vocabulary, 4, or -100, but are from 4 to 4"),
        (LABELS.clamp_min(-1), 16, r"but are from -1 to 3. Pass mask="),
        (LABELS, None, "num_bytes is a number, or int64"),
        (LABELS, "16", "num_bytes is a number, or int64"),
    ],
)
def test_values_of_other_types_are_told(labels: Any, num_bytes: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        bits_per_byte_of(LOGITS, labels, num_bytes)


def test_labels_that_do_not_fit_the_pairs_are_told() -> None:
    with pytest.raises(DataError, match=r"labels have the shape \[B, L\], but are \[4\]"):
        pair_likelihood({}, torch.zeros(4, 4), torch.tensor([1, 2, 3, 1]))
    with pytest.raises(DataError, match="a batch has 3 real labels, but its target_offsets give 4"):
        pair_likelihood({**FLAT, "labels": FLAT["labels"][:3]}, torch.zeros(3, 4))
    assert bits_per_byte_of(LOGITS, LABELS.int(), 16) == pytest.approx(0.5)
