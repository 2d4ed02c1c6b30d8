"""Contrastive accuracy and slices of prepared data: the right pairs are asked, and each has its own source."""

from typing import Any

import pytest
import torch

import mtx
from mtx.batches.collate_flat import padded_sources
from mtx.experiment.contrastive_accuracy import contrastive_accuracy
from mtx.experiment.fit_opening_and_summary import result_text
from mtx.experiment.held_out_slicings import _training_sources, held_out_slicings, slicings_or_none
from mtx.progress.literal_console import PlainConsole
from mtx.records.report_record import Report

SMALL = ["downloader.n=600", "tokenizer.vocab_size=400", "datamodule.validation=30", "datamodule.test=null"]


@pytest.fixture(scope="module")
def data() -> Any:
    made = mtx.compose_datamodule(SMALL)
    made.prepare_data()
    made.setup("fit")
    return made


class Knowing(torch.nn.Module):
    """Finds the right target, since it knows the row of each source by its tokens; or the wrong one."""

    def __init__(self, data: Any, sign: int) -> None:
        super().__init__()
        self.sign, self.rows = sign, {}
        for row in range(30):
            batch = data.val_dataloader().dataset[torch.tensor([row]).numpy()]
            self.rows[self.source(batch, 0)] = row

    def source(self, batch: Any, number: int) -> tuple[int, ...]:
        ids, mask = padded_sources(batch, 0)
        return tuple(ids[number][mask[number]].tolist())

    def target_nats(self, batch: Any) -> torch.Tensor:
        rows = torch.tensor([self.rows[self.source(batch, i)] for i in range(len(batch["row_ids"]))])
        return self.sign * (rows != batch["row_ids"]).double()


class Failing(Knowing):
    def target_nats(self, batch: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory [x].\nTried to allocate 9 GiB")


class Unshaped(Knowing):
    def target_nats(self, batch: Any) -> torch.Tensor:
        return super().target_nats(batch).sum()


class FakeRun:
    def __init__(self, datamodule: Any) -> None:
        self.datamodule = datamodule
        self.console = PlainConsole()


@pytest.mark.parametrize(("sign", "right"), [(1, 1.0), (-1, 0.0)])
def test_a_model_that_knows_the_pairs_is_always_right(data: Any, sign: int, right: float) -> None:
    found, is_first = contrastive_accuracy(FakeRun(data), Knowing(data, sign), torch.device("cpu"), 12)  # type: ignore[arg-type]
    assert found is not None
    assert is_first is not None
    assert (found.num_pairs, found.num_candidates, found.accuracy) == (12, 10, right)
    assert sorted(set(is_first.tolist())) == [-1, int(right)]
    assert sum(is_first >= 0) == 12


def test_packed_batches_get_the_sources_of_other_pairs(data: Any) -> None:
    packed = mtx.compose_datamodule([*SMALL, "datamodule.batch_format=huggingface_packed", "sampler=random_tokens"])
    packed.prepare_data()
    packed.setup("fit")
    found, _ = contrastive_accuracy(FakeRun(packed), Knowing(packed, 1), torch.device("cpu"), 12)  # type: ignore[arg-type]
    assert found is not None
    assert found.accuracy == 1


@pytest.mark.parametrize(
    ("model", "told"),
    [(Failing, "OutOfMemoryError: CUDA out of memory [x]\n"), (Unshaped, "target_nats must return one")],
)
def test_a_failure_of_the_model_is_told_in_one_line(
    data: Any, model: type[Knowing], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = FakeRun(data)
    assert contrastive_accuracy(run, model(data, 1), torch.device("cpu"), 12) == (None, None)  # type: ignore[arg-type]
    assert f"contrastive accuracy was not measured: {told}" in capsys.readouterr().out


def test_nothing_is_measured_without_a_model_that_scores_targets_or_without_pairs(data: Any) -> None:
    assert contrastive_accuracy(FakeRun(data), torch.nn.Linear(1, 1), torch.device("cpu"), 5) == (None, None)  # type: ignore[arg-type]
    assert contrastive_accuracy(FakeRun(data), Knowing(data, 1), torch.device("cpu"), 0) == (None, None)  # type: ignore[arg-type]


def test_each_held_out_pair_is_in_one_slice(data: Any) -> None:
    found = {slicing.name: slicing for slicing in held_out_slicings(data)}
    assert {"source_length", "rarest_word"} <= set(found)
    assert all(len(slicing.of_pair) == 30 for slicing in found.values())


@pytest.mark.parametrize(("low", "told"), [(0.5, 3), (0.51, 2)])
def test_translations_are_only_shown_when_the_accuracy_is_surely_above_one_half(low: float, told: int) -> None:
    contrastive = {"num_pairs": 100, "num_candidates": 10, "accuracy": 0.6, "low": low, "high": 0.69}
    shown = [{"row": 0, "source": "a", "reference": "b", "output": "c"}]
    lines = result_text(
        Report.of(
            {"bits_per_byte": 2.5, "bits_per_byte_first": 4.0, "contrastive": contrastive, "translations": shown}
        ),
        1.0,
    )
    assert lines[1] == f"right target likeliest of 10: 60 % [{100 * low:.0f}, 69] of 100 pairs; chance 10 %"
    assert len(lines) == told


def test_slicing_that_fails_is_told_in_one_line_and_fails_nothing(
    data: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ValueError("of no use\nat all")

    monkeypatch.setattr("mtx.experiment.held_out_slicings.length_slicing", refuse)
    assert slicings_or_none(data, PlainConsole()) == []
    assert capsys.readouterr().out == "the held-out pairs were not sliced: ValueError: of no use\n"


def test_long_training_texts_are_counted_in_fewer_pairs(data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_training_sources(data)) > 300
    monkeypatch.setattr("mtx.experiment.held_out_slicings.MAX_TRAINING_CHARS", 1000)
    assert sum(map(len, _training_sources(data).to_pylist())) <= 2000
