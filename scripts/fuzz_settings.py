"""Fuzzing of settings: overrides of every option are composed and checked as `mtx` does it before any work."""

import io
import os
import pickle
import random
import re
import shlex
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz_outcomes import Outcome, run_input
from fuzz_setting_keys import Key, all_keys
from fuzz_setting_values import ANY, override_forms, values_of

if TYPE_CHECKING:
    from mtx.errors import MtxError

OPUSFILTER_CONFIG = "steps: [{type: filter, parameters: {filters: [{LengthFilter: {unit: word}}]}}]"
MAX_SHOWN = 40  # failures of an option that are printed
FOREIGN = re.compile(  # sentences of Hydra and OmegaConf, which no refusal contains
    r"(Could not |Invalid type assigned|Cannot (convert|assign|merge)|Value '.*' (is not a valid|of type)|"
    r"Key '.*' is not in struct|Unsupported interpolation|Interpolation key|no viable alternative|Error merging)"
)
LEAST_CHARS = 12  # of a sentence of another library
COMMAND = re.compile(r": (mtx .+)$", re.MULTILINE)


class Checker:
    """Composes and checks overrides in this process, as a command does before any work."""

    def __init__(self) -> None:
        from mtx.app.grid_check import JobComposer
        from mtx.app.override_errors import CONFIG_NAME, hydra_loader

        self._context = hydra_loader()
        self._loader = self._context.__enter__()
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
        self._context.__exit__(None, None, None)

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


def _is_hydra(override: str) -> bool:
    return re.match(r"[+~]*hydra\b", override) is not None


def annotation_of(key: Key, checker: Checker) -> Any:
    """Return the type of a key from its component's signature, or None."""
    from mtx.components.allowed_targets import TARGET_KEY, allowed_target
    from mtx.components.check_and_build import parameter_annotations
    from mtx.errors import MtxError

    if key.annotation is not None:
        return key.annotation
    try:
        checker.check(key.base)
    except MtxError:
        return None
    node: Any = checker.config or {}
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
            return quoted or refusal_problem(message, (*key.shown, *_names_in(typed)))

        run_input(
            outcome,
            shlex.join(overrides),
            lambda overrides=overrides: checker.check(overrides),  # type: ignore[misc]  # the default binds it
            read_problem=accepted_problem,
            refusal_problem=refusal,
        )


def quoted_sentence(error: BaseException | None) -> str | None:
    """Return what is wrong if the message of an error has a sentence of the library whose error it explains."""
    from mtx.errors import MtxError
    from mtx.library_errors import library_reason

    message, cause = str(error), error
    while cause is not None:
        cause = cause.__cause__ or cause.__context__
        lines = str(cause).splitlines()
        if isinstance(cause, MtxError) or not lines or len(lines[0]) < LEAST_CHARS:
            continue
        if cause is not None and lines[0] in message and lines[0] not in library_reason(cause):
            return f"quotes {type(cause).__name__}: {message[:300]}"
    return None


def refusal_problem(message: str, shown: Sequence[str]) -> str | None:
    """Return why the message of a refusal is not good enough: it names no key, or its command does not parse."""
    if not any(name in message for name in shown):
        return f"names no key: {message[:300]}"
    if FOREIGN.search(message):
        return f"is a sentence of another library: {message[:300]}"
    if len(message.splitlines()) > 6:
        return f"has {len(message.splitlines())} lines: {message[:300]}"
    for command in COMMAND.findall(message):
        try:
            words = shlex.split(command)
        except ValueError as error:
            return f"proposes a command that no shell parses ({error}): {command}"
        from mtx.app.corrected_command import is_override

        if wrong := [word for word in words[1:] if not word.startswith("-") and not is_override(word)]:
            return f"proposes a command whose override is invalid ({wrong[0]}): {command}"
    return None


def _names_in(typed: str) -> list[str]:
    """Return what else names the override: as it was typed, or its key without `+` and `~`."""
    from mtx.redaction_and_escaping import visible_text

    key = typed.lstrip("+~- ").partition("=")[0]
    whole = [] if key == "hydra" else [key]
    return [visible_text(typed), repr(typed), *(repr(part) for part in key.split(".")), *whole]


def fuzz_settings(*, only: Sequence[str] | None, inputs: int, seed: int) -> int:
    """Fuzz the keys of the options in `only`, or of all, print a table, and return 1 if an input failed.

    Args:
        only: names of options, such as `sampler/bucket`, in the order to run them; None: all.
        inputs: settings per key, at least.
        seed: seed of the values that are drawn.
    """
    keys = [key for key in all_keys() if not only or key.option in only]
    if only:
        keys.sort(key=lambda key: only.index(key.option))  # in the order that was asked for
    print(f"{'option':<32} {'keys':>5} {'inputs':>7} {'accepted':>8} {'refused':>8} {'failed':>7} {'slowest':>9}")
    checker = Checker()
    before = Path.cwd()
    total: Outcome[str] = Outcome()
    least = 10**9
    with tempfile.TemporaryDirectory(prefix="mtx-fuzz-") as folder:
        os.chdir(folder)  # relative paths in settings are in a folder with one file
        Path("filters.yaml").write_text(OPUSFILTER_CONFIG, encoding="utf-8")
        try:
            for option in dict.fromkeys(key.option for key in keys):
                outcome: Outcome[str] = Outcome()
                own = [key for key in keys if key.option == option]
                for key in own:
                    done = outcome.inputs
                    fuzz_key(key, checker, outcome, random.Random(f"{seed} {key}"), inputs)
                    least = min(least, outcome.inputs - done)
                _show(option, len(own), outcome)
                for given, what in outcome.failures[:MAX_SHOWN]:
                    print(f"  mtx {given[:300]}\n    {what}", flush=True)
                total.read, total.refused = total.read + outcome.read, total.refused + outcome.refused
                total.failures += outcome.failures
                total.slowest = max(total.slowest, outcome.slowest)
        finally:
            os.chdir(before)
            checker.close()
    _show("all", len(keys), total)
    print(f"at least {least} inputs for each key")
    return int(bool(total.failures))


def _show(option: str, num_keys: int, outcome: Outcome[str]) -> None:
    print(
        f"{option:<32} {num_keys:>5,} {outcome.inputs:>7,} {outcome.read:>8,} {outcome.refused:>8,} "
        f"{len(outcome.failures):>7,} {outcome.slowest * 1000:>6,.0f} ms",
        flush=True,
    )
