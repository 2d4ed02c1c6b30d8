"""The README's promises are commands; here they run."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from jobs_on_disk import measured, write_job

from mtx import app

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if re.match(r"    mtx\b", line)]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

SMALL = ["downloader.n=300", "tokenizer.vocab_size=400"]
DO_NOT_RUN = (
    "downloader=hf",
    "downloader=mixture",
    "task=fit budget.seconds=60",
    "downloader.path",
    "downloader.source_path",
    "--help",
    "my_module",
    "experiment=",
)


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if "task=compare" in command:
        write_job(tmp_path / "multirun/day/time/0", {"seed": 0}, measured())
    arguments = shlex.split(command)[1:]
    if any(part in command for part in DO_NOT_RUN):  # what it names is not here; its config is
        arguments = [part for part in arguments if "my_module" not in part and "model." not in part]
        arguments += [] if "--help" in command else ["task=check"]
    elif not any(f"task={task}" in command for task in ("show", "verify", "gc", "options", "compare")):
        overridden = {part.split("=")[0] for part in arguments}
        arguments += [part for part in SMALL if part.split("=")[0] not in overridden]
    arguments = [
        part.replace("max_steps=50", "max_steps=3").replace("max_steps=60", "max_steps=5") for part in arguments
    ]
    monkeypatch.setattr(sys, "argv", ["mtx", *arguments])
    code = 0
    try:
        app.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    assert not code, capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("block", PYTHON)
def test_every_block_runs(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "README.md", "exec"), {})


def test_it_fits_on_one_page() -> None:
    assert len(README.splitlines()) <= 90


def test_the_scripts_it_names_first_are_there_and_executable() -> None:
    root = Path(__file__).parents[1]
    for name in ("scripts/run", "scripts/test"):
        assert name in README
        assert (root / name).stat().st_mode & 0o111
