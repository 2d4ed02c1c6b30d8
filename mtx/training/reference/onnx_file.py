"""Write the network of the reference model as an ONNX file, with the tokenizers of its checkpoint.

`torch.onnx.export` writes it in one call. The file computes the scores of all target positions from the two inputs; it
has no beam search and no cache, so a program that generates calls it once for each token.
"""

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from mtx.data.tokenize.sentencepiece_library import SentencePieceTokenizer
from mtx.data.tokenize.tokenizer_adapter import TokenizerAdapter
from mtx.errors import ConfigError
from mtx.training.reference.network import Transformer
from mtx.training.translation_state import TranslationState

ONNX_FILE = "model.onnx"
INPUTS = ("encoder_input_ids", "encoder_attn_mask", "decoder_input_ids")
OUTPUT = "logits"
INSTALL = 'pip install "mtx[onnx]"'
AXES = ({0: "pairs", 1: "source"}, {0: "pairs", 1: "source"}, {0: "pairs", 1: "target"})


class LogitsNetwork(nn.Module):
    """The network with its output layer: ids to scores.

    Args:
        network: the network of the reference model.
    """

    def __init__(self, network: Transformer) -> None:
        super().__init__()
        self.network = network

    def forward(self, encoder_input_ids: Tensor, encoder_attn_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """Return the scores of each target position, float32 [B, T, V].

        Args:
            encoder_input_ids: source ids, int64 [B, S].
            encoder_attn_mask: True at real tokens, bool [B, S].
            decoder_input_ids: BOS and target ids, int64 [B, T].
        """
        found: Tensor = self.network.logits(self.network(encoder_input_ids, encoder_attn_mask, decoder_input_ids))
        return found


def write_onnx(network: Transformer, state: TranslationState, folder: Path) -> None:
    """Write `model.onnx`, and the tokenizers of both sides, into an existing folder.

    Raises ConfigError if the packages of the extra are not installed.
    """
    if missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]:
        raise ConfigError(f"format=onnx needs the package {missing[0]}. Install it: {INSTALL}")
    ids = torch.zeros(2, 3, dtype=torch.int64)
    example = (ids, torch.ones(2, 3, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.int64))
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)  # they name optional packages, and what they rename
        try:
            options: dict[str, Any] = {"dynamic_shapes": AXES, "input_names": INPUTS, "output_names": [OUTPUT]}
            torch.onnx.export(
                LogitsNetwork(network).eval(), example, folder / ONNX_FILE, dynamo=True, verbose=False, **options
            )
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
    sides = (
        {"tokenizer": state.source}
        if state.source is state.target
        else {"source": state.source, "target": state.target}
    )
    for name, tokenizer in sides.items():
        _write_tokenizer(tokenizer, folder / name)


def _write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a `.model` of SentencePiece, a `.mtx.json` of fairseq or Marian, or a `.json` of `tokenizers`."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        path.with_suffix(".model").write_bytes(tokenizer.content)
        return
    suffix = ".mtx.json" if isinstance(tokenizer, TokenizerAdapter) else ".json"
    path.with_suffix(suffix).write_text(tokenizer.to_str(), encoding="utf-8")
