"""Fuzzing of settings: overrides of every option are composed and checked as `mtx` does it before any work."""

import io
import logging
import os
import pickle
import random
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from fuzz_outcomes import Outcome, run_input
from fuzz_refusals import names_in, quoted_sentence, refusal_problem
from fuzz_setting_keys import Key, all_keys, option_names
from fuzz_setting_values import ANY, override_forms, values_of

if TYPE_CHECKING:
    from mtx.errors import MtxError

OPUSFILTER_CONFIG = "steps: [{type: filter, parameters: {filters: [{LengthFilter: {unit: word}}]}}]"
MAX_SHOWN = 40  # failures of an option that are printed
CURRENT = "current-input.txt"  # which is left if a process ends


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
        with readable_configs():
            config = self._composer.config(completed_arguments([o for o in overrides if not _is_hydra(o)]))
        if config is None:
            return
        self.config = config
        self._check_run(checked_config(config, overrides), overrides)

    def _check_sweep(self, overrides: Sequence[str]) -> None:
        from hydra.errors import HydraException
        from hydra.types import RunMode
        from omegaconf.errors import OmegaConfBaseException

        from mtx.app.hydra_internals import invalid_keys_of_lists
        from mtx.app.override_errors import composition_error_message, readable_configs
        from mtx.app.sweep_plan import check_sweep_settings
        from mtx.errors import ConfigError

        try:
            with invalid_keys_of_lists():
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


def annotation_of(key: Key, checker: Checker) -> Any:
    """Return the type of a key from its component's signature, or None."""
    from mtx.components.allowed_targets import TARGET_KEY, allowed_target
    from mtx.components.check_and_build import parameter_annotations

    if key.annotation is not None:
        return key.annotation
    node: Any = checker.base_config(key.base)
    *parts, last = key.name.split(".")
    for part in parts:
        node = node.get(part) if isinstance(node, dict) else None
    if not parts or not isinstance(node, dict) or TARGET_KEY not in node:
        return None
    names, _ = parameter_annotations(allowed_target(node[TARGET_KEY], ".".join(parts)))
    return names.get(last)


