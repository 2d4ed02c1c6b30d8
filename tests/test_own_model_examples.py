"""The examples of a user's own transformers models: their held-out figures, translations and checkpoints."""

import importlib.util
import inspect
import math
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import mtx
from mtx.batches.collate_causal import model_inputs
from mtx.errors import ConfigError
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.experiment.missing_figures import missing_figures
from mtx.records.report_record import Report
from mtx.training.causal_leakage import check_rows_keep_pairs_apart
from mtx.training.model_batch_formats import check_model_format
from mtx.training.prepared_data import PreparedData

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY = ["downloader.n=60", "tokenizer=byte", "datamodule.validation=6", "sampler.max_tokens=2048"]
TINY += ["datamodule.max_source_tokens=120", "datamodule.max_target_tokens=120"]

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("own_models")
    dm = mtx.compose_datamodule([*TINY, f"storage.root={folder}"])
    dm.prepare_data()
    dm.setup("fit")
    return dm


def trained(model: pl.LightningModule, data: Any) -> tuple[pl.Trainer, dict[str, Any]]:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = pl.Trainer(max_steps=1, num_sanity_val_steps=0, enable_model_summary=False, **quiet)
    trainer.fit(model, datamodule=data)
    (found,) = trainer.validate(model, datamodule=data, verbose=False)
    return trainer, dict(found)


def facts(data: Any, *names: str) -> dict[str, Any]:
    special = ("target_vocab_size", "pad_id", "bos_id", "eos_id", "joint_vocabulary")
    return {name: data.facts()[name] for name in (*special, *names)}


def check(model: Any, data: Any, found: dict[str, Any], nats_of: Any) -> None:
    """Check the logged figure against the losses of transformers, pair by pair, and the other methods."""
    model.eval()
    nats, num_bytes = 0.0, 0
    for batch in data.val_dataloader():
        with torch.inference_mode():
            expected = nats_of(batch)
        assert model.target_nats(batch).sum().item() == pytest.approx(expected, rel=1e-4)
        nats += expected
        num_bytes += int(data.num_target_bytes(batch["row_ids"], "validation").sum())
        ids = model.translate(batch, 4, beam=2)
        assert len(ids) == len(batch["row_ids"])
        assert all(len(each) <= 4 and not {0, 1, 2} & set(each) for each in ids)
    assert found["val/bits_per_byte"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-4)
    assert missing_figures(model, Report.of({"bits_per_byte": 1.0})) == []


def test_marian(data: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    marian = example("marian").Marian
    lengths = ("source_vocab_size", "max_source_tokens", "max_target_tokens")
    model = marian(**facts(data, *lengths), d_model=16, num_layers=1)
    trainer, found = trained(model, data)

    def nats_of(batch: dict[str, Any]) -> float:
        labels = batch["labels"].masked_fill(~batch["decoder_attn_mask"], -100)
        names = {"input_ids": "encoder_input_ids", "attention_mask": "encoder_attn_mask"}
        given = {name: batch[of] for name, of in names.items()}
        loss = model.model(**given, decoder_input_ids=batch["decoder_input_ids"], labels=labels).loss
        return float(loss) * int((labels != -100).sum())

    check(model, data, found, nats_of)
    path = tmp_path / "own.ckpt"
    trainer.save_checkpoint(path)
    translator = mtx.load_translator(path, model=marian)
    assert len(translator.translate(["Open the file.", "", "日本"], beam=1)) == 3


def test_decoder_only_with_lora(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    rows = ["datamodule.batch_format=causal", "sampler=packed_rows", "sampler.row_tokens=256", "sampler.num_rows=2"]
    data: Any = mtx.compose_datamodule([*TINY[:3], *TINY[4:], *rows, f"storage.root={tmp_path}"])
    data.prepare_data()
    data.setup("fit")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        special = {name: value for name, value in facts(data).items() if name != "joint_vocabulary"}
        model = example("lora").DecoderOnly(**special, d_model=16, num_layers=1, rank=2)
    check_model_format(model, "causal")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    _, found = trained(model, data)
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    trainable = ("lora_", "embed_tokens", "lm_head")  # the base stays frozen
    assert all(any(part in name for part in trainable) for name in changed)

    def nats_of(batch: dict[str, Any]) -> float:
        total = 0.0
        for row in range(len(batch["row_ids"])):  # each pair alone, without padding
            real = batch["segment_ids"] == row + 1
            labels = batch["labels"][real][1:]
            logits = model.model(input_ids=batch["input_ids"][real][None]).logits[0, :-1]
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return total

    check(model, data, found, nats_of)
    packed = next(iter(data.train_dataloader()))
    assert len(packed["input_ids"]) < len(packed["row_ids"])
    with torch.inference_mode():
        apart = nats_of(packed)
    assert model.target_nats(packed).sum().item() == pytest.approx(apart, rel=1e-5), "no pair sees another"

    def nats_with_a_cache(batch: dict[str, Any]) -> torch.Tensor:
        return pair_likelihood(batch, model.model(**{**model_inputs(batch), "use_cache": True}).logits).nats

    model.target_nats = nats_with_a_cache
    with pytest.raises(ConfigError, match=r"DecoderOnly mixes the pairs of a row"):
        check_rows_keep_pairs_apart(model, data.batch_format, data.facts()["target_vocab_size"], 2)


def test_packed_transformers(data: Any, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    own = [override for override in TINY if not override.startswith("sampler")]
    own += ["datamodule.batch_format=huggingface_packed", "sampler=random_tokens"]
    packed = mtx.compose_datamodule([*own, f"storage.root={data.storage.root}"])
    packed.prepare_data()
    lengths = {name: data.facts()[name] for name in ("max_source_tokens", "max_target_tokens")}
    given = {name: value for name, value in facts(data).items() if name != "joint_vocabulary"}
    kind_of = example("packed_transformers").Packed
    model = kind_of(**given, **lengths, d_model=16)
    trainer, found = trained(model, packed)

    def nats_of(batch: dict[str, Any]) -> float:
        total = 0.0
        for first, last, begin, end in zip(
            *(batch["encoder_offsets"][part] for part in (slice(-1), slice(1, None))),
            *(batch["decoder_offsets"][part] for part in (slice(-1), slice(1, None))),
            strict=True,
        ):  # each pair alone, as transformers takes it
            source, inputs = batch["input_ids"][:, first:last], batch["decoder_input_ids"][:, begin:end]
            logits = model.model(input_ids=source, decoder_input_ids=inputs).logits[0]
            labels = batch["labels"][0, begin:end]
            total += float(torch.nn.functional.cross_entropy(logits, labels, reduction="sum"))
        return total

    check(model, packed, found, nats_of)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    translator = mtx.load_translator(tmp_path / "own.ckpt", model=kind_of)
    assert len(translator.translate(["Open the file.", "", "日本"], beam=1)) == 3


def test_each_value_that_a_model_can_get_is_documented() -> None:
    names = re.findall(r'"(\w+)": ', inspect.getsource(PreparedData.facts))
    assert {"source_pad_id", "max_target_tokens"} < set(names)
    root = EXAMPLES.parent
    for path in ("docs/howto/own_model.md", "conf/model/own.yaml"):
        text = (root / path).read_text()
        assert [name for name in names if name not in text] == [], path
