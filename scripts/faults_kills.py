"""Kill processes with `kill -9` at random moments of `prepare`: one process, or several processes on one store."""

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

from mtx.data.preparation import prepare
from mtx.data.store import Store

STARTS_WITHIN_S = 0.2  # processes that share a store start at random moments within this many seconds
STATES = {
    "begin": "looking up, or waiting for another process",
    "build": "building, payload incomplete",
    "payload": "payload complete, no manifest yet",
    "stored": "just stored",
}


@dataclass
class Kills:
    """Counts and faults of a number of kills; all lists must be empty."""

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
        """Record the faults of a store, of which the entries in `acked` were reported as stored."""
        self.acks += len(acked)
        self.damaged += [f"{name}: {error}" for name, error in found.damaged.items()]
        self.lost += sorted(acked - found.content.keys() - found.damaged.keys())
        self.differing += [name for name, digest in found.content.items() if clean.content.get(name) != digest]

    def tidy(self, option: str, root: Path) -> None:
        """Remove the leftovers that task=gc finds and count them, and record temporary files that task=gc misses."""
        num_found, missed = cast(tuple[int, list[str]], ask(lambda: tidy(store_at(option, root))))
        self.leftovers += num_found
        self.not_tidied += missed


def say_steps(store: Store, say: Say) -> None:
    """Make a store report each step (`begin`, `build`, `payload`, and `stored` after a result was returned)."""
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
    """Fork a process that prepares the corpus in a store and reports each step."""

    def work(say: Say) -> None:
        time.sleep(delay_s)
        store = store_at(option, root)
        say_steps(store, say)
        prepare(small_recipe(corpus), store)
        say("done")

    return Child(work)


def where(lines: list[str]) -> str:
    """Return the stage of the last line that a process reported, and the state of that stage."""
    if not lines:
        return "reading the source, before the first step"
    state, _, name = lines[-1].partition(" ")
    return f"{name.partition('-')[0]}: {STATES[state]}" if state in STATES else state


class Killing:
    """Kill processes that use stores of one storage option.

    Args:
        option: the storage option.
        corpus: the corpus that the processes prepare.
        random: decides the moments of the kills, and which of several processes are killed.
        timed_runs: number of undisturbed runs, whose median time is the range of the random moments.
    """

    def __init__(self, option: str, corpus: Path, random: np.random.Generator, *, timed_runs: int = 3) -> None:
        self.option = option
        self.corpus = corpus
        self.random = random
        self.timed_runs = timed_runs

    def clean(self, num_processes: int = 1) -> tuple[Found, float]:
        """Return the content that undisturbed runs store, and their median time in seconds."""
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
        """Kill processes `count` times in total, among `num_processes` on one store, with a new store for each run."""
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
        """Start the processes, kill some, wait for the others, and return the names that were reported as stored."""
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
        """Prepare the corpus again in the store that the kills left, and compare the result with an undisturbed run."""
        lines = start(self.option, self.corpus, root).lines()
        if lines[-1:] != ["done"]:
            kills.failed.append(f"run after the kills: {lines[-1] if lines else 'no output'}")
        found = look_apart(self.option, root)
        kills.damaged += [f"run after the kills: {name}: {error}" for name, error in found.damaged.items()]
        if found.content != clean.content:
            kills.differing.append(f"run after the kills: {sorted(found.content.items() ^ clean.content.items())}")
        kills.tidy(self.option, root)


__all__ = ["OPTIONS", "Killing", "Kills", "say_steps", "start", "where"]
