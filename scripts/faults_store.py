"""Common parts of the fault injection: a small corpus, stores of each option, a full check of a store, and forks."""

import ctypes
import hashlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas  # noqa: F401  (pyarrow imports pandas lazily; imported here once, instead of in each fork)
import pyarrow as pa
import pyarrow.pandas_compat
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtx.data.filter.default import DefaultFilter
from mtx.data.garbage_collection import store_leftovers
from mtx.data.preparation import Recipe
from mtx.data.split import HeldOut
from mtx.data.store import Store
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.verify import verify_store
from mtx.errors import MtxError
from mtx.infra.dataset.sources.local import LocalDownloader

CONF = Path(__file__).resolve().parents[1] / "conf/storage"
OPTIONS = [name for name in ("sqlite_arrow", "files_arrow", "shelve_jsonl") if (CONF / f"{name}.yaml").exists()]
PR_SET_PDEATHSIG = 1  # option of prctl(2): the signal that a process gets when its parent dies

Say = Callable[[str], None]


@dataclass
class Found:
    """Result of a full check of a store: the digest of each intact entry, and the problem of each damaged entry."""

    content: dict[str, str] = field(default_factory=dict)
    damaged: dict[str, str] = field(default_factory=dict)


def write_corpus(path: Path, num_pairs: int, random: np.random.Generator) -> Path:
    """Write pairs of random words as JSON Lines; all lines differ, so that the filter keeps nearly all pairs."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzäöüß"))
    words = ["".join(random.choice(letters, size)) for size in random.integers(2, 10, 500)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(num_pairs):
            src, tgt = (" ".join(random.choice(words, random.integers(4, 15))) for _ in range(2))
            file.write(json.dumps({"src": f"{src} {number}", "tgt": f"{tgt} {number}"}) + "\n")
    return path


def small_recipe(path: Path, held_out: int = 50) -> Recipe:
    """Return a recipe with all stages, subword sampling included, which prepares a small corpus in well under 1 s."""
    return Recipe(
        downloader=LocalDownloader(path=str(path)),
        held_out=HeldOut(validation=held_out, test=held_out),
        filter=DefaultFilter(),
        tokenizer=BPETokenization(vocab_size=400, dropout=0.1),
    )


def store_at(option: str, root: Path) -> Store:
    """Return a store in the folder `root`, with the settings of a storage option."""
    config = OmegaConf.load(CONF / f"{option}.yaml")
    config["root"] = str(root)
    store = instantiate(config)
    assert isinstance(store, Store)
    return store


def look(store: Store) -> Found:
    """Check everything in a store, down to the last byte, as `task=verify full=true` does."""
    found = Found()
    try:
        found.damaged = {finding.name: finding.reason for finding in verify_store(store, full=True).findings}
        for name in store.repo.oal.get_all_names():
            if name not in found.damaged:
                found.content[name] = _digest(store.repo.oal.read(name), store.repo.fal.sha256(name))
        for artifacts in (store.tokenizers, store.words):
            for name in artifacts.get_all_names():
                if name not in found.damaged:
                    files = sorted(artifacts.open(name).iterdir())
                    found.content[name] = _digest({path.name: path.read_bytes().hex() for path in files})
    except Exception as error:  # any exception means that the store is damaged
        found.damaged["the store"] = f"{type(error).__name__}: {error}"
    return found


def tidy(store: Store) -> tuple[int, list[str]]:
    """Remove the leftovers that `task=gc` finds; return their number, and the temporary files that `task=gc` misses."""
    found = store_leftovers(store, orphans=False)
    for leftover in found:
        leftover.remove()
    missed = [path for path in store.root.rglob("*") if path.parent.name == "scratch" or ".tmp" in path.suffixes]
    return len(found), [str(path.relative_to(store.root)) for path in missed]


class Child:
    """A forked process that reports lines through a pipe; the kernel kills the process when its parent dies."""

    def __init__(self, work: Callable[[Say], object]) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            _run(work, writing)
        os.close(writing)
        self._reading = reading
        self.status: int | None = None

    def kill(self) -> None:
        """Kill the process with SIGKILL, if it still runs."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> bool:
        """Return whether the process has ended, without waiting."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = status if pid else None
        return self.status is not None

    def lines(self) -> list[str]:
        """Wait until the process ends, and return all lines that it reported."""
        with open(self._reading, encoding="utf-8") as pipe:  # noqa: PTH123  (a file descriptor, not a path)
            said = pipe.read()
        if self.status is None:
            self.status = os.waitpid(self.pid, 0)[1]
        return said.splitlines()

    @property
    def killed(self) -> bool:
        """Whether a signal ended the process."""
        return self.status is not None and os.WIFSIGNALED(self.status)


def _run(work: Callable[[Say], object], pipe: int) -> None:
    code = 1
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        pa.set_cpu_count(1)
        work(lambda line: os.write(pipe, f"{line}\n".encode()) and None)
        code = 0
    except BaseException as error:
        os.write(pipe, f"error {type(error).__name__}: {error}".replace("\n", " ").encode() + b"\n")
        if not isinstance(error, MtxError | KeyboardInterrupt):
            traceback.print_exc()
    finally:
        os._exit(code)


def ask(work: Callable[[], object]) -> object:
    """Run `work` in a forked process, and return its result, which is passed as JSON.

    Raises RuntimeError if `work` raises an error or the process dies.
    """
    child = Child(lambda say: say("answer " + json.dumps(work())))
    for line in child.lines():
        if line.startswith("answer "):
            return json.loads(line.removeprefix("answer "))
        raise RuntimeError(line)
    raise RuntimeError(f"the process ended with status {child.status}")


def look_apart(option: str, root: Path) -> Found:
    """Check a store in a forked process, because this process must start no threads before it forks again."""
    answer = ask(lambda: vars(look(store_at(option, root))))
    return Found(**answer)  # type: ignore[arg-type]


def wait_until(moment: float) -> None:
    """Sleep until `time.monotonic()` reaches `moment`."""
    time.sleep(max(0.0, moment - time.monotonic()))


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
