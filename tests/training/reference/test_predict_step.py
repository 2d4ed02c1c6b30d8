"""`trainer.predict` with the reference model, as docs/training.md says."""

import sys
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from mtx.errors import DataError
from mtx.training.callbacks import TranslationWriter
from mtx.training.reference.transformer import TransformerTranslator

sys.path.append(str(Path(__file__).parents[1]))

import rank_runs  # beside the tests of mtx.training

NAMES = ("source_vocab_size", "target_vocab_size", "pad_id", "bos_id", "eos_id")
SMALL = {"d_model": 8, "num_heads": 1, "num_encoder_layers": 1, "num_decoder_layers": 1, "dim_feedforward": 8}


def predicted(dm: Any, *callbacks: pl.Callback) -> list[dict[str, Any]]:
    dm.prepare_data()
    dm.setup("predict")
    facts = dm.facts()
    pl.seed_everything(0, verbose=False)
    model = TransformerTranslator(**{name: facts[name] for name in NAMES}, **SMALL)
    options = {key: value for key, value in rank_runs.QUIET.items() if key != "max_epochs"}
    found: Any = pl.Trainer(**options, callbacks=list(callbacks)).predict(model, datamodule=dm)
    return list(found)


@pytest.mark.parametrize("lines", [["The lamp is green.", "The cup is blue."], ["a"], ["", "b", "c" * 90, "日本"]])
def test_each_line_is_translated_with_its_number(tmp_path: Path, lines: list[str]) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    writer = TranslationWriter(tmp_path / "text.de")
    batches = predicted(rank_runs.datamodule(tmp_path / "store", n=20, predict_from=str(path)), writer)
    rows = [row for batch in batches for row in batch["row_ids"].tolist()]
    assert sorted(rows) == list(range(len(lines)))
    for batch in batches:
        assert len(batch["texts"]) == len(batch["token_ids"]) == len(batch["row_ids"])
        assert all(isinstance(text, str) for text in batch["texts"])
        assert all(len(ids) <= 1.5 * 100 + 10 for ids in batch["token_ids"])
    by_row = {
        row: text for batch in batches for row, text in zip(batch["row_ids"].tolist(), batch["texts"], strict=True)
    }
    written = (tmp_path / "text.de").read_bytes().decode().split("\n")
    assert written == [*(by_row[row].replace("\r", " ").replace("\n", " ") for row in range(len(lines))), ""]


def test_the_test_split_is_translated_without_a_file(tmp_path: Path) -> None:
    batches = predicted(rank_runs.datamodule(tmp_path / "store", n=20, test=5))
    assert sorted(row for batch in batches for row in batch["row_ids"].tolist()) == list(range(5))


def test_the_writer_names_what_a_model_must_return() -> None:
    writer = TranslationWriter("text.de")
    told = (
        r"needs row_ids and texts from predict_step, but TransformerTranslator returned list. Return a dict with both"
    )
    with pytest.raises(DataError, match=told):
        writer.on_predict_batch_end(None, TransformerTranslator.__new__(TransformerTranslator), [], None, 0)
