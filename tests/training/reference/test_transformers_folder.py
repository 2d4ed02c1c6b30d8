"""The reference model as a folder of transformers has the same logits, tokens and translations."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

sys.path.append(str(Path(__file__).parents[2]))

import tiny_checkpoint

from mtx.data.tokenize.sentencepiece_library import SentencePieceTokenizer
from mtx.errors import ConfigError
from mtx.experiment.export import export
from mtx.experiment.model_export import export_model
from mtx.training.checkpoint_translator import load_translator
from mtx.training.reference.transformers_folder import write_folder

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
TEXTS = ["train 3", "e\u0301 日本語", "train 12 and more"]
RUN: Any = SimpleNamespace(console=Console(quiet=True))


def test_a_folder_gives_the_same_logits_tokens_and_translations(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path, model, _ = tiny_checkpoint.shared()
    export_model(RUN, ckpt=str(path), to=str(tmp_path / "model"))
    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "model").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "model")
    translator = load_translator(path)
    rows = translator.encode(TEXTS)
    batch = translator.batch_of(rows, [[7, 8], [9], []])
    given = tokenizer(translator.normalised(TEXTS), padding=True, return_tensors="pt", return_token_type_ids=False)
    assert torch.equal(given["input_ids"], batch["encoder_input_ids"])
    with torch.inference_mode():
        found = loaded(**given, decoder_input_ids=batch["decoder_input_ids"]).logits
        expected = model(batch)
        real = batch["decoder_attn_mask"]
        torch.testing.assert_close(found[real], expected[real], rtol=1e-4, atol=1e-4)
        ids = loaded.generate(**given, num_beams=1, max_new_tokens=8)
    said = [text.strip() for text in tokenizer.batch_decode(ids, skip_special_tokens=True)]
    limited = [translator.state.target.decode(each).strip() for each in model.translate(batch, 8, beam=1)]
    assert said == limited
    with pytest.raises(ConfigError, match="overwrite=true"):
        export_model(RUN, ckpt=str(path), to=str(tmp_path / "model"))


def test_what_cannot_be_exported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, *_ = tiny_checkpoint.shared()
    with pytest.raises(
        ConfigError,
        match=r"needs a checkpoint and a folder\. Type: mtx task=export ckpt=best.ckpt to=FOLDER format=tra",
    ):
        export_model(RUN, ckpt=str(path), to=None)
    translator = load_translator(path)
    translator.generator.network.source_embedding = torch.nn.Embedding(2, 2)  # type: ignore[attr-defined]
    monkeypatch.setattr("mtx.training.checkpoint_translator.load_translator", lambda *_, **__: translator)
    with pytest.raises(ConfigError, match=r"a vocabulary for each side.*datamodule\.joint_vocabulary=true"):
        export_model(RUN, ckpt=str(path), to=str(tmp_path / "model"))
    assert list(tmp_path.iterdir()) == []


def test_a_sentencepiece_model_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    state: Any = SimpleNamespace(source=SentencePieceTokenizer.__new__(SentencePieceTokenizer))
    network: Any = None
    with pytest.raises(ConfigError, match=r"has a SentencePiece model.*Set format=onnx"):
        write_folder(network, state, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "transformers", "dataset": "a", "card": True}, "so dataset, card would do nothing"),
        ({"format": "transformers", "inputs": True, "columns": "drop"}, r"so task\.inputs, task\.columns would do"),
        ({"format": "moses", "dataset": "a"}, r"ckpt and task\.direction are for .*, but format is moses"),
    ],
)
def test_options_of_the_other_kind_of_export_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        export(RUN, ckpt="best.ckpt", to="model", **options)
