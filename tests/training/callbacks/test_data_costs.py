"""What the data costs: counted by hand on six batches, with clocks that cannot be mistaken."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_runs import BATCHES, PACKAGES, Batch, Loader, in_ranks, trainer, word_model

from mtx.errors import ConfigError
from mtx.training.callbacks import DataCosts

# Source and target slots, and real tokens, of the six batches: a source has one token more than its target.
SLOTS = [2 * 6 + 2 * 5, 3 + 2, 4 * 8 + 4 * 7, 2 + 1, 3 * 3 + 3 * 2, 9 + 8]
REAL = [10 + 8, 3 + 2, 22 + 18, 2 + 1, 9 + 6, 9 + 8]


class Kept:
    """Keeps what is logged; a logger of either package."""

    def __init__(self, package: Any) -> None:
        logged: list[dict[str, float]] = []

        class Logger(package.loggers.Logger):  # type: ignore[misc]
            name = version = "kept"

            def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
                if "data/waiting" in metrics:
                    logged.append({"at": float(step or 0), **metrics})

            def log_hyperparams(self, *_: Any) -> None:
                pass

        self.logged = logged
        self.logger = Logger()


def logged(package: Any = PACKAGES[0], *, model: Any = None, every: int | None = 2, **options: Any) -> Any:
    kept = Kept(package)
    run = trainer(package, **{"logger": kept.logger, "callbacks": [DataCosts(every_n_steps=every)], **options})
    run.fit(word_model(package)() if model is None else model)
    return kept.logged


@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning.pytorch"])
def test_tokens_and_padding_are_counted_since_they_were_last_logged(package: Any) -> None:
    found = logged(package)
    assert [metrics["at"] for metrics in found] == [1, 3, 5]
    for metrics, first in zip(found, (0, 2, 4), strict=True):
        real, slots = sum(REAL[first : first + 2]), sum(SLOTS[first : first + 2])
        assert metrics["data/padding"] == pytest.approx(1 - real / slots)
        tokens_a_step = metrics["data/tokens_per_s"] / metrics["data/steps_per_s"]
        assert tokens_a_step == pytest.approx(real / 2)
    assert [(metrics["data/epoch"], metrics["data/batch"]) for metrics in found] == [(0, 2), (0, 4), (0, 6)]


def test_steps_are_those_of_the_optimizer() -> None:
    (metrics,) = logged(every=2, accumulate_grad_batches=2, max_steps=2)
    assert metrics["at"] == 1
    assert metrics["data/tokens_per_s"] / metrics["data/steps_per_s"] == pytest.approx(sum(REAL[:4]) / 2)


@pytest.mark.parametrize("package", PACKAGES, ids=["pytorch_lightning", "lightning.pytorch"])
def test_the_bar_and_other_callbacks_get_them(package: Any) -> None:
    run = trainer(package, callbacks=[DataCosts(every_n_steps=3)])
    run.fit(word_model(package)())
    assert set(run.progress_bar_metrics) == {"data/tokens_per_s", "data/padding", "data/waiting"}
    padding = 1 - sum(REAL[3:]) / sum(SLOTS[3:])
    assert run.progress_bar_metrics["data/padding"] == pytest.approx(padding)
    assert float(run.callback_metrics["data/padding"]) == pytest.approx(padding)


def test_by_default_it_logs_when_the_trainer_does() -> None:
    assert [metrics["at"] for metrics in logged(every=None, log_every_n_steps=3)] == [2, 5]
    assert logged(every=None, log_every_n_steps=0) == []


class SlowLoader(Loader):
    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            time.sleep(0.05)
            yield batch


def test_waiting_is_the_share_of_time_in_the_loader() -> None:
    class SlowData(word_model()):  # type: ignore[misc]
        def train_dataloader(self) -> Any:
            return SlowLoader(self.trainer, self.batches)

    class SlowSteps(word_model()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            time.sleep(0.05)
            return super().training_step(batch, batch_idx)

    of_slow_data = min(metrics["data/waiting"] for metrics in logged(model=SlowData()))
    of_slow_steps = max(metrics["data/waiting"] for metrics in logged(model=SlowSteps()))
    assert of_slow_data > 2 * of_slow_steps  # no fixed shares: other work on the machine makes steps slower


def test_looks_at_held_out_text_take_no_time() -> None:
    class SlowLooks(word_model()):  # type: ignore[misc]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            time.sleep(0.2)

    found = logged(model=SlowLooks(), every=3, limit_val_batches=2, val_check_interval=2)
    assert min(metrics["data/steps_per_s"] for metrics in found) > 3 / 0.4


def test_batches_in_the_form_of_huggingface_are_counted() -> None:
    names = {"encoder_attn_mask": "attention_mask", "decoder_attn_mask": "decoder_attention_mask"}

    class HuggingFace(word_model()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step({**batch, "decoder_attn_mask": batch["decoder_attention_mask"].bool()}, 0)

    renamed = [
        {names.get(name, name): value.long() if name in names else value for name, value in batch.items()}
        for batch in BATCHES
    ]
    found = logged(model=HuggingFace(renamed), every=6)
    assert found[0]["data/padding"] == pytest.approx(1 - sum(REAL) / sum(SLOTS))


def test_without_masks_the_rest_is_logged() -> None:
    class Plain(word_model()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.out(self.embedding(batch["labels"])).square().mean()

    (metrics,) = logged(model=Plain([{"labels": batch["labels"]} for batch in BATCHES]), every=6)
    assert {"data/waiting", "data/steps_per_s", "data/epoch", "data/batch"} <= set(metrics)
    assert "data/tokens_per_s" not in metrics
    assert "data/padding" not in metrics


def test_a_trainer_without_anything_logs_nothing() -> None:
    bare = {
        "barebones": True,
        **dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "logger", "log_every_n_steps")),
    }
    run = trainer(callbacks=[DataCosts(every_n_steps=1)], **bare, enable_model_summary=None, num_sanity_val_steps=None)
    run.fit(word_model()())
    assert run.global_step == 6
    assert not any(name.startswith("data/") for name in run.callback_metrics)


@pytest.mark.parametrize("crash", [False, True])
def test_the_trainer_gets_its_own_methods_back(crash: bool) -> None:
    class Crashing(word_model()):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if crash and batch_idx == 2:
                raise InterruptedError
            return super().training_step(batch, batch_idx)

    run = trainer(callbacks=[DataCosts()])
    if crash:
        with pytest.raises(InterruptedError):
            run.fit(Crashing())
    else:
        run.fit(Crashing())
    assert not {"_on_before_fetch", "_on_after_fetch"} & set(vars(run.fit_loop.epoch_loop))


def test_less_than_a_step_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"every_n_steps is an integer of at least 1, or null, but is 0"):
        DataCosts(every_n_steps=0)


@pytest.mark.slow
def test_ranks_add_up(tmp_path: Path) -> None:
    metrics = in_ranks(tmp_path, "DataCosts", devices=2, log_every_n_steps=3)["metrics"]
    assert metrics["data/padding"] == pytest.approx(1 - sum(REAL) / sum(SLOTS))
    assert metrics["data/tokens_per_s"] / metrics["data/steps_per_s"] == pytest.approx(sum(REAL) / 3)
    assert metrics["data/batch"] == 6
    assert 0 <= metrics["data/waiting"] < 1


def test_counts_on_an_accelerator_stay_there_until_they_are_logged() -> None:
    class OnDevice(torch.Tensor):
        """A tensor that says it is elsewhere."""

        @property
        def device(self) -> Any:  # type: ignore[override]
            return torch.device("cuda")

    costs = DataCosts()
    for batch in BATCHES[:2]:
        costs._window.add({name: mask.as_subclass(OnDevice) for name, mask in batch.items()})
    assert costs._window._real == 0
    assert int(costs._window._real_on_device) == sum(REAL[:2])  # type: ignore[arg-type]
