"""Flat batches in a run: what is counted, who is asked whether it takes them, and where an epoch resumes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from test_datamodule import datamodule, ready

from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate import Batch, collate_rows
from mtx.batches.plan.planner import NO_PADDING, Lengths, batch_shapes, padding_ratios
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.rank_assignment import assigned_batches
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.schema import UNPADDED_FORMATS, flat_token_counts, longest_source, num_pairs
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.errors import ConfigError
from mtx.training.callbacks import TokenMeanGradients, TrainingBudget
from mtx.training.callbacks.data_costs import _Window
from mtx.training.lightning_resume import check_same_data
from mtx.training.loader import EpochBatches
from mtx.training.model_batch_formats import check_model_format
from mtx.training.rank_balance import padded_tokens, rank_report
from mtx.training.reference.transformer import TransformerTranslator

PAIRS = EncodedPairs(TokenRows.of([[10, 11], [20], []]), TokenRows.of([[50], [60, 61, 62], [70]]))
TRAINER: Any = SimpleNamespace(world_size=2, accumulate_grad_batches=1)


def flat_batch(names: Any) -> Batch:
    return collate_rows(PAIRS, np.arange(3), BatchFormat(names=names))


@pytest.mark.parametrize("names", UNPADDED_FORMATS)
def test_all_tokens_of_a_flat_batch_are_real(names: str) -> None:
    batch = flat_batch(names)  # 3 + 2 + 1 source tokens, 2 + 4 + 2 target tokens
    window = _Window()
    window.resume()
    window.add(batch)
    costs = window.costs(SimpleNamespace(world_size=1), 1, 0.0)  # type: ignore[arg-type]
    assert costs["data/padding"] == 0
    assert costs["data/tokens_per_s"] > 0
    assert (window._slots, window._real) == (14, 14)
    assert TrainingBudget(real_tokens=5)._counted(TRAINER, batch)[0] == 14
    means = TokenMeanGradients()
    means.on_train_batch_start(TRAINER, pl.LightningModule(), batch, 0)
    assert means._batch_tokens == 8
    assert (num_pairs(batch), longest_source(batch)) == (3, 3)
    assert longest_source(collate_rows(PAIRS, np.arange(3), BatchFormat())) == 3
    assert num_pairs(collate_rows(PAIRS, np.arange(3), BatchFormat(names="huggingface"))) == 3


def test_a_model_that_does_not_take_flat_batches_is_named_with_its_formats() -> None:
    class Undeclared(pl.LightningModule):
        pass

    class Packed(pl.LightningModule):
        batch_formats = ("huggingface",)

    for batch_format in ("mtx", "huggingface"):
        check_model_format(Undeclared(), batch_format)
    check_model_format(SimpleNamespace(batch_formats=TransformerTranslator.batch_formats), "flat")
    check_model_format(None, "flat")
    check_model_format(SimpleNamespace(batch_formats="flat"), "flat")
    with pytest.raises(
        ConfigError,
        match=r"the model Undeclared does not take batches with datamodule\.batch_format=flat; the formats that it "
        r"takes are mtx, huggingface\. Set datamodule\.batch_format=mtx\. If Undeclared does take such batches, add",
    ):
        check_model_format(Undeclared(), "flat")
    with pytest.raises(ConfigError, match=r"the model Packed .*=flat; the formats that it takes are huggingface\. Set"):
        check_model_format(Packed(), "flat")


def test_a_trainer_with_another_model_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Other(pl.LightningModule):
        pass

    made = datamodule(tmp_path, batch_format="flat")
    made.trainer = SimpleNamespace(lightning_module=Other(), world_size=1)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"the model Other does not take batches with datamodule\.batch_format=flat"):
        made.setup("fit")


def test_shapes_padding_and_balance_count_real_tokens() -> None:
    lengths = Lengths.of([2, 3, 5, 1, 4], [4, 4, 1, 2, 6])
    plan = RandomPlanner(batch_size=2).plan(lengths, seed=0, epoch=0)
    shapes = batch_shapes(plan, lengths, length_multiple=NO_PADDING)
    assert shapes[:, 0].tolist() == [1, 1, 1]
    assert shapes[:, 1:].sum(axis=0).tolist() == [15, 17]
    assert padding_ratios(plan, lengths, length_multiple=NO_PADDING)["padding_ratio"] == 0
    assert padded_tokens(assigned_batches(plan, 1), lengths, length_multiple=NO_PADDING).sum() == 32


def test_ranks_get_equal_real_tokens_in_each_step() -> None:
    random = np.random.default_rng(0)
    lengths = Lengths.of(random.integers(1, 60, 3000), random.integers(1, 60, 3000))
    draft = RandomTokensPlanner(real_tokens=1024).draft(lengths)
    report = rank_report(EpochBatches(draft, lengths=lengths, is_flat=True), 4, lengths, NO_PADDING)
    assert report["imbalance"] < 1.03, "3 of 45 steps split batches, because 177 batches are no multiple of 4"
    assert report["left_out"] == 0


@pytest.mark.parametrize("batch_format", UNPADDED_FORMATS)
def test_an_epoch_of_flat_batches_resumes_at_the_next_batch(batch_format: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"batch_format": batch_format, "sampler": RandomTokensPlanner(real_tokens=100)}
    made = ready(tmp_path, **options)
    assert made.batch_format.length_multiple == NO_PADDING
    loader = made.train_dataloader()
    passed = iter(loader)
    first = next(passed)
    assert sum(flat_token_counts(first)) <= 100
    state = loader.state_dict()
    rest = [batch["row_ids"].tolist() for batch in passed]
    assert rest
    again = ready(tmp_path, **options).train_dataloader()
    again.load_state_dict(state)
    assert [batch["row_ids"].tolist() for batch in again] == rest
    padded = ready(tmp_path, sampler=options["sampler"])
    described = [each._prepared_data.batch_identity(each.sampler) for each in (made, padded)]
    with pytest.raises(ConfigError, match=rf"datamodule\.batch_format was '{batch_format}' and is None\. Set these"):
        check_same_data(*described)
    held_out = next(iter(made.val_dataloader()))
    assert held_out["decoder_offsets"].dtype == torch.int32


def test_a_cap_below_the_longest_pair_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"sampler\.real_tokens=3 is smaller than [\d,]+ of [\d,]+ training pairs; the"
    ):
        ready(tmp_path, batch_format="flat", sampler=RandomTokensPlanner(real_tokens=3))


@pytest.mark.parametrize("batch_format", UNPADDED_FORMATS)
def test_fixed_shapes_and_flat_batches_do_not_go_together(batch_format: str, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=rf"static_shapes pads .*batch_format={batch_format} have .*Choose sampler=random_tokens"
    ):
        datamodule(tmp_path, batch_format=batch_format, sampler=StaticShapesPlanner())
