"""`Run`: the config of one run, its output folder, its console, and the components that a task builds from it."""

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import starmap
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console

from mtx.components.allowed_targets import is_component
from mtx.components.check_and_build import Config, build, build_multiple
from mtx.components.groups import PARTS
from mtx.errors import ConfigError, override_text
from mtx.progress.literal_console import PlainConsole

if TYPE_CHECKING:
    from mtx.records.report_record import Report
    from mtx.training.translation_data import TranslationData

Task = TypeVar("Task", bound=Callable[..., Any])

DATA_GROUPS = (*PARTS, "datamodule")
LIGHTNING_DATAMODULE = "mtx.training.datamodule.TranslationDataModule"
TASKS_OVER_CORPUS = {  # tasks that need all pairs of the corpus, by their functions
    "mtx.experiment.measure.measure": "measure",
    "mtx.experiment.prepare.prepare_only": "prepare",
    "mtx.experiment.scores.write_scores": "scores",
}
PLAIN_DATAMODULE = "mtx.training.translation_data.TranslationData"  # the same data module without Lightning


def needs(*groups: str) -> Callable[[Task], Task]:
    """Mark a task function with the config groups that it uses; only these are validated and imported for the task."""

    def mark(task: Task) -> Task:
        task.groups = frozenset(groups)  # type: ignore[attr-defined]
        return task

    return mark


def needed_config(task: Callable[..., Any], config: Config, overrides: Sequence[str] = ()) -> Config:
    """Return the part of a config that a task uses: the groups of its `needs` mark, or everything without a mark.

    Groups that an override changes are always included. A task that uses no model gets the data module without
    Lightning, unless the config names another class than mtx's.
    """
    groups: frozenset[str] | None = getattr(task, "groups", None)
    if groups is None:
        return config
    changed = {override.lstrip("+~").partition("=")[0].partition(".")[0] for override in overrides}
    wanted = groups | changed | {"task"} | ({"engine"} if "datamodule" in groups else set())
    kept = {key: value for key, value in config.items() if key in wanted or not is_component(value)}
    return kept if "model" in groups else without_lightning(kept)


def without_lightning(config: Config) -> Config:
    """Return a config with the data module that does not import Lightning; a user-defined data module stays."""
    datamodule = config.get("datamodule", {})
    if datamodule.get("_target_") != LIGHTNING_DATAMODULE:
        return config
    return {**config, "datamodule": {**datamodule, "_target_": PLAIN_DATAMODULE}}


class Run:
    """A run of a task: its config, its output folder, and the components that are built on first use.

    Args:
        config: The whole config as plain values.
        output_dir: The folder that gets the files of this run.
        console: The console for messages to the user. None: standard output, or no output in a sweep.
        in_sweep: Whether this process also runs other jobs of a sweep.
        overrides: The overrides on the command line of this run.
        config_sources: The words on the command line that say where Hydra finds configs, such as --config-dir=FOLDER.
        assumptions: The list that collects what mtx assumes in this run; `write_report` adds it to the report.
    """

    def __init__(
        self,
        config: Config,
        *,
        output_dir: str | os.PathLike[str],
        console: Console | None = None,
        in_sweep: bool = False,
        overrides: Sequence[str] = (),
        config_sources: Sequence[str] = (),
        assumptions: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.output_dir = Path(output_dir)
        self.console = console or PlainConsole(quiet=in_sweep)
        self.in_sweep = in_sweep
        self.overrides = list(overrides)
        self.config_sources = list(config_sources)
        self.assumptions = assumptions

    @property
    def seed(self) -> int:
        """The seed of all random numbers in this run."""
        return int(self.config["seed"])

    @cached_property
    def datamodule(self) -> "TranslationData":
        """The data module that the config describes, built on first access.

        Raises ConfigError if a component's values are invalid, or if the task needs the whole corpus of a stream.
        """
        check_task_can_stream(self.config)
        return datamodule_of(self.config)

    def build(self, group: str, **extra: Any) -> Any:
        """Build the component of a config group; `extra` gives arguments that the config omits or sets to null.

        Raises:
            ConfigError: The component's values are invalid.
        """
        return build(self.config, group, **extra)

    def command(self, **changes: object) -> str:
        """Return the shell command of this run with changed overrides; `__` in a keyword stands for a dot in a key."""
        said = {key.replace("__", "."): str(value) for key, value in changes.items()}
        kept = [override for override in self.overrides if override.lstrip("+").partition("=")[0] not in said]
        return " ".join([shlex.join(["mtx", *self.config_sources, *kept]), *starmap(override_text, said.items())])

    def write_report(self, report: "Report | Mapping[str, Any]") -> Path:
        """Write `report.json` atomically into the output folder, and return its path.

        A user-defined task may report values under any names; a sweep can compare the numbers. The names in
        docs/report.md are reserved for values of the types that docs/report.md gives.

        Raises:
            DataError: A reserved name has a value of another type.
            StoreError: The file cannot be written.
        """
        from mtx.records.report_record import Report

        self.output_dir.mkdir(parents=True, exist_ok=True)
        assumed = {"assumptions": list(self.assumptions)} if self.assumptions else {}
        return Report.of(report, assumed).write(self.output_dir)


def check_task_can_stream(config: Config) -> None:
    """Raise ConfigError if the data is streamed, but the task goes through the whole corpus."""
    task = str(config.get("task", {}).get("_target_", ""))
    if config.get("datamodule", {}).get("stream") and task in TASKS_OVER_CORPUS:
        name = TASKS_OVER_CORPUS[task]
        raise ConfigError(
            f"datamodule.stream=true reads the source while a model trains, but task={name} needs the whole corpus. "
            f"Set task=fit, or task={name} with datamodule.stream=false"
        )


def datamodule_of(config: Config) -> "TranslationData":
    """Build the data module and its parts from a config.

    Raises:
        ConfigError: A component's values are invalid.
    """
    parts = {group: build(config, group) for group in PARTS}
    if scorers := build_multiple(config, "score"):
        parts["score"] = scorers
    if config.get("engine"):
        parts["engine"] = build(config, "engine")
    datamodule = build(config, "datamodule", **parts, seed=config["seed"])
    from mtx.training.translation_data import TranslationData

    assert isinstance(datamodule, TranslationData)
    return datamodule
