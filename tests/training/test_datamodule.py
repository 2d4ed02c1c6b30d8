"""The data module with and without a Trainer, on a source of the tests' own and byte ids."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from mtx.batches.plan.random import RandomPlanner
from mtx.data.filter.default import DefaultFilter
from mtx.data.filter.none import NoFilter
from mtx.data.store import Store
from mtx.data.tokenize.byte import ByteTokenization
from mtx.errors import ConfigError, DataError, EmptyDatasetError
from mtx.infra.dal.arrow import ArrowFileLayer
from mtx.infra.dal.sqlite import SQLiteObjectLayer
from mtx.infra.dataset.download import PAIR_SCHEMA, Downloader, SourceInfo
from mtx.training.datamodule import TranslationDataModule


@dataclass(frozen=True, kw_only=True)
class Numbers(Downloader):
    """Pairs (one, ein), (two, zwei), … made from numbers, with own validation pairs where asked."""

    n: int = 100
    validation: int = 0

    def info(self) -> SourceInfo:
        splits = ("train", "validation") if self.validation else ("train",)
        identity = {"n": self.n, "validation": self.validation}
        return SourceInfo("numbers", ("en", "de"), "1", identity, splits)

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        rows = range(self.n) if split == "train" else range(self.validation)
        pairs = [{"src": f"{split if split != 'train' else 'n'} {i}", "tgt": "z" * (i % 23) + str(i)} for i in rows]
        yield from pa.Table.from_pylist(pairs, schema=PAIR_SCHEMA).to_batches()


def datamodule(root: Path, **options: Any) -> TranslationDataModule:
    parts: dict[str, Any] = {
        "storage": Store(root=root, objects=SQLiteObjectLayer, files=ArrowFileLayer),
        "downloader": Numbers(),
        "filter": NoFilter(),
        "tokenizer": ByteTokenization(),
        "sampler": RandomPlanner(batch_size=8),
        "validation": 10,
        "test": None,
    }
    return TranslationDataModule(**{**parts, **options})


def ready(root: Path, **options: Any) -> TranslationDataModule:
    made = datamodule(root, **options)
    made.prepare_data()
    made.setup("fit")
    return made


class Recorder(pl.LightningModule):
    """Remembers the rows it is served; learns one number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.train_rows: list[list[int]] = []
        self.val_rows: list[int] = []

    def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
        self.train_rows.append(batch["row_ids"].tolist())
        return self.weight * batch["labels"].float().mean()

    def validation_step(self, batch: dict[str, Tensor], index: int) -> None:
        self.val_rows += batch["row_ids"].tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def trainer(**options: Any) -> pl.Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    return pl.Trainer(**{**quiet, "enable_checkpointing": False, "num_sanity_val_steps": 0, **options})


def test_serves_batches_without_a_trainer(tmp_path: Path) -> None:
    made = ready(tmp_path)
    batches = list(made.train_dataloader())
    assert len(batches) == len(made.train_dataloader())
    rows = sorted(row for batch in batches for row in batch["row_ids"].tolist())
    assert rows == list(range(90))
    first = batches[0]
    row = int(first["row_ids"][0])
    ids = first["labels"][0][first["decoder_attn_mask"][0]].tolist()
    text = made.storage.repo.get(made.ids.filtered["train"]).data[row]["tgt"]  # type: ignore[union-attr,index]
    assert made.tokenizers.target.decode(ids) == text


def test_a_loop_that_asks_for_a_loader_in_each_epoch_gets_the_next_epoch(tmp_path: Path) -> None:
    made = ready(tmp_path)
    asked_twice = [[batch["row_ids"].tolist() for batch in made.train_dataloader()] for _ in range(2)]
    loader = ready(tmp_path).train_dataloader()
    assert asked_twice == [[batch["row_ids"].tolist() for batch in loader] for _ in range(2)]
    assert asked_twice[0] != asked_twice[1]


def test_a_trainer_serves_every_pair_once_an_epoch_in_another_order_each(tmp_path: Path) -> None:
    model = Recorder()
    trainer(max_epochs=2).fit(model, datamodule(tmp_path))
    assert len(model.train_rows) == 24
    epochs = [[row for rows in model.train_rows[i : i + 12] for row in rows] for i in (0, 12)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(90))
    assert epochs[0] != epochs[1]
    assert sorted(model.val_rows) == sorted([*range(10), *range(10)])


