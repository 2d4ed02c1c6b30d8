"""task=fit with a data module of the tests' own: what it writes, keeps, shows and refuses."""

import csv
import json
import logging
import math
import pickle
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import warm_process
import yaml
from fit_runs import DATA, NUM_TOKENS, NUM_TRAIN, FakeRun, Loader, Silent, alone, restored_sigint, started
from rich.console import Console
from torch import Tensor

from mtx.errors import ConfigError
from mtx.evaluation.corpus_metrics import METRICS
from mtx.experiment.fit import quiet_lightning
from mtx.records.held_out_sentences import read_held_out
from mtx.records.report_record import TrainingReport
from mtx.training.callbacks.progress_bar import StepBar
from mtx.training.callbacks.training_end_estimate import num_steps
from mtx.training.checkpoint_callback import LastAndBestCheckpoint

TREESPEC = r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"  # Lightning's own use of torch
HERE = __name__
IN_TWO_PROCESSES = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import fit_runs

if __name__ == "__main__":
    fit_runs.fit_module.data_report_and_profile = lambda run: (fit_runs.DATA, fit_runs.PROFILE)
    ranks = {"strategy": "ddp_fork", "devices": 2, "max_steps": 2}
    run = fit_runs.FakeRun(Path(sys.argv[2]), trainer=ranks)
    run.console.file = sys.stdout  # what rank 0 writes elsewhere ends with its process
    fit_runs.started(run)
