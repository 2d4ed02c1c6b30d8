"""Loaders that are handed to a Trainer, without the data module: all pairs, other epochs, and resume."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
from rank_runs import QUIET, Recorder, StopAt, datamodule
from torch.utils.data import DataLoader

from mtx.training.loader import PlanLoader

NUM_BATCHES = 13  # 50 pairs in batches of 4


def loaders(store: Path, **options: Any) -> tuple[PlanLoader, PlanLoader]:
    made = datamodule(store, n=50, validation=9, eval_max_tokens=48, **options)
    made.prepare_data()
    made.setup("fit")
    held_out = made.val_dataloader()
    assert isinstance(held_out, PlanLoader)
    return made.train_dataloader(), held_out


def rows(model: Recorder) -> list[list[int]]:
    return [event["rows"] for event in model.events if event["on"] == "train"]


def fit(*given: Any, ckpt: Path | None = None, stop: pl.Callback | None = None, **options: Any) -> list[list[int]]:
    model = Recorder()
    trainer = pl.Trainer(**{**QUIET, "callbacks": [] if stop is None else [stop], **options})
    with contextlib.suppress(InterruptedError):
        trainer.fit(model, *given, ckpt_path=ckpt)
    return rows(model)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def whole(store: Path) -> list[list[int]]:
    return fit(*loaders(store))


def test_each_epoch_has_each_pair_once_in_another_order(whole: list[list[int]]) -> None:
    epochs = [whole[:NUM_BATCHES], whole[NUM_BATCHES:]]
    assert [sorted(row for some in epoch for row in some) for epoch in epochs] == [list(range(50))] * 2
    assert epochs[0] != epochs[1]


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks")
@pytest.mark.parametrize("batch", [1, 5, NUM_BATCHES, NUM_BATCHES + 4])
def test_they_resume_with_the_next_batch(store: Path, tmp_path: Path, whole: list[list[int]], batch: int) -> None:
    path = tmp_path / "stopped.ckpt"
    first = fit(*loaders(store), stop=StopAt(str(path), batch=batch))
    assert first + fit(*loaders(store), ckpt=path) == whole


def test_a_dataloader_of_the_loaders_parts_serves_the_same(store: Path, whole: list[list[int]]) -> None:
    train, held_out = loaders(store)
    assert fit(DataLoader(train.dataset, sampler=train.batch_sampler, batch_size=None), held_out) == whole
