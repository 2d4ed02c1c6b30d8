"""kill -9 at random moments of `prepare`, alone and with several processes on one store."""

import statistics
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np
from faults_store import OPTIONS, Child, Found, Say, ask, look_apart, small_recipe, store_at, tidy, wait_until

from mtx.data.pipeline import prepare
from mtx.data.store import Store

STARTS_WITHIN_S = 0.2  # processes that share a store start at random moments of this time
STATES = {
    "begin": "looking, or waiting for another",
    "build": "building, rows not yet whole",
    "payload": "rows whole, no manifest yet",
    "stored": "just stored",
}


@dataclass
class Kills:
    """What so many kills did. The lists are to be empty."""

    kills: int = 0
    runs: int = 0
    acks: int = 0
    damaged: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    not_tidied: list[str] = field(default_factory=list)
    leftovers: int = 0
    hit: Counter[str] = field(default_factory=Counter)

    @property
    def faults(self) -> int:
        return sum(map(len, (self.damaged, self.lost, self.failed, self.differing, self.not_tidied)))

    def compare(self, found: Found, acked: set[str], clean: Found) -> None:
        """Count what is wrong in a store in which `acked` was reported as stored."""
        self.acks += len(acked)
        self.damaged += [f"{name}: {error}" for name, error in found.damaged.items()]
        self.lost += sorted(acked - found.content.keys() - found.damaged.keys())
        self.differing += [name for name, digest in found.content.items() if clean.content.get(name) != digest]

    def tidy(self, option: str, root: Path) -> None:
        """Remove what is left over, and count it; all of it is to be found."""
        num_found, missed = cast(tuple[int, list[str]], ask(lambda: tidy(store_at(option, root))))
        self.leftovers += num_found
        self.not_tidied += missed


def say_steps(store: Store, say: Say) -> None:
    """Have a store tell each step of what is stored through it; `stored` once a dataset or bundle was returned."""
    for layer in (store.repo, store.tokenizers, store.words):
        layer.get_or_build = _telling(layer.get_or_build, say)  # type: ignore[method-assign]
    create = store.repo.fal.create

    def told(name: str, data: Any) -> Any:
        info = create(name, data)
        say(f"payload {name}")
        return info

    store.repo.fal.create = told  # type: ignore[method-assign]


def _telling(get_or_build: Callable[..., Any], say: Say) -> Callable[..., Any]:
    @wraps(get_or_build)
    def told(name: str, build: Callable[..., Any], *more: Any) -> Any:
        def telling_build(*given: Any) -> Any:
            say(f"build {name}")
            return build(*given)

        say(f"begin {name}")
        made = get_or_build(name, telling_build, *more)
        say(f"stored {name}")
        return made

    return told


def start(option: str, corpus: Path, root: Path, delay_s: float = 0.0) -> Child:
    """Fork a process that prepares everything, and tells each step."""

    def work(say: Say) -> None:
        time.sleep(delay_s)
        store = store_at(option, root)
        say_steps(store, say)
        prepare(small_recipe(corpus), store)
        say("done")

    return Child(work)


def where(lines: list[str]) -> str:
    """Say what a process was doing when it said its last line: the stage, and how far."""
    if not lines:
        return "asking the source"
    state, _, name = lines[-1].partition(" ")
    return f"{name.partition('-')[0]}: {STATES[state]}" if state in STATES else state


class Killing:
    """Kills on stores of one option.

    Args:
        option: the storage option.
        corpus: what is prepared.
        random: decides the moments, and which of several processes are hit.
        timed_runs: undisturbed runs that are timed first, to know among which moments to choose.
    """

    def __init__(self, option: str, corpus: Path, random: np.random.Generator, *, timed_runs: int = 3) -> None:
        self.option = option
        self.corpus = corpus
        self.random = random
        self.timed_runs = timed_runs

    def clean(self, num_processes: int = 1) -> tuple[Found, float]:
        """Return what undisturbed runs store, and the seconds that they take: a median."""
        seconds = []
        for _ in range(self.timed_runs):
            with TemporaryDirectory() as folder:
                started = time.monotonic()
                children = [start(self.option, self.corpus, Path(folder)) for _ in range(num_processes)]
                said = [child.lines() for child in children]
                seconds.append(time.monotonic() - started)
                found = look_apart(self.option, Path(folder))
                assert all(lines[-1:] == ["done"] for lines in said), said
                assert found.content, found
                assert not found.damaged, found.damaged
        return found, statistics.median(seconds)

    def run(self, count: int, num_processes: int) -> Kills:
        """Kill `count` times, among `num_processes` on one store, each time a new one."""
        clean, takes_s = self.clean(num_processes)
        kills = Kills()
        while kills.kills < count:
            with TemporaryDirectory() as folder:
                kills.runs += 1
                acked = self._disturbed(kills, Path(folder), num_processes, takes_s)
                kills.compare(look_apart(self.option, Path(folder)), acked, clean)
                self._again(kills, Path(folder), clean)
        return kills

    def _disturbed(self, kills: Kills, root: Path, num_processes: int, takes_s: float) -> set[str]:
        """Run, kill some, wait for the others, and return what any of them reported as stored."""
        delays = self.random.uniform(0, STARTS_WITHIN_S, num_processes) * (num_processes > 1)
        began = time.monotonic()
        children = [start(self.option, self.corpus, root, delay) for delay in delays]
        victims = self.random.permutation(num_processes)[: self.random.integers(1, max(2, num_processes))]
        for moment, victim in sorted(zip(self.random.uniform(0, takes_s, len(victims)), victims, strict=True)):
            wait_until(began + moment)
            children[victim].kill()
        acked: set[str] = set()
        for child in children:
            lines = child.lines()
            acked |= {line.removeprefix("stored ") for line in lines if line.startswith("stored ")}
            if child.killed:
                kills.kills += 1
                kills.hit[where(lines)] += 1
            elif lines[-1:] != ["done"]:
                kills.failed.append(lines[-1] if lines else f"status {child.status}")
        return acked

    def _again(self, kills: Kills, root: Path, clean: Found) -> None:
        """Run again on what is left, and compare it with a clean run."""
        lines = start(self.option, self.corpus, root).lines()
        if lines[-1:] != ["done"]:
            kills.failed.append(f"again: {lines[-1] if lines else 'silent'}")
        found = look_apart(self.option, root)
        kills.damaged += [f"again: {name}: {error}" for name, error in found.damaged.items()]
        if found.content != clean.content:
            kills.differing.append(f"again: {sorted(found.content.items() ^ clean.content.items())}")
        kills.tidy(self.option, root)


__all__ = ["OPTIONS", "Killing", "Kills", "say_steps", "start", "where"]
