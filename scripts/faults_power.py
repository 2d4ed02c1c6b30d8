"""Simulate a power cut after each step of `prepare`, with a model of a disk that keeps only synced data.

A process prepares a corpus while each system call that changes the disk is recorded. After each call, the script
computes the states in which the disk may be when the power returns:

- strict: each folder has the names of its last fsync, and each file the content of its last fsync, else no content;
- ahead: all names are on disk, but only synced content;
- torn: as ahead, with half of the content that was not synced;
- mixed: each name and each content is randomly in its old or new state.

SQLite writes its files with system calls that Python does not see, so these files are taken as they are after each
call. SQLite guarantees that it syncs them (WAL, synchronous=FULL); other tests check both settings.
"""

import os
import pickle
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np
from faults_kills import Kills, say_steps
from faults_store import Child, Found, ask, look, look_apart, small_recipe, store_at

from mtx.data.preparation import prepare

CALLS = ("fsync", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
KINDS = ("strict", "ahead", "torn", "mixed")
OWN_SYNC = "manifests.sqlite"  # SQLite syncs the files whose names contain this
RUN_AGAIN = 0.05  # share of the disk states on which `prepare` runs again

Tree = dict[str, bytes | None]  # content of each file by relative path; None: a folder


@dataclass(frozen=True)
class Step:
    """A system call that changed the disk: its name, and the relative path that it changed."""

    call: str
    path: str


class Disk:
    """Model of the files below `root` and of the names and contents that are synced.

    Args:
        root: the folder that is watched.
        step: called after each system call that changes something below `root`.
    """

    def __init__(self, root: Path, step: Callable[[Step], None]) -> None:
        self.root = root
        self._step = step
        self._contents: dict[int, bytes] = {}  # by inode, as of the last fsync
        self._names: dict[int, dict[str, int]] = {}  # by inode of the folder: inodes by name, as of the last fsync
        self._held: dict[int, int] = {}  # an open descriptor per inode, so that no inode number is reused
        self._names[root.stat().st_ino] = {}
        self._folders = {root.stat().st_ino}

    def watch(self) -> None:
        """Replace the functions of `os` that change the disk by recording ones, for the rest of the process."""
        for call in CALLS:
            setattr(os, call, self._watched(call, getattr(os, call)))

    def trees(self, random: np.random.Generator) -> Iterator[tuple[str, Tree]]:
        """Yield the disk state of each kind: `strict`, `ahead`, `torn` and `mixed`."""
        self._see(self.root)
        for kind in KINDS:
            tree: Tree = {}
            self._draw(kind, random, self.root.stat().st_ino, self.root, "", tree)
            yield kind, tree

    def _watched(self, call: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def watched(path: Any, *more: Any, **options: Any) -> Any:
            at = Path(f"/proc/self/fd/{path}").readlink() if call == "fsync" else Path(os.fsdecode(path))
            done = original(path, *more, **options)
            about = Path(os.fsdecode(more[0])) if call in ("rename", "replace", "link") else at
            if about.is_relative_to(self.root):
                self._see(self.root)
                if call == "fsync":
                    self._sync(os.fstat(path).st_ino, about)
                self._step(Step(call, str(about.relative_to(self.root))))
            return done

        return watched

    def _sync(self, inode: int, path: Path) -> None:
        if path.is_dir():
            self._names[inode] = _names_in(path)
        else:
            self._contents[inode] = path.read_bytes()

    def _see(self, folder: Path) -> None:
        for name, inode in _names_in(folder).items():
            path = folder / name
            if inode not in self._held:
                self._held[inode] = os.open(path, os.O_RDONLY)
                if path.is_dir():
                    self._folders.add(inode)
            if path.is_dir():
                self._see(path)

    def _draw(
        self, kind: str, random: np.random.Generator, inode: int, now: Path | None, below: str, tree: Tree
    ) -> None:
        """Add the content of a folder to `tree`; `now` is the current path of the folder, None if it was removed."""
        synced, current = self._names.get(inode, {}), _names_in(now) if now is not None else {}
        for name in sorted(synced.keys() | current.keys()):
            ahead = {"strict": False, "mixed": bool(random.integers(2))}.get(kind, True) or OWN_SYNC in name
            chosen = (current if ahead else synced).get(name)
            if chosen is None:
                continue
            here = now / name if now is not None and current.get(name) == chosen else None
            if chosen in self._folders:
                tree[below + name] = None
                self._draw(kind, random, chosen, here, f"{below}{name}/", tree)
            else:
                tree[below + name] = self._content(kind, random, chosen, name)

    def _content(self, kind: str, random: np.random.Generator, inode: int, name: str) -> bytes:
        if inode in self._contents and OWN_SYNC not in name:
            return self._contents[inode]
        with open(f"/proc/self/fd/{self._held[inode]}", "rb") as file:  # noqa: PTH123  (the file may have no name)
            content = file.read()
        if OWN_SYNC in name:
            return content
        share = {"torn": 0.5, "mixed": random.random()}.get(kind, 0.0)
        return content[: int(len(content) * share)]


@dataclass(frozen=True)
class State:
    """A possible state of the disk after a power cut, and the names that had been reported as stored before."""

    kind: str
    after: Step
    tree: Tree
    acked: frozenset[str]


def record(option: str, corpus: Path, root: Path, random: np.random.Generator) -> tuple[list[Step], list[State]]:
    """Prepare a corpus in the new folder `root`, and return all steps and the different possible disk states.

    Call this function in a new process, because it replaces functions of `os` for the rest of the process.
    """
    root.mkdir()
    steps: list[Step] = []
    states: dict[str, State] = {}
    acked: set[str] = set()

    def draw(step: Step) -> None:
        for kind, tree in disk.trees(random):
            key = repr(sorted(tree.items(), key=lambda item: item[0]))
            states[key] = State(kind, step, tree, frozenset(acked))  # equal states: keep the last, with most acks

    def add(step: Step) -> None:
        steps.append(step)
        draw(step)

    def say(line: str) -> None:
        state, _, name = line.partition(" ")
        if state == "stored":
            acked.add(name)
        draw(Step(state, name))

    disk = Disk(root, add)
    store = store_at(option, root)
    say_steps(store, say)
    disk.watch()
    prepare(small_recipe(corpus), store)
    return steps, list(states.values())


def fail_power(
    option: str, corpus: Path, folder: Path, random: np.random.Generator, clean: Found, most: int | None = None
) -> Kills:
    """Cut the power after each step, in each way, and count the faults in the resulting stores.

    `most` is the maximal number of disk states to check, chosen randomly; None: all states are checked.
    """
    file = folder / "states.pickle"  # passes the states from a process of this script to another
    ask(lambda: file.write_bytes(pickle.dumps(record(option, corpus, folder / "watched", random))))
    steps, states = pickle.loads(file.read_bytes())
    if most is not None and most < len(states):
        states = [states[number] for number in sorted(random.choice(len(states), most, replace=False))]
    kills = Kills(kills=len(states), runs=len(steps))
    problems = ask(lambda: [_problems(option, state, folder / "found", clean) for state in states])
    assert isinstance(problems, list)
    for state, (damaged, lost, differing) in zip(states, problems, strict=True):
        kills.acks += len(state.acked)
        kills.hit[state.kind] += 1
        at = f"{state.kind}, after {state.after.call} {state.after.path}: "
        kills.damaged += [at + problem for problem in damaged]
        kills.lost += [at + name for name in lost]
        kills.differing += [at + name for name in differing]
    for number in np.flatnonzero(random.random(len(states)) < RUN_AGAIN):
        _run_again(kills, option, corpus, states[number], folder / "found", clean)
    return kills


def _problems(option: str, state: State, root: Path, clean: Found) -> tuple[list[str], list[str], list[str]]:
    _write(root, state.tree)
    found = look(store_at(option, root))
    kills = Kills()
    kills.compare(found, set(state.acked), clean)
    return kills.damaged, kills.lost, kills.differing


def _run_again(kills: Kills, option: str, corpus: Path, state: State, root: Path, clean: Found) -> None:
    _write(root, state.tree)
    lines = Child(lambda say: prepare(small_recipe(corpus), store_at(option, root)) and say("done")).lines()
    if lines != ["done"]:
        kills.failed.append(f"run on {state.kind} state after {state.after}: {lines}")
    elif look_apart(option, root) != clean:
        kills.differing.append(f"run on {state.kind} state after {state.after}")


def kill_at_each_step(option: str, corpus: Path, folder: Path, clean: Found, every: int = 1) -> Kills:
    """Kill a process after its step 1, 2, … (or every Nth step), each time on a new store, and prepare again."""
    kills = Kills()
    number = every
    while True:
        root = folder / f"step-{number}"
        child = Child(lambda say, root=root, number=number: _die_at(option, corpus, root, number, say))
        lines = child.lines()
        if not child.killed:
            if lines[-1:] != ["done"]:
                kills.failed.append(str(lines[-1:]))
            return kills
        kills.kills, kills.runs = kills.kills + 1, kills.runs + 1
        acked = {line.removeprefix("stored ") for line in lines if line.startswith("stored ")}
        kills.compare(look_apart(option, root), acked, clean)
        _run_again_in_place(kills, option, corpus, root, clean, number)
        shutil.rmtree(root)
        number += every


def _die_at(option: str, corpus: Path, root: Path, number: int, say: Callable[[str], None]) -> None:
    root.mkdir()
    passed = 0

    def step(_: Step) -> None:
        nonlocal passed
        passed += 1
        if passed == number:
            os.kill(os.getpid(), signal.SIGKILL)

    store = store_at(option, root)
    say_steps(store, say)
    Disk(root, step).watch()
    prepare(small_recipe(corpus), store)
    say("done")


def _run_again_in_place(kills: Kills, option: str, corpus: Path, root: Path, clean: Found, number: int) -> None:
    lines = Child(lambda say: prepare(small_recipe(corpus), store_at(option, root)) and say("done")).lines()
    if lines != ["done"]:
        kills.failed.append(f"run after a kill at step {number}: {lines}")
    elif look_apart(option, root) != clean:
        kills.differing.append(f"run after a kill at step {number}")


def _names_in(folder: Path) -> dict[str, int]:
    return {entry.name: entry.inode() for entry in os.scandir(folder)}


def _write(root: Path, tree: Tree) -> None:
    if root.exists():
        shutil.rmtree(root)
    root.mkdir()
    for name, content in sorted(tree.items()):
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
