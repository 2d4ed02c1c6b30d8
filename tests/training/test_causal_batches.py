"""Decoder-only batches in a run: the ledger, an exact resume, prompts from columns and languages, and refusals."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import pytorch_lightning as pl
import torch
from test_datamodule import Numbers, datamodule, ready

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.packed_rows import PackedRowsPlanner
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.plan.random_tokens import RandomTokensPlanner
from mtx.batches.plan.static_shapes import StaticShapesPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.data.normalise import DefaultNormaliser
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.byte import ByteTokenization
from mtx.data.tokenize.wordpiece import WordPieceTokenization
from mtx.errors import ConfigError
from mtx.experiment.contrastive_accuracy import _crossed_batch
from mtx.training.callbacks import TokenMeanGradients, TrainingBudget
from mtx.training.callbacks.data_costs import _Window
from mtx.training.causal_format_conflicts import check_causal
from mtx.training.causal_prompts import language_prompts
from mtx.training.datamodule import TranslationDataModule
from mtx.training.lightning_resume import check_same_data
from mtx.training.tunable_batch_size import num_units

PACKED: dict[str, Any] = {"batch_format": "causal", "sampler": PackedRowsPlanner(row_tokens=80, num_rows=2)}
TRAINER: Any = SimpleNamespace(world_size=2, accumulate_grad_batches=1)


@dataclass(frozen=True, kw_only=True)
class Domains(Numbers):
    """Numbers with a column `domain`, which some pairs lack."""

    def batches(self, split: str, counts: dict[str, int]) -> Iterator[pa.RecordBatch]:
        for batch in super().batches(split, counts):
            values = [None if row % 3 == 0 else "ab"[row % 2] for row in range(batch.num_rows)]
            yield batch.append_column("domain", pa.array(values, pa.large_string()))


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> TranslationDataModule:
    return ready(tmp_path_factory.mktemp("packed"), **PACKED)


def decoded(made: TranslationDataModule, batch: dict[str, Any]) -> list[str]:
    """Return the text of each sequence of a batch of byte tokens, with its special tokens."""
    ids, segments = batch["input_ids"].flatten(), batch["segment_ids"].flatten()
    decode = made.tokenizers.target.decode
    return [decode(ids[segments == i + 1].tolist(), skip_special_tokens=False) for i in range(len(batch["row_ids"]))]


def test_every_pair_is_in_one_row_of_every_epoch(packed: TranslationDataModule) -> None:
    loader = packed.train_dataloader()
    epochs = []
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert {tuple(batch["input_ids"].shape) for batch in batches} == {(2, 80)}
        epochs.append([batch["row_ids"].tolist() for batch in batches])
        assert sorted(row for rows in epochs[-1] for row in rows) == list(range(90))
    assert epochs[0] != epochs[1]
    assert loader.batch_sampler.plan().ledger()["batched"] == 90
    rows = packed._repo.get(packed.ids.filtered["train"]).data  # type: ignore[union-attr]
    (first,) = decoded(packed, batches[0])[:1]
    pair: Any = rows[int(batches[0]["row_ids"][0])]
    assert first == f"<BOS>{pair['src']}<EOS>{pair['tgt']}<EOS>"


def test_an_epoch_resumes_at_each_step_and_refuses_another_template(
    packed: TranslationDataModule, tmp_path: Path
) -> None:
    whole = [batch["row_ids"].tolist() for batch in ready(tmp_path, **PACKED).train_dataloader()]
    for step in range(1, len(whole)):
        loader = packed._loader("train", packed.sampler)
        passed = iter(loader)
        for _ in range(step):
            next(passed)
        again = packed._loader("train", packed.sampler)
        again.load_state_dict(loader.state_dict())
        assert [batch["row_ids"].tolist() for batch in again] == whole[step:]
    other = ready(tmp_path, **PACKED, template="{src} = {tgt}")
    described = [each._prepared_data.batch_identity(each.sampler) for each in (packed, other)]
    with pytest.raises(ConfigError, match=r"datamodule\.template was '\{src\}\{eos\}\{tgt\}' and is '\{src\} = \{tgt"):
        check_same_data(*described)


def test_costs_budgets_and_gradients_count_the_tokens_of_rows(packed: TranslationDataModule) -> None:
    batch = next(iter(packed.train_dataloader()))
    real = int((batch["segment_ids"] > 0).sum())
    window = _Window()
    window.resume()
    window.add(batch)
    assert (window._slots, window._real) == (160, real)
    assert TrainingBudget(real_tokens=5)._counted(TRAINER, batch)[0] == real
    means = TokenMeanGradients()
    means.on_train_batch_start(TRAINER, pl.LightningModule(), batch, 0)
    assert means._batch_tokens == (batch["labels"] != -100).sum()
    facts = packed.facts()
    assert (facts["max_source_tokens"], facts["max_target_tokens"]) == (256, 256)


def test_evaluation_has_one_pair_a_row_and_the_bytes_of_targets(packed: TranslationDataModule) -> None:
    batch = next(iter(packed.val_dataloader()))
    assert len(batch["input_ids"]) == len(batch["row_ids"]) == 10
    answers = (batch["labels"] != -100).sum(dim=1) - 1  # without EOS; a token of this tokenizer is a byte
    assert packed.num_target_bytes(batch["row_ids"], "validation").tolist() == answers.tolist()


def test_samplers_by_tokens_give_one_row_without_padding_and_others_one_pair_a_row(tmp_path: Path) -> None:
    made = ready(tmp_path, batch_format="causal", sampler=RandomTokensPlanner(real_tokens=200))
    assert made.batch_format.length_multiple == NO_PADDING
    batch = next(iter(made.train_dataloader()))
    assert batch["input_ids"].shape[0] == 1
    assert 150 < batch["input_ids"].shape[1] <= 200
    assert next(iter(made.val_dataloader()))["input_ids"].shape[0] == 10
    padded = ready(tmp_path, batch_format="causal", sampler=TokenBudgetPlanner(max_tokens=200))
    for batch in padded.train_dataloader():
        assert batch["input_ids"].numel() <= 200, "the budget counts prompt and target together"
        assert len(batch["input_ids"]) == len(batch["row_ids"])


def test_columns_and_languages_fill_the_template(tmp_path: Path) -> None:
    template = "[{domain}] {source_language}-{target_language}: {src} = {tgt}"
    made = ready(tmp_path, **PACKED, downloader=Domains(validation=2), template=template)
    heads = {text[5:17] for batch in made.train_dataloader() for text in decoded(made, batch)}
    assert heads == {"[a] en-de: n", "[b] en-de: n", "[] en-de: n "}
    held_out = decoded(made, next(iter(made.val_dataloader())))
    assert sorted(text[5:20] for text in held_out) == ["[] en-de: valid", "[b] en-de: vali"]


def test_prefixes_of_sources_are_part_of_the_prompt(tmp_path: Path) -> None:
    made = ready(tmp_path, **PACKED, normalise=DefaultNormaliser(source_prefix=">>de<< "))
    assert decoded(made, next(iter(made.train_dataloader())))[0].startswith("<BOS>>>de<< n")


def test_texts_to_translate_are_prompts(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("one\n\nthree 3\n")
    made = ready(tmp_path, **PACKED, template="{target_language}: {src} = {tgt}", predict_from=tmp_path / "in.txt")
    (batch,) = list(made.predict_dataloader())
    assert set(batch) == {"input_ids", "attention_mask", "row_ids"}
    assert batch["attention_mask"][:, -1].all()
    texts = {
        int(row): made.tokenizers.target.decode(ids[mask.bool()].tolist())
        for row, ids, mask in zip(batch["row_ids"], batch["input_ids"], batch["attention_mask"], strict=True)
    }
    assert texts == {0: "de: one = ", 1: "de:  = ", 2: "de: three 3 = "}
    one = language_prompts(made.batch_format, made.tokenizers.target, ("en", "de"))
    assert made.tokenizers.target.decode(one.before[0].tolist()) == "de: "


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sampler": PackedRowsPlanner(row_tokens=9)},
            r"sampler\.row_tokens=9 is smaller than 85 of 90 training pairs",
        ),
        (
            {"template": "{src} {domian}{tgt}"},
            r"field \{domian\}, but the train pairs have no such column\. Choose one",
        ),
        (
            {"template": "Translate: {src} = {tgt}", "too_long": "truncate", "max_source_tokens": 15},
            r"must leave room .* but it is 15, and the text has up to 15 tokens\. Set datamodule\.max_source_tokens=16",
        ),
        ({"template": "{src}  {tgt}", "tokenizer": WordPieceTokenization(vocab_size=60)}, r"only white space or empty"),
        (
            {"template": "{src} ⟹ {tgt}", "tokenizer": WordPieceTokenization(vocab_size=60)},
            r"has the text '⟹', for which .* with \"tokenizer\.symbols=\['⟹'\]\"",
        ),
    ],
    ids=["row", "column", "no room", "nothing", "unknown"],
)
def test_prepared_data_that_does_not_fit_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ready(tmp_path, **{**PACKED, **options})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_format": "mtx"}, r"sampler=packed_rows puts several pairs .* but it is mtx\. Set datamodule\.batch"),
        (
            {"batch_format": "flat", "sampler": RandomTokensPlanner(), "template": "{src} {tgt}"},
            r"datamodule\.template is the prompt of decoder-only batches, but datamodule\.batch_format is flat",
        ),
        ({"tokenizer": ByteTokenization(joint=False)}, r"needs one vocabulary, but tokenizer\.joint is false"),
        ({"sampler": BucketPlanner(by="target")}, r"whose sum counts as source\. Set sampler\.by=max"),
        ({"sampler": StaticShapesPlanner()}, r"Choose sampler=packed_rows, whose batches all have one shape"),
        ({"label_pad_id": 0}, r"but datamodule\.label_pad_id is 0\. Set datamodule\.label_pad_id=null"),
        ({"template": "{src}"}, r"\{tgt\} occurs 0 times"),
    ],
    ids=["format", "template", "joint", "by", "static_shapes", "label_pad_id", "no target"],
)
def test_options_that_do_not_go_together_are_refused_before_any_work(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        datamodule(tmp_path, **{**PACKED, **options})


def test_subword_sampling_and_weights_keep_the_number_of_batches(tmp_path: Path) -> None:
    tokenizer = BPETokenization(vocab_size=300, dropout=0.4)
    made = ready(tmp_path, **PACKED, downloader=Domains(), tokenizer=tokenizer, template="{domain}{eos}{src}{eos}{tgt}")
    loader = made.train_dataloader()
    epochs = [list(loader) for _ in range(2)]
    assert [len(batches) for batches in epochs] == [len(loader)] * 2
    for batches in epochs:
        assert {tuple(batch["input_ids"].shape) for batch in batches} == {(2, 80)}
        assert sorted(row for batch in batches for row in batch["row_ids"].tolist()) == list(range(90))
    weights = {"a": 3, "b": 1, "(none)": 1}
    weighted = ready(tmp_path, **PACKED, downloader=Domains(), group_by="domain", group_weights=weights)
    served = [row for batch in weighted.train_dataloader() for row in batch["row_ids"].tolist()]
    assert len(set(served)) < len(served), "pairs of the heavier group repeat"
    assert weighted.train_dataloader().batch_sampler.plan().ledger()["num_pairs"] == 90


def test_texts_without_columns_cannot_fill_a_template_with_one(packed: TranslationDataModule) -> None:
    layout = BatchFormat(names="causal", template="{domain}: {src} = {tgt}")
    with pytest.raises(ConfigError, match=r"has the column \{domain\}, which texts to translate lack"):
        language_prompts(layout, packed.tokenizers.target, ("en", "de"))


def test_pairs_above_a_maximum_count_the_prompt(tmp_path: Path) -> None:
    made = ready(tmp_path, **PACKED, max_source_tokens=6, template="{src} = {tgt}")
    counts = made.split_counts("train")  # BOS, "n 1", " = " are 7 bytes and more
    assert counts["dropped_length"] == counts["dropped_length_source"]
    assert np.all(made._prepared_data.split("train").side_lengths.source <= 6)


def test_predictions_of_the_test_split_begin_with_prompts(tmp_path: Path) -> None:
    made = ready(tmp_path, **PACKED, test=5)
    (batch,) = list(made.predict_dataloader())
    assert set(batch) == {"input_ids", "attention_mask", "row_ids"}
    assert "labels" in next(iter(made.test_dataloader()))


def test_a_target_is_scored_with_the_source_that_is_asked(packed: TranslationDataModule) -> None:
    loader: Any = packed.val_dataloader()
    own, crossed = loader.dataset[np.array([0, 1])], _crossed_batch(loader, np.array([0, 0]), np.array([0, 1]))
    of_own, of_crossed = decoded(packed, own), decoded(packed, crossed)
    assert of_crossed == [of_own[0], "<EOS>".join([of_own[0].split("<EOS>")[0], *of_own[1].split("<EOS>")[1:]])]
    assert crossed["row_ids"].tolist() == [0, 1]


def test_two_ranks_share_the_rows_of_an_epoch(packed: TranslationDataModule, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []
    for rank in range(2):
        monkeypatch.setattr(packed, "_rank", lambda rank=rank: (rank, 2))
        batches = list(packed._loader("train", packed.sampler))
        assert {tuple(batch["input_ids"].shape) for batch in batches} == {(2, 80)}
        served.append([row for batch in batches for row in batch["row_ids"].tolist()])
    assert not set(served[0]) & set(served[1])
    assert len(served[0]) + len(served[1]) > 60


def test_truncated_pairs_have_their_planned_lengths_in_packed_rows(tmp_path: Path) -> None:
    limits = {"too_long": "truncate", "max_source_tokens": 5, "max_target_tokens": 9, "template": "{src} = {tgt}"}
    made = ready(tmp_path, **PACKED, **limits)
    for batch in made.train_dataloader():
        sizes = torch.bincount(batch["segment_ids"].flatten())[1:]
        assert sizes.tolist() == made.lengths("train").source[batch["row_ids"].numpy()].tolist()
    assert made.split_counts("train")["truncated"] == 90


def test_a_field_that_is_none_of_the_typed_columns_is_refused_before_any_work() -> None:
    check_causal("causal", TokenBudgetPlanner(), ByteTokenization(), "{domain}{src}{eos}{tgt}", None, ("domain",))
    with pytest.raises(
        ConfigError, match=r"field \{domian\}, but downloader\.columns is \['domain'\]\. Choose one of dom"
    ):
        check_causal("causal", TokenBudgetPlanner(), ByteTokenization(), "{domian}{src}{eos}{tgt}", None, ("domain",))


def test_a_batch_of_all_pairs_has_all_packed_rows(packed: TranslationDataModule) -> None:
    split = packed._prepared_data.split("train")
    units = num_units(packed.sampler, split.lengths, split.excluded)
    assert units == len(split.draft(PackedRowsPlanner(row_tokens=80, num_rows=1)))
    assert units < 90


def test_source_eos_and_label_pad_id_have_no_effect() -> None:
    one, other = (BatchFormat(names="causal", source_eos=eos, label_pad_id=0) for eos in (True, False))
    assert one.order_options() == other.order_options()
    assert one.label_padding == -100