def inputs_of(key: Key, annotation: Any, draw: random.Random, number: int) -> Iterator[list[str]]:
    """Yield the overrides of at least `number` inputs for a key: values for its type, any values, and other forms."""
    values, forms = values_of(annotation), override_forms(key.name)
    forms = draw.sample(forms, min(len(forms), number // 4)) if key.pattern == "{key}={value}" else []
    some = draw.sample(values, min(len(values), number // 2))
    some += [draw.choice(ANY) for _ in range(number - len(some) - len(forms))]
    for value in some:
        yield [*key.base, key.pattern.format(key=key.name, value=value)]
    for text in forms:
        yield [*key.base, text]


def fuzz_key(key: Key, checker: Checker, outcome: Outcome[str], draw: random.Random, number: int) -> None:
    """Check at least `number` settings of a key, and add the results to `outcome`."""
    from mtx.components.checked_options import problem_of

    annotation = annotation_of(key, checker)
    for overrides in inputs_of(key, annotation, draw, number):
        typed = overrides[-1]
        Path(CURRENT).write_text(shlex.join(overrides), encoding="utf-8", errors="surrogateescape")

        def accepted_problem(typed: str = typed) -> str | None:
            if annotation is None or checker.config is None or not typed.startswith(f"{key.name}="):
                return None
            node: Any = checker.config
            for part in key.name.split("."):
                node = node.get(part) if isinstance(node, dict) else None
            completed = key.name.partition(".")[0] in ("model", "logger") and node is None
            return None if completed else problem_of(f"accepted, but {key.name}", annotation, node)

        def refusal(message: str, typed: str = typed) -> str | None:
            quoted = quoted_sentence(checker.refusal)
            names = (*key.shown, *names_in(typed))
            return quoted or refusal_problem(message, names, composition_problem=checker.composition_problem)

        run_input(
            outcome,
            shlex.join(overrides),
            lambda overrides=overrides: checker.check(overrides),  # type: ignore[misc]  # the default binds it
            read_problem=accepted_problem,
            refusal_problem=refusal,
        )


def fuzz_settings(*, only: Sequence[str] | None, inputs: int, seed: int, processes: int) -> int:
    """Fuzz the keys of the options in `only`, or of all, print a table, and return 1 if an input failed.

    Args:
        only: names of options, such as `sampler/bucket`, in the order to run them; None: all.
        inputs: settings per key, at least.
        seed: seed of the values that are drawn.
        processes: number of processes, each of which takes one option after the other.
    """
    options = list(only or option_names())
    num_keys = {option: len(_keys_of(option)) for option in options}
    print(f"{'option':<32} {'keys':>5} {'inputs':>7} {'accepted':>8} {'refused':>8} {'failed':>7} {'slowest':>9}")
    total: Outcome[str] = Outcome()
    with tempfile.TemporaryDirectory(prefix="mtx-fuzz-") as folder:
        call = partial(fuzz_option, inputs=inputs, seed=seed, folder=Path(folder))
        try:
            for option, outcome in _outcomes(call, options, processes):
                _show(option, num_keys[option], outcome)
                for given, what in outcome.failures[:MAX_SHOWN]:
                    print(f"  mtx {given[:300]}\n    {what}", flush=True)
                total.add(outcome)
        except BrokenProcessPool:
            for path in sorted(Path(folder).glob(f"*/{CURRENT}")):
                print(f"a process ended at this input: mtx {path.read_text(encoding='utf-8', errors='replace')}")
            return 1
    _show("all", sum(num_keys.values()), total)
    print(f"at least {inputs} inputs for each key")
    return int(bool(total.failures))


def _outcomes(
    call: Callable[[str], Outcome[str]], options: Sequence[str], processes: int
) -> Iterator[tuple[str, Outcome[str]]]:
    """Yield each option with its outcome, in the order of `options`."""
    if processes == 1:
        try:
            yield from ((option, call(option)) for option in options)
        finally:
            _checker().close()
            _checker.cache_clear()
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=hide_assumptions) as pool:
        yield from zip(options, pool.map(call, options), strict=True)


def hide_assumptions() -> None:
    """Log no assumptions of mtx, which are one line for each input."""
    logging.getLogger("mtx.assumption_log").setLevel(logging.ERROR)


def fuzz_option(option: str, *, inputs: int, seed: int, folder: Path) -> Outcome[str]:
    """Fuzz the keys of an option in a folder of its own inside `folder`, and return the outcome.

    Raises:
        ValueError: a key has fewer than `inputs` inputs.
    """
    before = Path.cwd()
    inside = folder / option.replace("/", "-")
    inside.mkdir()
    os.chdir(inside)  # relative paths in settings are in a folder with one file
    Path("filters.yaml").write_text(OPUSFILTER_CONFIG, encoding="utf-8")
    total: Outcome[str] = Outcome()
    try:
        for key in _keys_of(option):
            done = total.inputs
            fuzz_key(key, _checker(), total, random.Random(f"{seed} {key}"), inputs)
            if total.inputs - done < inputs:
                raise ValueError(f"{key.name} has {total.inputs - done} inputs instead of {inputs}")
        Path(CURRENT).unlink()
    finally:
        os.chdir(before)
    return total


@cache
def _checker() -> Checker:
    return Checker()  # one for each process, since it keeps the configs that it has composed


def _keys_of(option: str) -> list[Key]:
    return [key for key in all_keys() if key.option == option]


def _show(option: str, num_keys: int, outcome: Outcome[str]) -> None:
    print(
        f"{option:<32} {num_keys:>5,} {outcome.inputs:>7,} {outcome.read:>8,} {outcome.refused:>8,} "
        f"{len(outcome.failures):>7,} {outcome.slowest * 1000:>6,.0f} ms",
        flush=True,
    )
