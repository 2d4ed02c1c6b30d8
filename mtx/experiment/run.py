"""One run: what a task gets to work with."""

import json
import os
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from mtx.data.progress import PlainConsole
from mtx.experiment.config import Config, build
from mtx.infra.dal.base import atomic_file
from mtx.shown import redacted_json
from mtx.training.datamodule import TranslationDataModule


class Run:
    """A config and what is made from it, when it is first asked for.

    Args:
        config: the whole config as plain values.
        output_dir: where this run writes.
        console: where it talks to people.
        in_sweep: whether other jobs run in this process, before or after.
        overrides: what was said on the command line.
    """

    def __init__(
        self,
        config: Config,
        *,
        output_dir: str | os.PathLike[str],
        console: Console | None = None,
        in_sweep: bool = False,
        overrides: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.output_dir = Path(output_dir)
        self.console = console or PlainConsole()
        self.in_sweep = in_sweep
        self.overrides = list(overrides)

    @property
    def seed(self) -> int:
        """Seed of everything random in this run."""
        return int(self.config["seed"])

    @cached_property
    def datamodule(self) -> TranslationDataModule:
        """The data module of the config."""
        return datamodule_of(self.config)

    def build(self, group: str, **extra: Any) -> Any:
        """Make the component of a group; `extra` fills in what the config leaves out or null. Raises ConfigError."""
        return build(self.config, group, **extra)

    def command(self, **changes: object) -> str:
        """Return the command of this run with other values, as a shell takes it; `__` stands for a dot in a key."""
        said = {key.replace("__", "."): value for key, value in changes.items()}
        kept = [override for override in self.overrides if override.lstrip("+").partition("=")[0] not in said]
        return shlex.join(["mtx", *kept, *(f"{key}={value}" for key, value in said.items())])

    def write_report(self, report: dict[str, Any]) -> Path:
        """Write `report.json` into the output folder, whole or not at all, and return its path."""
        self.output_dir.mkdir(parents=True, exist_ok=True)
        path = self.output_dir / "report.json"
        with atomic_file(path) as file:
            file.write(json.dumps(redacted_json(report), indent=2, sort_keys=True).encode() + b"\n")
        return path


def datamodule_of(config: Config) -> TranslationDataModule:
    """Make the data module that a config describes, with its parts. Raises ConfigError."""
    parts = {group: build(config, group) for group in ("storage", "downloader", "filter", "tokenizer", "sampler")}
    datamodule = build(config, "datamodule", **parts, seed=config["seed"])
    assert isinstance(datamodule, TranslationDataModule)
    return datamodule
