"""docs/sources.md: its commands compose, its YAML makes what it says, and its code is that of the example."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mtx.app.command import compose
from mtx.components.check_and_build import build, check_config
from mtx.infra.dataset.sources.mixture import MixtureDownloader

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs/sources.md").read_text()
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()]
YAMLS = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
CODE = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("command", [one for one in COMMANDS if "my_" not in one])
def test_every_command_composes_and_binds(command: str) -> None:
    arguments = [part for part in shlex.split(command)[1:] if part != "-m"]
    check_config(compose([re.sub(r"(temperature=\d+),.*", r"\1", part) for part in arguments]))


def test_the_mixture_in_yaml_is_one() -> None:
    config: dict[str, Any] = yaml.safe_load(YAMLS[0])
    check_config({"downloader": config})
    made = build({"downloader": config}, "downloader")
    assert isinstance(made, MixtureDownloader)
    assert list(made.parts) == ["opus", "own"]


def test_the_worked_example_is_the_file_that_runs() -> None:
    example = (ROOT / "examples/own_downloader.py").read_text()
    example = re.sub(r'\n    """.*?"""\n', "\n", example, flags=re.DOTALL)  # docstrings
    example = re.sub(r"\n\s*#[^\n]*", "", example)
    lines = {line.strip() for line in example.splitlines()}
    shown = [line.strip() for block in CODE if "check_downloader" not in block for line in block.splitlines()]
    assert [line for line in shown if line not in lines and line != "..."] == []
    assert len(shown) > 20


def test_the_options_are_those_that_there_are() -> None:
    told = set(re.findall(r"`downloader=(\w+)`", GUIDE))
    assert {path.stem for path in (ROOT / "conf/downloader").glob("*.yaml")} <= told | {"default"}