class StopAt(pl.Callback):
    """Saves a checkpoint behind a step, and ends the run as a crash would."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)
            raise InterruptedError


@pytest.mark.parametrize("step", [1, 5, 12, 13])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_that_crashed_goes_on_with_the_next_batch(tmp_path: Path, step: int, num_workers: int) -> None:
    whole = Recorder()
    trainer(max_epochs=2).fit(whole, datamodule(tmp_path / "store"))
    first = Recorder()
    crash = StopAt(step, tmp_path / "mid.ckpt")
    with pytest.raises(InterruptedError):
        trainer(max_epochs=2, callbacks=[crash]).fit(first, datamodule(tmp_path / "store", num_workers=num_workers))
    second = Recorder()
    again = datamodule(tmp_path / "store", num_workers=num_workers)
    trainer(max_epochs=2).fit(second, again, ckpt_path=tmp_path / "mid.ckpt")
    assert first.train_rows + second.train_rows == whole.train_rows
    assert torch.equal(second.weight, whole.weight)


def test_workers_change_nothing(tmp_path: Path) -> None:
    alone, helped = (ready(tmp_path, num_workers=n).train_dataloader() for n in (0, 2))
    for mine, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_pairs_above_a_maximum_are_dropped_and_counted(tmp_path: Path) -> None:
    made = ready(tmp_path, max_target_tokens=12)
    counts = made.split_counts("train")
    loader = made.train_dataloader()
    ledger = loader.batch_sampler.plan().ledger()
    assert 0 < counts["dropped_length"] == ledger["dropped_length"]
    assert ledger["batched"] + ledger["dropped_length"] == 90
    assert max(batch["labels"].shape[1] for batch in loader) == 12


def test_pairs_above_a_maximum_are_truncated_and_counted(tmp_path: Path) -> None:
    made = ready(tmp_path, max_target_tokens=12, too_long="truncate")
    counts = made.split_counts("train")
    loader = made.train_dataloader()
    assert counts["dropped_length"] == 0 < counts["truncated"]
    assert sum(len(batch["row_ids"]) for batch in loader) == 90
    batch = max(loader, key=lambda batch: batch["labels"].shape[1])
    assert batch["labels"].shape[1] == 12


def test_the_bytes_of_targets_are_those_of_the_text(tmp_path: Path) -> None:
    made = ready(tmp_path)
    pairs = made.storage.repo.get(made.ids.filtered["validation"]).data  # type: ignore[union-attr]
    for batch in made.val_dataloader():
        expected = [len(pairs[row]["tgt"].encode()) for row in batch["row_ids"].tolist()]  # type: ignore[index]
        assert made.num_target_bytes(batch["row_ids"], "validation").tolist() == expected


def test_a_source_with_its_own_validation_split_uses_it(tmp_path: Path) -> None:
    made = ready(tmp_path, downloader=Numbers(validation=7), validation=10)
    assert made.split_counts("train")["num_pairs"] == 100
    assert made.split_counts("validation")["num_pairs"] == 7


def test_facts_are_what_a_model_needs(tmp_path: Path) -> None:
    facts = ready(tmp_path).facts()
    assert facts["source_vocab_size"] == facts["target_vocab_size"] == 260
    assert (facts["pad_id"], facts["bos_id"], facts["eos_id"]) == (0, 1, 2)
    assert facts["joint_vocabulary"] is True


def test_huggingface_batches_come_through_the_loader(tmp_path: Path) -> None:
    batch = next(iter(ready(tmp_path, batch_format="huggingface").train_dataloader()))
    assert set(batch) == {"input_ids", "attention_mask", "decoder_input_ids", "decoder_attention_mask", "labels"}


def test_nothing_goes_without_preparation(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not prepared: call prepare_data\(\) and setup\(\)"):
        datamodule(tmp_path).setup("fit")
    with pytest.raises(DataError, match=r"not prepared: call prepare_data\(\) and setup\(\)"):
        datamodule(tmp_path).train_dataloader()
    with pytest.raises(DataError, match="there is no test split; there are: train, validation"):
        ready(tmp_path).lengths("test")


def test_a_filter_that_keeps_nothing_is_told_with_its_reasons(tmp_path: Path) -> None:
    with pytest.raises(EmptyDatasetError, match=r"numbers has no training pair left; dropped: 100 too_short"):
        datamodule(tmp_path, validation=None, filter=DefaultFilter(min_chars=500, max_chars=1000)).prepare_data()


def test_an_empty_validation_split_is_told_when_it_is_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = datamodule(tmp_path, validation=1e-9)
    made.prepare_data()
    assert "the validation split of numbers is empty" in caplog.text
    made.setup("fit")
    with pytest.raises(EmptyDatasetError, match=r"the validation split is empty\. Hold out more pairs with datamodule"):
        made.val_dataloader()


def test_maxima_that_nothing_fits_are_told(tmp_path: Path) -> None:
    made = ready(tmp_path, max_source_tokens=2)
    with pytest.raises(EmptyDatasetError, match=r"all 90 pairs of the train split .* datamodule.max_source_tokens=2"):
        made.train_dataloader()


def test_a_sampler_that_makes_no_batch_is_told(tmp_path: Path) -> None:
    made = ready(tmp_path, sampler=RandomPlanner(batch_size=500, drop_last=True))
    with pytest.raises(
        EmptyDatasetError, match=r"no batch from the 90 pairs of the train split.*sampler\.drop_last=false"
    ):
        made.train_dataloader()


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ({"too_long": "cut"}, "datamodule.too_long is one of drop, truncate, but is 'cut'"),
        ({"num_workers": -1}, "datamodule.num_workers is an integer of at least 0, but is -1"),
        ({"max_source_tokens": 1}, "datamodule.max_source_tokens"),
        ({"validation": 1.5}, "datamodule.validation"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(tmp_path: Path, option: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        datamodule(tmp_path, **option)
