"""Compose and check overrides as `mtx` does before any work, many times in one process."""

import io
import pickle
import re
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from mtx.errors import MtxError


class Checker:
    """Composes and checks overrides in this process, as a command does before any work."""

    def __init__(self) -> None:
        from hydra._internal.core_plugins.importlib_resources_config_source import ImportlibResourcesConfigSource

        from mtx.app.grid_check import JobComposer
        from mtx.app.override_errors import CONFIG_NAME, hydra_loader

        self._bases: dict[tuple[str, ...], dict[str, Any]] = {}
        self._context = ExitStack()
        for name in ("load_config", "is_group", "is_config", "list"):
            cached = _cached_method(getattr(ImportlibResourcesConfigSource, name))
            self._context.enter_context(patch.object(ImportlibResourcesConfigSource, name, cached))
        self._loader = self._context.enter_context(hydra_loader())
        self._load = cache(self._uncached)
        self._original = self._loader.load_configuration
        self._loader.load_configuration = self._cached  # type: ignore[method-assign]  # the same configs again and again
        self._loader.get_group_options = cache(self._loader.get_group_options)  # type: ignore[method-assign]
        self._name = CONFIG_NAME
        self._composer = JobComposer(self._loader, CONFIG_NAME, in_sweep=False)
        self.config: dict[str, Any] | None = None
        self.refusal: MtxError | None = None

    def close(self) -> None:
        """Leave Hydra as it was."""
        self._context.close()

    def base_config(self, overrides: tuple[str, ...]) -> dict[str, Any]:
        """Return the config that valid overrides compose; an empty one if they are refused."""
        from mtx.errors import MtxError

        if overrides not in self._bases:
            try:
                self.check(overrides)
            except MtxError:
                self.config = None
            self._bases[overrides] = self.config or {}
        return self._bases[overrides]

    def composition_problem(self, words: Sequence[str]) -> str | None:
        """Return why a command without its values does not compose, or None; a sweep is only parsed."""
        from mtx.app.override_errors import completed_arguments
        from mtx.errors import MtxError

        if any(word.startswith("-") for word in words):
            return None
        try:
            self._composer.config(completed_arguments([word for word in words if not _is_hydra(word)]))
        except MtxError as error:
            return str(error)
        return None

    def check(self, overrides: Sequence[str]) -> None:
        """Compose and check overrides. Raises MtxError if they are invalid, and keeps the error in `refusal`."""
        from mtx.errors import MtxError

        try:
            self._check(overrides)
        except MtxError as error:
            self.refusal = error
            raise

    def _check(self, overrides: Sequence[str]) -> None:
        from mtx.app.command import checked_config
        from mtx.app.override_errors import (
            check_flags,
            check_no_secret,
            check_options,
            completed_arguments,
            readable_configs,
        )

        self.config = None
        check_no_secret(overrides)
        check_flags(overrides)
        check_options(overrides)
        if any(text.lstrip("+~").startswith(("hydra", "launcher", "sweep")) for text in overrides):
            self._check_sweep(overrides)
        for job in self._jobs(completed_arguments([o for o in overrides if not _is_hydra(o)])):
            with readable_configs():
                config = self._composer.config(job)
            if config is None:
                return
            self.config = config
            self._check_run(checked_config(config, overrides), overrides)

    def _jobs(self, overrides: list[str]) -> list[list[str]]:
        """Return the overrides of the first jobs of an experiment that sweeps by itself; else the overrides."""
        from hydra.core.override_parser.overrides_parser import OverridesParser

        from mtx.app.corrected_command import is_override
        from mtx.app.hydra_internals import grid_of
        from mtx.app.launch_settings_check import check_ranges
        from mtx.app.override_errors import starts_sweep

        if not overrides or not overrides[0].startswith("experiment=") or not all(map(is_override, overrides)):
            return [overrides]
        parsed = OverridesParser.create(config_loader=self._loader).parse_overrides(overrides)
        if not starts_sweep(parsed, self._loader):
            return [overrides]
        check_ranges(parsed)
        return grid_of(parsed)[:2]

    def _check_sweep(self, overrides: Sequence[str]) -> None:
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        from mtx.app.hydra_internals import omegaconf_errors_as_hydra_errors
        from mtx.app.override_errors import composition_error_message, readable_configs
        from mtx.app.sweep_plan import check_sweep_settings
        from mtx.errors import ConfigError

        try:
            with omegaconf_errors_as_hydra_errors():
                cfg = self._original(self._name, list(overrides), run_mode=RunMode.MULTIRUN)
            check_sweep_settings(cfg)
        except (HydraException, OmegaConfBaseException) as error:
            with readable_configs():
                message = composition_error_message(error, overrides, loader=self._loader)
            raise ConfigError(message) from error

    def _check_run(self, config: Any, overrides: Sequence[str]) -> None:
        from mtx.components.check_and_build import build
        from mtx.experiment.check import check_only
        from mtx.experiment.run_context import Run
        from mtx.progress.literal_console import PlainConsole

        build({**config, "task": {**config["task"], "_partial_": True}}, "task")
        if "datamodule" not in config:
            return
        with tempfile.TemporaryDirectory(prefix="mtx-fuzz-") as folder:
            check_only(Run(config, output_dir=folder, console=PlainConsole(file=io.StringIO()), overrides=overrides))

    def _cached(self, config_name: str, overrides: list[str], **options: Any) -> Any:
        return pickle.loads(self._load(config_name, tuple(overrides), tuple(options.items())))  # faster than deepcopy

    def _uncached(self, config_name: str, overrides: tuple[str, ...], options: tuple[tuple[str, Any], ...]) -> bytes:
        return pickle.dumps(self._original(config_name, list(overrides), **dict(options)))


def _cached_method(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method of a config source that keeps its results, since the packaged files stay as they are."""
    known: dict[Any, bytes] = {}

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        key = (self.provider, self.path, arguments, tuple(options.items()))
        if key not in known:
            known[key] = pickle.dumps(method(self, *arguments, **options))
        return pickle.loads(known[key])

    return call


def _is_hydra(override: str) -> bool:
    return re.match(r"[+~]*hydra\b", override) is not None