"""


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from alone(monkeypatch, tmp_path)


def test_a_run_reports_what_it_did_and_what_it_learned(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out")
    last = started(run)
    report = run.report
    assert report["num_steps"] == 6
    assert report["num_epochs"] == 2
    assert report["num_target_tokens"] == sum(NUM_TOKENS) + NUM_TOKENS[0]
    assert report["target_tokens_per_s"] == pytest.approx(report["num_target_tokens"] / report["fit_s"])
    assert [found["step"] for found in report["validations"]] == [0, 2, 4, 6]
    assert report["bits_per_byte"] == last == report["validations"][-1]["val/bits_per_byte"]
    nats, num_bytes = report["validations"][0]["val/loss"] * sum(NUM_TOKENS), 4 * 2 * NUM_TRAIN
    assert report["bits_per_byte_first"] == pytest.approx(nats / math.log(2) / num_bytes, rel=1e-5)
    assert last is not None
    assert last < report["bits_per_byte_first"]
    assert report["train_loss"] < report["train_loss_first"]
    assert Path(report["checkpoint"]).is_file()
    assert Path(report["best_checkpoint"]).is_file()
    assert report["name"] == "ten pairs"
    assert report["num_batches"] == NUM_TRAIN
    assert (report["num_parameters"] > 0, report["device"]) == (True, "cpu")
    assert report["num_threads"] == torch.get_num_threads()
    assert set(report) == {*DATA.to_json(), *TrainingReport.model_fields} - {"contrastive", "stream"}  # not asked for
    sentences = read_held_out(tmp_path / "out", "bits_per_byte")
    assert sentences is not None
    assert sentences.rows.tolist() == list(range(2 * NUM_TRAIN))
    assert sentences.values[:, 1].tolist() == [4.0] * 2 * NUM_TRAIN
    assert sentences.values[1::2, 0].tolist() == [0.0] * NUM_TRAIN  # these pairs have no label
    assert METRICS["bits_per_byte"].of_sentences(sentences.values) == pytest.approx(last, rel=1e-6)


def test_a_run_says_what_people_want_to_know(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out")
    started(run)
    shown = run.out.getvalue()
    assert "data      ten pairs en→de  12 pairs: 10 train, 1 validation, 0 test\n" in shown
    assert "\n          1 dropped (8.3%): duplicate 1\n" in shown
    assert "9 joint, 2.30 tokens/word source, 2.30 tokens/word target\n          1 stages reused, 1 built in " in shown
    assert ": 5 per epoch, padding 2.1%, 3 pairs too long\n" in shown
    assert re.search(
        r"^model     TransformerTranslator, [\d.]+( k)? parameters, cpu, 1 threads, seed 3$", shown, re.MULTILINE
    )
    header, *rows = re.findall(r"^ {10} *(update .*|\d+  .*)$", shown, re.MULTILINE)
    assert header.split() == ["update", "tokens", "time", "train", "loss", "held-out"]
    found = [look["val/bits_per_byte"] for look in run.report["validations"]]
    assert [row.split()[:2] for row in rows] == [["0", "0"], ["2", "32"], ["4", "62"], ["6", "95"]]
    assert [row.split()[4] for row in rows] == [f"{value:.3f}" for value in found]
    assert [row.split()[-1] == "best" for row in rows] == [value == min(found) for value in found]
    assert re.search(r"^training  6 updates in 2 epochs, 95 real tokens, .* target tokens/s, loss", shown, re.MULTILINE)
    assert f"result    {found[-1]:.3f} bits/byte ({found[0]:.3f} at start)\n" in shown
    assert "ended by  trainer.max_steps=6\n" in shown
    assert (
        "continue  mtx --config-dir=own task=fit sampler.max_tokens=64 ckpt=out/checkpoints/last.ckpt trainer.max"
        in shown
    )


def test_a_run_writes_to_its_output_folder_only_and_warns_of_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started(FakeRun(tmp_path / "out"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    checkpoints = {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/run_key.txt"}
    reports = {"report.json", "profile.json", "training.json", "held_out.parquet"}
    assert found == {*reports, "log/metrics.csv", "log/hparams.yaml", *checkpoints}
    assert "train/loss" in (tmp_path / "out" / "log" / "metrics.csv").read_text().split("\n")[0]
    assert capfd.readouterr() == ("", "")


def profile_of(run: FakeRun) -> dict[str, Any]:
    return dict[str, Any](json.loads((run.output_dir / "profile.json").read_text()))


def test_each_look_says_what_was_spent_until_then(tmp_path: Path) -> None:
    """Epochs of five batches, of 12 real source tokens each and 3, 5, 2, 4, 6 target tokens; looks at 0, 2, 4, 6."""
    run = FakeRun(tmp_path / "out")
    started(run)
    curve = profile_of(run)["validations"]
    assert [look["step"] for look in curve] == [0, 2, 4, 6]
    assert [look["real_tokens"] for look in curve] == [0, 24 + 8, 48 + 14, 72 + 23]
    assert [look["epoch"] for look in curve] == [0, 0.4, 0.8, 1.2]
    seconds = [look["seconds"] for look in curve]
    assert seconds == sorted(seconds)
    assert seconds[0] == 0 < seconds[1]
    found = run.report["validations"]
    assert [look["bits_per_byte"] for look in curve] == [look["val/bits_per_byte"] for look in found]
    assert [look["seconds"] for look in found] == seconds
    assert seconds[-1] == pytest.approx(run.report["spent"]["seconds"])
    assert (run.report["spent"]["steps"], run.report["spent"]["real_tokens"]) == (6, 95)


def test_the_losses_of_all_steps_are_kept(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out")
    started(run)
    losses = profile_of(run)["train_loss"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    assert losses[0][1] == pytest.approx(run.report["train_loss_first"])
    assert sum(loss for _, loss in losses) / 6 == pytest.approx(run.report["train_loss"])
    assert profile_of(run)["shapes"] == []  # of the data, whose profile is in the same file


def test_curves_go_on_where_a_run_goes_on(tmp_path: Path) -> None:
    whole = FakeRun(tmp_path / "day" / "whole")
    started(whole)
    (tmp_path / "day" / "whole" / "checkpoints" / "last.ckpt").unlink()
    started(FakeRun(tmp_path / "day" / "half", trainer={"max_steps": 5, "val_check_interval": 5}))
    rest = FakeRun(tmp_path / "day" / "rest")
    started(rest, ckpt="last")
    curve = profile_of(rest)["validations"]
    told = [(look["step"], look["real_tokens"], look["epoch"]) for look in curve]
    assert told == [(0, 0, 0), (5, 80, 1), (6, 95, 1.2)]
    assert 0 < curve[1]["seconds"] < curve[2]["seconds"]
    for one, other in zip(*(profile_of(run)["train_loss"] for run in (whole, rest)), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize(
    ("budget", "trainer", "ended_by", "num_steps"),
    [
        ({"real_tokens": 33}, {}, "budget.real_tokens=33", 3),
        ({"steps": 2, "real_tokens": 30}, {}, "budget.steps=2, budget.real_tokens=30", 2),
        ({}, {}, "trainer.max_steps=6", 6),
        ({}, {"max_steps": -1, "max_epochs": 1}, "trainer.max_epochs=1", 5),
        ({}, {"callbacks": [{"_target_": f"{HERE}.Enough"}]}, "a callback", 3),
    ],
)
def test_a_run_says_what_ended_it(
    tmp_path: Path, budget: dict[str, Any], trainer: dict[str, Any], ended_by: str, num_steps: int
) -> None:
    run = FakeRun(tmp_path / "out", budget=budget, trainer=trainer)
    started(run)
    assert (run.report["ended_by"], run.report["num_steps"]) == (ended_by, num_steps)
    assert f"ended by  {ended_by}\n" in run.out.getvalue()
    assert f", {run.report['spent']['real_tokens']} real tokens, " in run.out.getvalue()


class Enough(pl.Callback):
    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        trainer.should_stop = trainer.global_step == 3


def test_a_run_that_a_budget_ended_says_how_to_go_on_with_more_of_it(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "day" / "a", budget={"real_tokens": 70})
    started(run)
    told = run.out.getvalue()
    assert " trainer.max_steps=6 ckpt=day/a/checkpoints/last.ckpt budget.real_tokens=140\n" in told
    again = FakeRun(tmp_path / "day" / "b", budget={"real_tokens": 70})
    started(again, ckpt="last")
    assert (again.report["num_steps"], again.report["ended_by"]) == (5, "budget.real_tokens=70")
    more = FakeRun(tmp_path / "day" / "c", budget={"real_tokens": 90})
    started(more, ckpt="last")
    assert (more.report["num_steps"], more.report["spent"]["real_tokens"]) == (6, 72 + 23)


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    assert started(FakeRun(tmp_path / "a")) == started(FakeRun(tmp_path / "b"))


def test_a_look_at_the_end_is_taken_where_the_interval_does_not_fall_on_it(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", trainer={"max_steps": 5})
    started(run)
    assert [found["step"] for found in run.report["validations"]] == [0, 2, 4, 5]
    step = torch.load(run.report["checkpoint"], weights_only=True)["global_step"]
    assert step == 5


def test_the_best_checkpoint_is_that_of_the_lowest_figure(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", model={"_target_": "fit_runs.Scripted"})
    started(run)
    steps = {
        name: torch.load(tmp_path / "out" / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    }
    assert steps == {"best": 2, "last": 6}


def test_the_log_has_the_config_without_secrets_the_ids_and_the_figures(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", trainer={"max_steps": 2})
    run.config["downloader"] = {"name": "pairs", "password": "hunter2hunter2"}
    started(run)
    log = tmp_path / "out" / "log"
    settings = yaml.safe_load((log / "hparams.yaml").read_text())
    assert settings["downloader.name"] == "pairs"
    assert settings["downloader.password"] == "***"
    assert settings["trainer.max_steps"] == 2
    assert settings["ids.raw.train"] == "raw-1"
    assert settings["d_model"] == 8  # Lightning's own, of the model
    with (log / "metrics.csv").open() as file:
        (last,) = [row for row in csv.DictReader(file) if row["report/bits_per_byte"]]
    assert float(last["report/bits_per_byte"]) == pytest.approx(run.report["bits_per_byte"])
    assert int(last["step"]) == 2


def test_any_lightning_module_trains(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", model={"_target_": "fit_runs.Silent", "width": 2})
    assert started(run) is None
    report = run.report
    assert report["bits_per_byte"] is report["bits_per_byte_first"] is report["best_checkpoint"] is None
    assert report["train_loss"] > 0
    assert Path(report["checkpoint"]).is_file()
    told = run.out.getvalue()
    assert "\nresult " not in told  # no figure, so no line
    assert (
        "missing   bits per byte: Silent does not log val/bits_per_byte. Call mtx.evaluation.log_held_out in a "
        "validation_step, which it lacks\n"
        "          best checkpoint: Silent logs neither val/bits_per_byte nor val/loss or val_loss, so only the last "
        "is kept\n"
        "          BLEU, chrF and translations: Silent lacks the method translate(batch, max_tokens, *, beam=1)\n"
        "          contrastive accuracy: Silent lacks the method target_nats(batch)\n"
        "          each is described in docs/howto/own_model.md\n"
    ) in told


def test_a_model_without_bits_per_byte_keeps_the_best_checkpoint_by_its_loss(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", model={"_target_": f"{HERE}.OnlyLoss"})
    assert started(run) is None
    told = run.out.getvalue()
    assert torch.load(run.report["best_checkpoint"], weights_only=True)["global_step"] == 2
    assert "best.ckpt (lowest val_loss)\n" in told
    assert re.search(r"update +tokens +time +train loss +val_loss\n", told)
    assert "2.000  best\n" in told
    assert "Call mtx.evaluation.log_held_out in its validation_step\n" in told
    assert "best checkpoint:" not in told


class OnlyLoss(Silent):
    """A model that logs its own name for the loss 3, 2, 4, 5; the second validation is the best."""

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        self.log("val_loss", {0: 3.0, 2: 2.0, 4: 4.0}.get(self.trainer.global_step, 5.0), batch_size=1)


def test_without_held_out_text_training_runs_and_keeps_its_last_state(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", validation=False)
    assert started(run) is None
    assert run.report["num_steps"] == 6
    assert torch.load(run.report["checkpoint"], weights_only=True)["global_step"] == 6


def test_a_run_goes_on_from_the_last_checkpoint_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    started(FakeRun(tmp_path / "day" / "whole"))
    started(FakeRun(tmp_path / "day" / "half", trainer={"max_steps": 5, "val_check_interval": 5}))
    run = FakeRun(tmp_path / "day" / "rest")
    (tmp_path / "day" / "whole" / "checkpoints" / "last.ckpt").unlink()
    started(run, ckpt="last")
    assert f"resuming from {tmp_path / 'day' / 'half' / 'checkpoints' / 'last.ckpt'}" in run.out.getvalue()
    whole = json.loads((tmp_path / "day" / "whole" / "report.json").read_text())
    assert run.report["bits_per_byte"] == pytest.approx(whole["bits_per_byte"], rel=1e-6)
    assert run.report["num_target_tokens"] == whole["num_target_tokens"]
    assert run.report["train_loss_first"] == whole["train_loss_first"]
    assert run.report["train_loss"] == pytest.approx(whole["train_loss"], rel=1e-6)
    assert [found["step"] for found in run.report["validations"]] == [0, 5, 6]


def test_the_best_checkpoint_may_be_that_of_the_run_before(tmp_path: Path) -> None:
    scripted = {"_target_": "fit_runs.Scripted"}
    started(FakeRun(tmp_path / "day" / "a", model=scripted, trainer={"max_steps": 4}))
    run = FakeRun(tmp_path / "day" / "b", model=scripted)
    started(run, ckpt="last")
    assert run.report["best_checkpoint"] == str(tmp_path / "day" / "a" / "checkpoints" / "best.ckpt")
    assert run.report["checkpoint"] == str(tmp_path / "day" / "b" / "checkpoints" / "last.ckpt")


def test_last_is_the_newest_run_of_the_same_data_and_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    started(FakeRun(tmp_path / "day" / "other", model={"d_model": 4}))
    run = FakeRun(tmp_path / "day" / "mine", trainer={"max_steps": 2})
    started(run, ckpt="last")
    told = f"ckpt=last: {tmp_path} has no checkpoint of an earlier run with the same data and model; training starts"
    assert told in caplog.text
    assert "resuming from" not in run.out.getvalue()
    again = FakeRun(tmp_path / "day" / "mine")
    started(again, ckpt="last")
    assert again.report["num_steps"] == 6
    assert "resuming from" in again.out.getvalue()


def test_a_run_that_is_at_its_end_already_stays_as_it_is(tmp_path: Path) -> None:
    started(FakeRun(tmp_path / "day" / "whole"))
    run = FakeRun(tmp_path / "day" / "again")
    started(run, ckpt="last")
    whole = json.loads((tmp_path / "day" / "whole" / "report.json").read_text())
    same = ("num_steps", "bits_per_byte", "train_loss", "validations", "num_target_tokens")
    assert {name: run.report[name] for name in same} == {name: whole[name] for name in same}


def test_no_training_batches_are_no_error(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", trainer={"limit_train_batches": 0})
    started(run)
    assert run.report["num_steps"] == 0
    assert run.report["bits_per_byte"] == run.report["bits_per_byte_first"]
    assert run.report["train_loss"] is None


@pytest.mark.parametrize("content", [None, b"no checkpoint"])
def test_a_checkpoint_that_is_none_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "my.ckpt"
    told = r"ckpt must be a checkpoint file, `last`, or null, but there is no file '.*my.ckpt'"
    if content is not None:
        path.write_bytes(content)
        told = r"ckpt=.*my.ckpt cannot be read as a checkpoint: it is no zip archive"
    with pytest.raises(ConfigError, match=told):
        started(FakeRun(tmp_path / "out"), ckpt=str(path))


def test_a_checkpoint_of_another_model_is_refused_with_the_difference(tmp_path: Path) -> None:
    started(FakeRun(tmp_path / "a", trainer={"max_steps": 1}))
    told = r"by another model or with another vocabulary: .* has shape \(9, 8\) in the checkpoint and \(9, 4\) in this"
    with pytest.raises(ConfigError, match=told):
        started(FakeRun(tmp_path / "b", model={"d_model": 4}), ckpt=str(tmp_path / "a" / "checkpoints" / "last.ckpt"))


def test_what_lightning_refuses_is_told_without_a_stack_trace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"Lightning cannot train with this trainer and model: .*training_step"):
        started(FakeRun(tmp_path / "out", model={"_target_": "pytorch_lightning.LightningModule"}))


def test_ctrl_c_is_handed_on_after_a_word_on_how_to_go_on(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "day" / "a", model={"_target_": "fit_runs.Interrupted"})
    with restored_sigint(), pytest.raises(KeyboardInterrupt):
        started(run)
    command = "mtx --config-dir=own task=fit sampler.max_tokens=64 trainer.max_steps=6 ckpt=day/a/checkpoints/last.ckpt"
    told = f"Training stopped at step 3. Resume from the last checkpoint: {command}"
    assert told in run.out.getvalue()
    again = FakeRun(tmp_path / "day" / "b", model={"_target_": "fit_runs.Interrupted"}, trainer={"max_steps": 3})
    started(again, ckpt="last")
    assert again.report["num_steps"] == 3


def test_bar_and_checkpoints_can_be_turned_off_or_replaced(tmp_path: Path) -> None:
    off = {"enable_progress_bar": False, "enable_checkpointing": False}
    run = FakeRun(tmp_path / "off", trainer=off)
    started(run)
    assert run.report["checkpoint"] is None
    assert "no checkpoint was saved" in run.out.getvalue()
    assert "━" not in run.out.getvalue()
    own = {"callbacks": [{"_target_": f"{HERE}.Own"}], **off}
    Own.calls = 0
    run = FakeRun(tmp_path / "own", trainer=own)
    started(run)
    assert Own.calls == run.report["num_steps"] == 6


class Own(pl.Callback):
    calls = 0

    def on_train_batch_end(self, *_: Any) -> None:
        Own.calls += 1


def test_accumulated_batches_show_their_whole_loss(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", trainer={"accumulate_grad_batches": 2, "max_steps": 2})
    started(run)
    plain = FakeRun(tmp_path / "plain")
    started(plain)
    assert run.report["train_loss_first"] == pytest.approx(plain.report["train_loss_first"])
    assert run.report["num_steps"] == 2


def test_no_logger_is_no_error(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out")
    run.config["logger"] = {"none": {"_target_": "mtx.training.loggers.none"}}
    started(run)
    assert not (tmp_path / "out" / "log").exists()


def test_a_terminal_gets_a_bar_of_all_steps(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out")
    run.console = Console(file=run.out, width=150, force_terminal=True)
    started(run)
    shown = run.out.getvalue()
    assert "/6" in shown
    assert "━" in shown


@pytest.mark.filterwarnings(TREESPEC)
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"max_steps": 7}, 7),
        ({"max_epochs": 2}, 10),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, 6),
        ({"max_epochs": 1, "max_steps": 3}, 3),
        ({"max_epochs": -1, "max_time": "00:00:00:01"}, None),
    ],
)
def test_the_bar_knows_the_steps_of_the_whole_run(options: dict[str, Any], expected: int | None) -> None:
    counted = []

    class Count(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            counted.append(num_steps(trainer))
            trainer.should_stop = True

    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(**quiet, **options, enable_model_summary=False, accelerator="cpu", callbacks=[Count()])
    trainer.fit(Silent(9), train_dataloaders=Loader())
    assert counted == [expected]


def test_the_bar_and_the_checkpoints_go_to_other_processes(tmp_path: Path) -> None:
    for callback in (StepBar(Console()), LastAndBestCheckpoint(tmp_path)):
        assert type(pickle.loads(pickle.dumps(callback))) is type(callback)


def test_lightning_is_quiet_inside_only() -> None:
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    with quiet_lightning():
        assert logger.getEffectiveLevel() == logging.WARNING
        warnings.warn("The dataloader does not have many workers", stacklevel=1)
    assert logger.level == before
    with pytest.warns(UserWarning, match="does not have many workers"):
        warnings.warn("The dataloader does not have many workers", stacklevel=1)


def test_a_trial_run_keeps_no_checkpoint(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "out", trainer={"fast_dev_run": True})
    started(run)
    assert run.report["num_steps"] == 1
    assert run.report["checkpoint"] is None


@pytest.mark.slow
def test_figures_of_two_processes_are_sums_over_both(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(IN_TWO_PROCESSES)
    done = warm_process.run(script, Path(__file__).parents[1], tmp_path / "out")
    assert done.returncode == 0, done.stderr
    alone = FakeRun(tmp_path / "alone", trainer={"max_steps": 1})
    started(alone)
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["bits_per_byte_first"] == pytest.approx(alone.report["bits_per_byte_first"], rel=1e-6)
    assert report["num_steps"] == 2
    assert report["num_target_tokens"] == sum(NUM_TOKENS[:4])
    sentences = read_held_out(tmp_path / "out", "bits_per_byte")  # of both ranks, in the order of the pairs
    assert sentences is not None
    assert sentences.rows.tolist() == list(range(2 * NUM_TRAIN))
    assert METRICS["bits_per_byte"].of_sentences(sentences.values) == pytest.approx(report["bits_per_byte"], rel=1e-6)
    assert [found["step"] for found in report["validations"]] == [0, 2]
    assert Path(report["best_checkpoint"]).is_file()
    assert done.stdout.count("held-out") == 1
    assert "cpu x 2" in done.stdout
