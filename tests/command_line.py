"""Run the `mtx` command in the test's own process; the fixture `mtx` in conftest.py uses this module."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mtx.app import command as app


class Result(NamedTuple):
    """The exit code, the standard output and the standard error of a command."""

    code: int
    out: str
    err: str

    @property
    def end(self) -> str:
        """The summary that a sweep prints after its last job."""
        return self.out[self.out.rindex("\n\n") :]

    @property
    def report(self) -> dict[str, Any]:
        """The content of the only `report.json` in the outputs of the working folder; reading deletes the file."""
        (path,) = Path.cwd().glob("outputs/*/*/report.json")
        loaded = json.loads(path.read_text())
        path.unlink()
        assert isinstance(loaded, dict)
        return loaded


Mtx = Callable[..., Result]


def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Mtx:
    """Return a function that runs `mtx ARGUMENTS` and returns the exit code and the output."""

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mtx", *arguments])
        for name in ("HYDRA_FULL_ERROR", app.FULL_ERROR_VARIABLE):
            monkeypatch.setenv(name, "0")  # pytest restores the variable after the test, even if main sets it
        code = 0
        try:
            app.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capfd.readouterr())

    return run
