"""transformers' Trainer with mtx's loader: all pairs once an epoch, other epochs, and the resume within an epoch."""

from pathlib import Path
from typing import Any

import pytest
from rank_runs import datamodule

from mtx.errors import ConfigError
from mtx.training.datamodule import TranslationDataModule

pytest.importorskip("accelerate")
transformers = pytest.importorskip("transformers")

NUM_BATCHES = 13  # 50 pairs in batches of 4
# Warnings of transformers about its own use of torch.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(300)]


def train(dm: TranslationDataModule, steps: int, folder: Path, *, resume: bool = False, **options: Any) -> list[Any]:
    """Train, and return the labels of each batch."""
    dm.prepare_data()
    dm.setup("fit")
    facts, seen = dm.facts(), []

    class Trainer(transformers.Seq2SeqTrainer):  # type: ignore[misc, name-defined]
        def get_train_dataloader(self) -> Any:
            return dm.train_dataloader()

        def compute_loss(self, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
            seen.append(inputs["labels"].tolist())
            return super().compute_loss(model, inputs, *rest, **more)

    names = {"layers": 1, "ffn_dim": 8, "attention_heads": 1}
    sizes = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in names.items()}
    config = transformers.MarianConfig(
        vocab_size=facts["target_vocab_size"],
        d_model=8,
        pad_token_id=facts["pad_id"],
        eos_token_id=facts["eos_id"],
        decoder_start_token_id=facts["bos_id"],
        **sizes,
    )
    arguments = transformers.Seq2SeqTrainingArguments(
        str(folder), max_steps=steps, save_steps=5, report_to=[], use_cpu=True, disable_tqdm=True, **options
    )
    trainer = Trainer(transformers.MarianMTModel(config), arguments)
    trainer.train(resume_from_checkpoint=str(folder / "checkpoint-5") if resume else None)
    return seen


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def made(store: Path, **options: Any) -> TranslationDataModule:
    return datamodule(store, n=50, batch_format="huggingface", **options)


@pytest.mark.parametrize("accumulated", [1, 3])
def test_it_serves_each_epoch_and_resumes_with_the_next_batch(store: Path, tmp_path: Path, accumulated: int) -> None:
    options = {"gradient_accumulation_steps": accumulated}
    steps = 16 if accumulated == 1 else 8
    whole = train(made(store), steps, tmp_path / "whole", **options)
    expected = made(store)
    expected.prepare_data()
    expected.setup("fit")
    loader = expected.train_dataloader()
    served = [batch["labels"].tolist() for _ in range(2) for batch in loader]
    assert whole == served[: len(whole)]
    assert len(whole) > NUM_BATCHES
    first = train(made(store), 5, tmp_path / "parts", **options)
    rest = train(made(store), steps, tmp_path / "parts", resume=True, **options)
    assert first + rest[len(first) + len(rest) - len(whole) :] == whole
    assert len(first) + len(rest) == len(whole)


def test_a_resume_with_subword_sampling_is_refused(store: Path) -> None:
    from accelerate import skip_first_batches

    from mtx.data.tokenize.bpe import BPETokenization

    sampled = made(store, tokenizer=BPETokenization(vocab_size=300, dropout=0.5))
    sampled.prepare_data()
    sampled.setup("fit")
    with pytest.raises(ConfigError, match=r"each epoch has other token ids.*Iterate over the loader itself"):
        next(iter(skip_first_batches(sampled.train_dataloader(), 2)))
