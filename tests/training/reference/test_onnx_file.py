"""What is asked of torch's exporter to ONNX; `scripts/try_tools` compares logits of a real file."""

import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentencepiece
import torch

sys.path.append(str(Path(__file__).parents[2]))

import tiny_checkpoint

from mtx.data.tokenize.sentencepiece_library import SentencePieceTokenizer
from mtx.data.tokenize.stored_tokenizer import tokenizer_from_str
from mtx.data.tokenize.vocabulary_lookup import LookupTables, VocabularyTokenizer
from mtx.errors import ConfigError
from mtx.experiment.export import export
from mtx.training.checkpoint_translator import load_translator
from mtx.training.reference import onnx_file

pytestmark = pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning")
RUN: Any = SimpleNamespace(console=SimpleNamespace(print=lambda *_, **__: None))


def test_the_export_has_the_network_its_tokenizer_and_what_a_program_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tiny_checkpoint.shared()[0]
    calls: list[tuple[Any, ...]] = []

    def exporter(model: torch.nn.Module, inputs: tuple[torch.Tensor, ...], file: Path, **options: Any) -> None:
        free = tuple(dict.fromkeys(axes, torch.export.Dim.DYNAMIC) for axes in options["dynamic_shapes"])
        exported = torch.export.export(model, inputs, dynamic_shapes=free, strict=False)
        calls.append((exported, options))
        file.write_bytes(b"onnx")

    monkeypatch.setattr(torch.onnx, "export", exporter)
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: object())
    export(RUN, ckpt=str(path), to=str(tmp_path / "model"), format="onnx")
    ((exported, options),) = calls
    translator = load_translator(path)
    network: Any = translator.generator.network  # type: ignore[attr-defined]
    assert options["input_names"] == ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids")
    for pairs, source, target in ((2, 3, 4), (5, 9, 6)):
        mask = torch.arange(source) < torch.arange(1, pairs + 1)[:, None]
        inputs = torch.ones(pairs, source, dtype=torch.long), mask, torch.ones(pairs, target, dtype=torch.long)
        torch.testing.assert_close(exported.module()(*inputs), network.logits(network(*inputs)))
    described = json.loads((tmp_path / "model/mtx-export.json").read_text())
    assert described["format"] == "mtx-onnx"
    assert described["target_ids"] == translator.state.batch_format.target._asdict()
    tokenizer = tokenizer_from_str((tmp_path / "model/tokenizer.json").read_text())
    assert tokenizer.get_vocab() == translator.state.target.get_vocab()


def test_a_tokenizer_is_named_by_its_format(tmp_path: Path) -> None:
    looked_up = VocabularyTokenizer(LookupTables({"ka": 1}, {"<unk>": 0}, "<unk>", splits_at_any_space=True))
    onnx_file._write_tokenizer(looked_up, tmp_path / "source")  # type: ignore[arg-type]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c"] * 9), model_writer=model, minloglevel=2, vocab_size=9, hard_vocab_limit=False
    )
    pieces = SentencePieceTokenizer(model.getvalue(), ["<pad>"])
    onnx_file._write_tokenizer(pieces, tmp_path / "target")  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.mtx.json", "target.model"]
    assert (tmp_path / "target.model").read_bytes() == model.getvalue()


def test_without_its_packages_the_message_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "find_spec", lambda name: None)
    path = str(tiny_checkpoint.shared()[0])
    with pytest.raises(
        ConfigError, match=r'format=onnx needs the package onnx\. Install it: pip install "mtx\[onnx\]"'
    ):
        export(RUN, ckpt=path, to=str(tmp_path / "model"), format="onnx")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ConfigError, match=r"Type: mtx task=export ckpt=best.ckpt to=FOLDER format=onnx"):
        export(RUN, to="model", format="onnx")
