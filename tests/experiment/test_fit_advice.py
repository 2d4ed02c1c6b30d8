"""What `task=fit` advises at its end: the command that continues raises each limit that ended the training."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fit_runs
import pytest
import torch
from fit_runs import FakeRun, started

from mtx.app.corrected_command import config_source_words, is_override
from mtx.experiment.fit_opening_and_summary import more_of, resume_command
from mtx.records.report_record import Report

HERE = __name__


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    yield from fit_runs.alone(monkeypatch, tmp_path)


LIMITS = {
    "trainer.max_epochs=1": {"trainer__max_epochs": "2"},
    "trainer.max_steps=300": {"trainer__max_steps": "600"},
    "trainer.max_steps=5, trainer.max_epochs=1": {"trainer__max_steps": "10", "trainer__max_epochs": "2"},
    "budget.seconds=0.5": {"budget__seconds": "1"},
    "budget.steps=2, budget.real_tokens=30": {"budget__steps": "4", "budget__real_tokens": "60"},
    "budget.steps=5, trainer.max_epochs=1": {"budget__steps": "10", "trainer__max_epochs": "2"},
    "trainer.max_epochs=0": {"trainer__max_epochs": "2"},
    "a callback": {},
    None: {},
}


@pytest.mark.parametrize(("ended_by", "changes"), LIMITS.items(), ids=str)
def test_each_limit_that_was_reached_is_raised(ended_by: str | None, changes: dict[str, str]) -> None:
    assert more_of(Report.of({"ended_by": ended_by})) == changes


ENDS: list[tuple[dict[str, Any], str, dict[str, int]]] = [
    ({"max_steps": -1, "max_epochs": 1}, "trainer.max_epochs=1", {"max_steps": -1, "max_epochs": 2}),
    (
        {"max_steps": 5, "max_epochs": 1},
        "trainer.max_steps=5, trainer.max_epochs=1",
        {"max_steps": 10, "max_epochs": 2},
    ),
]


@pytest.mark.parametrize(("trainer", "ended_by", "more"), ENDS)
def test_what_is_advised_trains_on(
    tmp_path: Path, trainer: dict[str, Any], ended_by: str, more: dict[str, int]
) -> None:
    run = FakeRun(tmp_path / "day" / "a", trainer=trainer)
    started(run)
    assert run.report["ended_by"] == ended_by
    changed = {key: value for key, value in more.items() if trainer[key] != value}
    more_words = " ".join(f"trainer.{key}={value}" for key, value in changed.items())
    assert f"ckpt=day/a/checkpoints/last.ckpt {more_words}\n" in run.out.getvalue()
    again = FakeRun(tmp_path / "day" / "b", trainer=more)
    started(again, ckpt="day/a/checkpoints/last.ckpt")
    assert again.report["num_steps"] > run.report["num_steps"]


def test_the_command_that_continues_names_a_file_that_can_be_resumed(tmp_path: Path) -> None:
    run = FakeRun(tmp_path / "a b" / "run")
    weights, whole = tmp_path / "weights.ckpt", tmp_path / "a b" / "epoch=1.ckpt"
    whole.parent.mkdir()
    torch.save({"state_dict": {}}, weights)
    torch.save({"state_dict": {}, "pytorch-lightning_version": "2.6", "optimizer_states": []}, whole)
    candidates = [None, "", str(tmp_path / "gone.ckpt"), str(tmp_path), str(weights)]
    assert resume_command(run, candidates) is None  # type: ignore[arg-type]  # a stand-in
    told = resume_command(run, [*candidates, str(whole)], seed="1")  # type: ignore[arg-type]
    assert told is not None
    assert shlex.split(told)[:2] == ["mtx", "--config-dir=own"]
    assert shlex.split(told)[-2:] == ["ckpt='a b/epoch=1.ckpt'", "seed=1"]
    assert is_override(shlex.split(told)[-2])


def test_the_words_that_say_where_configs_are_come_from_the_command_line() -> None:
    sources = [SimpleNamespace(provider="main", path="mtx.conf"), SimpleNamespace(provider="command-line", path="/own")]
    typed = ["hydra.run.dir=x", "hydra.searchpath=[file:///more]"]
    of_hydra = SimpleNamespace(runtime=SimpleNamespace(config_sources=sources), overrides=SimpleNamespace(hydra=typed))
    assert config_source_words(of_hydra) == ("--config-dir=/own", "hydra.searchpath=[file:///more]")
