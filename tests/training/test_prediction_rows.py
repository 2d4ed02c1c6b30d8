"""Text to translate: every line once, in whatever batch and on whatever rank, and its prediction at its place."""

import gzip
import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import warm_process
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rank_runs import QUIET, Recorder, datamodule

from mtx.errors import EmptyDatasetError, MalformedPairError, SourceError
from mtx.infra.dataset.sources.prediction_text import SourceTextDownloader
from mtx.training.datamodule import TranslationDataModule

TEXT = "one\n\nthree is long\n<EOS> x\nfünf\x0b6 \u2028 x\r\n\nlast"
LINES = ["one", "", "three is long", "<EOS> x", "fünf\x0b6 \u2028 x", "", "last"]
SCRIPT = Path(__file__).parent / "predict_runs.py"


def ready(root: Path, text: str | bytes = TEXT, **options: Any) -> TranslationDataModule:
    path = root / "text.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    made = datamodule(root / "store", n=20, predict_from=path, **options)
    made.prepare_data()
    made.setup("predict")
    return made


def translated(made: TranslationDataModule) -> dict[int, str]:
    """The source of each row as its batch has it."""
    found: dict[int, str] = {}
    for batch in made.predict_dataloader():
        ids = batch["encoder_input_ids"] if "encoder_input_ids" in batch else batch["input_ids"]
        for row, source in zip(batch["row_ids"].tolist(), ids.tolist(), strict=True):
            assert row not in found
            found[row] = made.tokenizers.source.decode(source)
    return found


@pytest.mark.parametrize("names", ["mtx", "huggingface"])
def test_every_line_comes_once_with_its_number(tmp_path: Path, names: Any) -> None:
    assert translated(ready(tmp_path, batch_format=names, eval_max_tokens=32)) == dict(enumerate(LINES))


@pytest.mark.parametrize(
    ("names", "keys"),
    [
        ("mtx", {"encoder_input_ids", "encoder_attn_mask", "row_ids"}),
        ("huggingface", {"input_ids", "attention_mask", "row_ids"}),
    ],
)
def test_a_batch_has_the_sources_side_alone(tmp_path: Path, names: Any, keys: set[str]) -> None:
    batch = next(iter(ready(tmp_path, batch_format=names).predict_dataloader()))
    assert set(batch) == keys
    assert batch["row_ids"].dtype == torch.int64


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=9), min_size=1))
def test_any_text_comes_whole(tmp_path: Path, lines: list[str]) -> None:
    lines[0] = lines[0].lstrip("\ufeff") or "x"  # a byte order mark at the file's beginning is none of its text
    (tmp_path / "text.txt").write_text("".join(f"{line}\n" for line in lines), newline="")
    rows = [
        pair
        for batch in SourceTextDownloader(path=str(tmp_path / "text.txt")).batches("train", {})
        for pair in batch.to_pylist()
    ]
    assert rows == [{"src": line, "tgt": ""} for line in lines]


def test_lines_that_are_too_long_are_cut_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = ready(tmp_path, max_source_tokens=5)  # bytes, and EOS; training pairs that are too long are dropped
    assert made.split_counts("predict")["truncated"] == 3
    with caplog.at_level(logging.WARNING):
        found = translated(made)
    assert found == {row: line.encode()[:4].decode(errors="ignore") for row, line in enumerate(LINES)}
    assert "3 of 7 lines to translate are longer than datamodule.max_source_tokens=5 and are truncated" in caplog.text


def test_without_a_file_the_test_split_is_predicted(tmp_path: Path) -> None:
    made = datamodule(tmp_path / "store", n=20, test=6)
    made.prepare_data()
    made.setup("predict")
    batches = list(made.predict_dataloader())
    assert sorted(row for batch in batches for row in batch["row_ids"].tolist()) == list(range(6))
    assert "labels" in batches[0]
    neither = datamodule(tmp_path / "store", n=20)
    neither.prepare_data()
    assert neither.predict_dataloader() == []


def test_a_trainer_predicts_the_file_and_goes_on_to_train(tmp_path: Path) -> None:
    made = ready(tmp_path, validation=3)
    model = Recorder()
    served = pl.Trainer(**QUIET).predict(model, made)
    assert served is not None
    assert sorted(row for rows in served for row in rows.tolist()) == list(range(7))  # type: ignore[union-attr]
    pl.Trainer(**{**QUIET, "max_epochs": 1}).fit(model, made)
    assert sorted(row for event in model.events if event["on"] == "train" for row in event["rows"]) == list(range(20))


def test_the_same_text_is_encoded_once(tmp_path: Path) -> None:
    first = ready(tmp_path).ids
    again = ready(tmp_path).ids
    assert first is not None
    assert again is not None
    assert again.built == []
    assert again.beside == first.beside


def test_a_writer_puts_predictions_into_the_files_order_on_any_number_of_ranks(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, newline="")
    ran = warm_process.run(SCRIPT, tmp_path)
    assert ran.returncode == 0, ran.stderr[-3000:]
    for name, num_ranks in (("one", 1), ("two", 2)):
        assert (tmp_path / f"{name}.txt").read_bytes().decode() == "".join(f"{line}\n" for line in LINES)
        ranks = json.loads((tmp_path / f"{name}.json").read_text())
        assert len(ranks) == num_ranks
        assert sorted(row for rows in ranks for row in rows) == list(range(7))


def test_a_compressed_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "text.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode()))
    rows = [row["src"] for row in SourceTextDownloader(path=str(path)).download()]
    assert rows == LINES


def test_a_file_that_cannot_be_read_is_told_with_its_key(tmp_path: Path) -> None:
    made = datamodule(tmp_path / "store", n=20, predict_from=tmp_path / "gone.txt")
    with pytest.raises(SourceError, match=r"there is no file .*gone\.txt.*datamodule\.predict_from=FILE"):
        made.prepare_data()
    with pytest.raises(SourceError, match=r"text\.txt is empty: 0 bytes.*datamodule\.predict_from=FILE"):
        ready(tmp_path, "")
    with pytest.raises(SourceError, match=r"text\.txt has no lines\. .*datamodule\.predict_from=FILE"):
        ready(tmp_path, b"\xef\xbb\xbf")
    with pytest.raises(
        MalformedPairError, match=r"line 2: byte 3 of the line .*each line gets a prediction. Convert the file to"
    ):
        ready(tmp_path, b"fine\nna\xefve\n")


def test_fewer_lines_than_ranks_are_told(tmp_path: Path) -> None:
    made = ready(tmp_path, "alone\n")
    ranks = {"num_replicas": 2, "rank": 0}
    made.trainer = SimpleNamespace(overfit_batches=0.0, distributed_sampler_kwargs=ranks)  # type: ignore[assignment]
    with pytest.raises(EmptyDatasetError, match=r"the predict split has 1 usable pairs for 2 ranks"):
        made.predict_dataloader()
