"""Run processes that add, read and remove datasets of one store at once, and count lost updates and partial reads."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from faults_store import Child, Say, ask, look, store_at

from mtx.data.dataset import TranslationDataset
from mtx.data.repo import DatasetRepo
from mtx.errors import NotStoredError

SHARED_S = 0.5  # seconds after which all processes request the same new dataset, which only one may build
MOST_KEPT = 20  # datasets that a process keeps at most, without the shared datasets


@dataclass
class Writers:
    """Counts and faults of the processes; all lists must be empty."""

    operations: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    undead: list[str] = field(default_factory=list)
    built_twice: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return sum(map(len, (self.errors, self.lost, self.undead, self.built_twice, self.damaged)))


class _Writer:
    """One process: adds, reads and removes its own datasets, reads datasets of others, and builds shared ones."""

    def __init__(self, repo: DatasetRepo, number: int, random: np.random.Generator) -> None:
        self.repo = repo
        self.number = number
        self.random = random
        self.kept: list[str] = []
        self.added = 0
        self.tick = -1
        self.operations: Counter[str] = Counter()
        self.built: list[str] = []
        self.errors: list[str] = []

    def run(self, began: float, seconds: float) -> None:
        """Run random operations until `seconds` after `began`, a time that all processes share."""
        while (passed := time.monotonic() - began) < seconds:
            steps = [self.add, self.read_own, self.read_other, self.remove, self.list]
            step = steps[self.random.choice(len(steps), p=[0.35, 0.15, 0.2, 0.25, 0.05])]
            try:
                self.shared(int(passed / SHARED_S))
                step()
            except Exception as error:
                self.errors.append(f"{step.__name__}: {type(error).__name__}: {error}")

    def add(self) -> None:
        if len(self.kept) >= MOST_KEPT:
            return self.remove()
        name = f"own-{self.number}-{self.added}"
        self.added += 1
        assert len(self.repo.add(_dataset(name, self.random))) > 0
        self.kept.append(name)
        self.operations["added"] += 1
        return None

    def read_own(self) -> None:
        if self.kept:
            name = self.kept[self.random.integers(len(self.kept))]
            assert self.repo.get(name).rows[0]["src"] == name
            self.operations["read"] += 1

    def read_other(self) -> None:
        names = self.repo.oal.get_all_names()
        if names:
            name = names[self.random.integers(len(names))]
            try:
                assert self.repo.get(name).rows[0]["src"] == name
                self.operations["read"] += 1
            except NotStoredError:  # correct: another process removed the dataset after the names were listed
                self.operations["found removed"] += 1

    def remove(self) -> None:
        if self.kept:
            self.repo.remove(self.kept.pop(self.random.integers(len(self.kept))))
            self.operations["removed"] += 1

    def list(self) -> None:
        names = {dataset.id for dataset in self.repo.manifests()}
        assert names >= set(self.kept), f"not listed: {set(self.kept) - names}"
        self.operations["listed"] += 1

    def shared(self, tick: int) -> None:
        """Request the shared dataset of this tick, as all other processes do."""
        name = f"shared-{tick}"
        if tick == self.tick:
            return
        self.tick = tick

        def build() -> TranslationDataset:
            self.built.append(name)
            return _dataset(name, self.random)

        assert self.repo.get_or_build(name, build).rows[0]["src"] == name
        self.operations["shared datasets requested"] += 1


def write_at_once(option: str, root: Path, *, num_processes: int, seconds: float, seed: int) -> Writers:
    """Let processes work on one store for `seconds`, and compare its content with the operations that they report."""
    began = time.monotonic()
    seeds = np.random.SeedSequence(seed).spawn(num_processes)

    def start(number: int) -> Child:
        def work(say: Say) -> None:
            writer = _Writer(store_at(option, root).repo, number, np.random.default_rng(seeds[number]))
            writer.run(began, seconds)
            say(json.dumps([writer.kept, writer.operations, writer.built, writer.errors]))

        return Child(work)

    found = Writers()
    expected: set[str] = set()
    built: Counter[str] = Counter()
    for child in [start(number) for number in range(num_processes)]:
        lines = child.lines()
        if child.status != 0:
            found.errors.append(f"status {child.status}: {lines}")
            continue
        kept, operations, names, errors = json.loads(lines[-1])
        expected |= {*kept, *names}
        found.operations.update(operations)
        built.update(names)
        found.errors += errors
    found.built_twice = [name for name, times in built.items() if times > 1]
    stored, damaged = _stored(option, root)
    found.damaged = [f"{name}: {reason}" for name, reason in damaged.items()]
    found.lost = sorted(expected - stored)
    found.undead = sorted(stored - expected)
    found.operations["shared datasets built"] = built.total()
    return found


def _stored(option: str, root: Path) -> tuple[set[str], dict[str, str]]:
    """Return the ids in a store, and the damaged entries with their problems."""
    answer = ask(lambda: [store_at(option, root).repo.oal.get_all_names(), look(store_at(option, root)).damaged])
    assert isinstance(answer, list)
    return set(answer[0]), answer[1]


def _dataset(name: str, random: np.random.Generator) -> TranslationDataset:
    rows = [{"src": name, "tgt": "x" * int(random.integers(200))}] * int(random.integers(1, 50))
    return TranslationDataset(id=name, name=name, stage="raw", split="train", languages=("en", "de"), data=rows)
