"""The interface that users know from before mtx: import paths, signatures, and the documented session."""

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader, Dataset

from mtx.app.command import compose
from mtx.components.check_and_build import build
from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.data.tokenize.bpe import BPETokenization
from mtx.errors import AlreadyStoredError
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.oal import ObjectAccessLayer
from mtx.infra.dataset.download import HFDatasetDownloader
from mtx.infra.dataset.load import BucketBatchSampler, PTDataset, collate_fn

PAIRS = [{"src": "a cat", "tgt": "猫"}, {"src": "two dogs", "tgt": "犬二匹"}]


@pytest.mark.parametrize(
    ("known", "names"),
    [
        (ObjectAccessLayer, ["location"]),
        (FileAccessLayer, ["location"]),
        (HFDatasetDownloader, ["dataset", "language", "split", "n", "shuffle", "buffer_size", "seed"]),
        (PTDataset, ["data"]),
        (BucketBatchSampler, ["bucket_ids", "batch_size", "len_key", "drop_last"]),
        (DatasetRepo, ["fal", "oal"]),
        (DatasetRepo.get, ["dataset_id"]),
        (DatasetRepo.show, ["stage", "split"]),
        (BPETokenization, ["filepath"]),
        (collate_fn, ["tok"]),
    ],
)
def test_parameters_keep_their_names(known: Any, names: list[str]) -> None:
    assert set(names) <= set(inspect.signature(known).parameters)


def test_methods_keep_their_names() -> None:
    for known, names in {
        ObjectAccessLayer: ("create", "read", "delete", "exists", "get_all_names"),
        FileAccessLayer: ("create", "read", "delete", "exists"),
        HFDatasetDownloader: ("download",),
        DatasetRepo: ("add", "get", "show", "remove", "exists"),
        BPETokenization: ("train", "save", "load", "tokenizer"),
    }.items():
        assert all(hasattr(known, name) for name in names), known
    assert issubclass(PTDataset, Dataset)


def test_create_refuses_an_existing_key(tmp_path: Path) -> None:
    oal = ObjectAccessLayer(location=tmp_path)
    oal.create("a", {"n": 1})
    with pytest.raises(AlreadyStoredError):
        oal.create("a", {"n": 2})
    assert oal.read("a") == {"n": 1}


def test_a_repository_by_hand(tmp_path: Path) -> None:
    repo = DatasetRepo(fal=FileAccessLayer(location=tmp_path), oal=ObjectAccessLayer(location=tmp_path))
    dataset = TranslationDataset(name="mine", stage="filtered", split="train", languages=("en", "ja"), data=PAIRS)
    repo.add(dataset)
    assert repo.exists(dataset.id)
    assert list(repo.get(dataset_id=dataset.id).data) == PAIRS  # type: ignore[arg-type]
    assert list(repo.show()["id"]) == [dataset.id]
    repo.remove(dataset.id)
    assert not repo.exists(dataset.id)


def test_a_dataset_cannot_be_changed() -> None:
    dataset = TranslationDataset(name="mine", stage="raw", split="train", languages=("en", "ja"), data=PAIRS)
    with pytest.raises(AttributeError):
        dataset.name = "yours"  # type: ignore[misc]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")  # as documented, on any machine
@pytest.mark.parametrize("storage", ["sqlite_arrow", "shelve_jsonl"])
def test_the_documented_session_on_pairs_of_the_default_corpus(storage: str, tmp_path: Path) -> None:
    from mtx import compose_datamodule

    # The session trains a tokenizer of its own, so bytes spare the time of training and using the default one.
    overrides = [f"storage={storage}", f"storage.root={tmp_path / 'store'}", "tokenizer=byte", "downloader.n=5000"]
    compose_datamodule(overrides).prepare_data()
    repo = build(compose(overrides), "storage").repo
    filepath = tmp_path / "tokenizer.json"
    trained = BPETokenization(filepath=filepath, vocab_size=1000)
    trained.train(repo.get(dataset_id=repo.show(stage="filtered", split="validation")["id"].values[0]))
    trained.save()

    train_dataset_id = repo.show(stage="filtered", split="train")["id"].values[0]
    train_dataset = repo.get(dataset_id=train_dataset_id)
    tokenizer_service = BPETokenization(filepath=filepath)
    tokenizer_service.load()
    src_lengths = [len(item["src"].split()) for item in train_dataset.data]
    bucket_sampler = BucketBatchSampler(bucket_ids=src_lengths, batch_size=32, len_key=src_lengths, drop_last=True)
    loader = DataLoader(
        PTDataset(data=train_dataset.data),
        batch_sampler=bucket_sampler,
        collate_fn=partial(collate_fn, tok=tokenizer_service.tokenizer),
        num_workers=4,
    )
    before = tokenizer_service.tokenizer.to_str()
    widths, reals = [], []
    for number, batch in enumerate(loader):
        assert batch["encoder_input_ids"].shape[0] == 32
        widths.append(batch["encoder_input_ids"].shape[1])
        reals.append(batch["encoder_attn_mask"].float().mean().item())
        if number == 100:
            break
    assert len(set(widths)) > 10, "batches are padded to their own longest row"
    collate = partial(collate_fn, tok=tokenizer_service.tokenizer)
    in_order = [collate(train_dataset.data[start : start + 32]) for start in range(0, 3200, 32)]
    unbucketed = sum(batch["encoder_attn_mask"].float().mean().item() for batch in in_order) / len(in_order)
    assert 1 - sum(reals) / len(reals) < 0.6 * (1 - unbucketed), "bucketing leaves less padding"
    assert sorted(widths) != widths, "the order does not run from short to long"
    assert tokenizer_service.tokenizer.to_str() == before, "collating leaves the tokenizer alone"
    assert len(loader) == len(bucket_sampler)
