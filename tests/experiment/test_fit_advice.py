"""What `task=fit` advises at its end: the command that continues raises each limit that ended the training."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fit_runs
import pytest
from fit_runs import FakeRun, started

from mtx.experiment.fit_opening_and_summary import more_of
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
    assert f"ckpt=last {' '.join(f'trainer.{key}={value}' for key, value in changed.items())}\n" in run.out.getvalue()
    again = FakeRun(tmp_path / "day" / "b", trainer=more)
    started(again, ckpt="last")
    assert again.report["num_steps"] > run.report["num_steps"]
