"""What runs are measured on: the same pairs, unfiltered and whole, whatever the filter and the tokenizer."""

from pathlib import Path
from typing import Any

import pytest
import torch
from rank_runs import datamodule

from mtx.data.filter.default import DefaultFilter
from mtx.data.tokenize.bpe import BPETokenization
from mtx.errors import ConfigError, EmptyDatasetError
from mtx.training.datamodule import TranslationDataModule

HEAD = ("src", "tgt")
# Source and target take 3, 6, 2 and 40 bytes at most.
SET = [("one", "1"), ("", "zwölf"), ("x", "xx"), ("long", "l" * 40)]


def ready(root: Path, **options: Any) -> TranslationDataModule:
    path = root / "news.tsv"
    path.write_text("".join(f"{source}\t{target}\n" for source, target in [HEAD, *SET]))
    made = datamodule(root / "store", validation_sets={"news": path}, **options)
    made.prepare_data()
    made.setup("fit")
    return made


def served(made: TranslationDataModule) -> list[list[int]]:
    """The rows of each validation set."""
    loaders = made.val_dataloader()
    of_sets = loaders if isinstance(loaders, list) else [loaders]
    return [sorted(row for batch in loader for row in batch["row_ids"].tolist()) for loader in of_sets]


def test_another_filter_and_another_tokenizer_are_measured_on_the_same_pairs(tmp_path: Path) -> None:
    plain = ready(tmp_path, validation=10)
    other = ready(
        tmp_path,
        validation=10,
        filter=DefaultFilter(max_chars=8),  # which drops some of the training pairs
        tokenizer=BPETokenization(vocab_size=300),
        max_target_tokens=5,
    )
    assert plain.held_out() == other.held_out()
    assert served(plain) == served(other)
    assert plain.ids is not None
    assert other.ids is not None
    assert plain.ids.filtered["validation"] == other.ids.filtered["validation"]
    assert plain.ids.filtered["train"] != other.ids.filtered["train"]


def test_held_out_pairs_are_served_whole(tmp_path: Path) -> None:
    made = ready(tmp_path, max_source_tokens=4, max_target_tokens=5, too_long="drop")
    assert made.lengths("news").target.tolist() == [2, 7, 3, 41]  # bytes and BOS
    assert made.facts()["max_target_tokens"] == 41
    assert made.num_target_bytes(torch.tensor([3]), "news").tolist() == [40]


def test_pairs_with_too_many_bytes_are_left_out_and_counted(tmp_path: Path) -> None:
    made = ready(tmp_path, eval_max_bytes=5)
    assert served(made)[-1] == [0, 2]
    assert made.split_counts("news")["dropped_length"] == 2
    assert made.held_out()["left_out"] == 2
    assert made.facts()["max_target_tokens"] == made.batch_format.max_target_tokens
    assert ready(tmp_path, eval_max_bytes=6).split_counts("news")["dropped_length"] == 1
    assert ready(tmp_path, eval_max_bytes=None).split_counts("news")["dropped_length"] == 0


@pytest.mark.parametrize("change", [{"eval_max_bytes": 5}, {"validation": 9}])
def test_other_pairs_have_another_digest(tmp_path: Path, change: dict[str, Any]) -> None:
    assert ready(tmp_path).held_out()["digest"] != ready(tmp_path, **change).held_out()["digest"]


def test_a_limit_that_nothing_fits_is_told(tmp_path: Path) -> None:
    made = ready(tmp_path, eval_max_bytes=1)
    with pytest.raises(EmptyDatasetError, match=r"more UTF-8 bytes on a side than datamodule\.eval_max_bytes allows"):
        made.val_dataloader()


def test_a_limit_of_no_bytes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"datamodule\.eval_max_bytes is an integer of at least 1, or null, but is 0"):
        ready(tmp_path, eval_max_bytes=0)
