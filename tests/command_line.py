"""The application as a user types it, in the test's own process; conftest.py has the fixture `mtx`."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mtx import app


class Result(NamedTuple):
    """What a command left: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def end(self) -> str:
        """What is told when the jobs of a sweep have ended."""
        return self.out[self.out.rindex("\n\n") :]

    @property
    def report(self) -> dict[str, Any]:
        """The only report below the working folder, which is then forgotten."""
        (path,) = Path.cwd().glob("outputs/*/*/report.json")
        loaded = json.loads(path.read_text())
        path.unlink()
        assert isinstance(loaded, dict)
        return loaded


Mtx = Callable[..., Result]


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Mtx:
    """Return what runs `mtx ARGUMENTS` and tells what came of it."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mtx", *arguments])
        for name in ("HYDRA_FULL_ERROR", app.WANTS_TRACES):
            monkeypatch.setenv(name, "0")  # undone after the test, whatever main sets
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capfd.readouterr())

    return run
