"""Fuzzing of settings: overrides of every option are composed and checked as `mtx` does it before any work."""

import logging
import os
import random
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fuzz_outcomes import Outcome, run_input
from fuzz_refusals import names_in, quoted_sentence, refusal_problem
from fuzz_setting_checker import Checker
from fuzz_setting_keys import Key, all_keys, option_names
from fuzz_setting_values import ANY, override_forms, values_of

OPUSFILTER_CONFIG = "steps: [{type: filter, parameters: {filters: [{LengthFilter: {unit: word}}]}}]"
MAX_SHOWN = 40  # failures of an option that are printed
CURRENT = "current-input.txt"  # which is left if a process ends


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
    is_composed = bool(checker.base_config(key.base))  # not without the plug-in that an option needs
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
            problem = checker.composition_problem if is_composed else lambda words: None
            return quoted or refusal_problem(message, names, composition_problem=problem)

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
