"""Limits of memory: what prepare, fit and a sweep say when memory is exhausted, and whether the store stays whole.

For each command, the script finds the largest `ulimit -v` that stops it by bisection. It runs the command at that limit
and at half of it, on a store that has the raw text already. The exit code must not be 0, no stack trace may be shown,
and a message of mtx must say what to do. Then `task=verify full=true` must find the store intact, and the command must
complete without a limit on the same store. The exit code is 1 if any check fails.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

MTX = Path(sys.executable).with_name("mtx")
MB = 1 << 20
TIMEOUT_S = 240
LARGEST_MB = 8192  # enough for each command
STORE = ["downloader.n=2000", "storage.root=store"]
DATA = [*STORE, "tokenizer.vocab_size=1000"]
EARLIER = ["task=prepare", *STORE, "tokenizer=byte", "hydra.run.dir=earlier"]  # fills the store
TINY_MODEL = ["model.d_model=16", "model.num_heads=2", "model.dim_feedforward=16", "trainer.max_steps=3"]
COMMANDS = {
    "prepare": ["task=prepare", *DATA, "hydra.run.dir=run"],
    "fit": ["task=fit", *DATA, *TINY_MODEL, "trainer.enable_progress_bar=false", "hydra.run.dir=run"],
    "sweep": ["-m", "sampler=random,bucket", *DATA, "hydra.sweep.dir=sweep"],
}
# How lines begin that tell the user what ended a run or a job; a sweep counts its jobs, as in 1/2.
SPOKEN = re.compile(r"mtx: |\s*(\d+/\d+\s+)?job |\s*there is too little memory")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run under a limit: its exit code, its output, its time in seconds."""

    code: int
    output: str
    seconds: float

    def problems(self) -> list[str]:
        """Return what is wrong with the way in which the run says that memory is exhausted."""
        told = [line for line in self.output.splitlines() if SPOKEN.match(line)]
        problems = [] if self.code else ["exit code 0"]
        problems += ["a stack trace"] if "Traceback (most recent call last)" in self.output else []
        problems += ["no message of mtx"] if not any("memory" in line for line in told) else []
        problems += [f"damage is claimed: {line[:150]}" for line in told if "repair" in line]
        return problems


def main() -> int:
    options = _options()
    failed = 0
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
    for name in options.only:
        with TemporaryDirectory(prefix="mtx-limits-") as folder:
            command = COMMANDS[name]
            os.chdir(folder)
            largest = _largest_limit(command, options)
            for limit in (largest, largest // 2):
                run, problems = _checked(command, limit)
                while run.code == 0 and limit > largest // 2:  # near the limit, chance decides
                    limit -= options.resolution
                    run, problems = _checked(command, limit)
                failed += len(problems)
                native = sum(1 for line in run.output.splitlines() if _is_native(line))
                print(
                    f"{name:8} {limit:6} MB  exit code {run.code:4}  lines of native code {native}  "
                    f"{'; '.join(problems) or 'right'}\n    {_message(run.output)}",
                    flush=True,
                )
                if problems and options.verbose:
                    print(run.output)
            os.chdir("/")
    return 1 if failed else 0


def _largest_limit(command: Sequence[str], options: argparse.Namespace) -> int:
    """Return the largest limit in MB at which the command fails, by bisection between two limits."""
    fails, passes = options.smallest, options.largest
    while passes - fails > options.resolution:
        middle = (fails + passes) // 2
        with TemporaryDirectory(prefix="mtx-limit-") as folder:
            if _run(command, middle, folder).code:
                fails = middle
            else:
                passes = middle
    if passes == options.largest:
        raise RuntimeError(f"{command} fails with {fails} MB, so the script proves nothing")
    return fails


def _checked(command: Sequence[str], limit_mb: int) -> tuple[Run, list[str]]:
    """Run a command under a limit, then verify the store and run the command again without a limit."""
    with TemporaryDirectory(prefix="mtx-limit-") as folder:
        earlier = _run(EARLIER, None, folder)
        before = _datasets(folder)
        if earlier.code or not before:
            raise RuntimeError(f"{' '.join(EARLIER)} stores nothing, so the script proves nothing: {earlier.output}")
        run = _run(command, limit_mb, folder)
        problems = run.problems()
        if lost := before - _datasets(folder):
            problems.append(f"lost: {sorted(lost)}")
        verified = _run(["task=verify", "full=true", "storage.root=store"], None, folder)
        if verified.code:
            problems.append(f"the store is damaged: {verified.output[-300:]}")
        again = _run([*command, *(["sweep.resume=true"] if "-m" in command else [])], None, folder)
        if again.code:
            problems.append(f"the next run fails: {again.output[-300:]}")
        return run, problems


def _datasets(folder: str) -> set[str]:
    return {path.name for path in Path(folder, "store", "datasets").glob("*") if not path.name.startswith(".")}


def _run(arguments: Sequence[str], limit_mb: int | None, folder: str) -> Run:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if limit_mb is not None:
            resource.setrlimit(resource.RLIMIT_AS, (limit_mb * MB, limit_mb * MB))

    began = time.monotonic()
    done = subprocess.run(
        [MTX, *arguments],
        cwd=folder,
        preexec_fn=limit,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=TIMEOUT_S,
        check=False,
    )
    return Run(code=done.returncode, output=done.stdout, seconds=time.monotonic() - began)


def _is_native(line: str) -> bool:
    """Return whether a line is a message of a native library, which mtx cannot stop."""
    words = ("memory allocation of", "terminate called", "thread '", "panicked", "OpenBLAS", "what():", "backtrace")
    return any(word in line for word in words)


def _message(output: str) -> str:
    told = [line for line in output.splitlines() if SPOKEN.match(line) and "memory" in line]
    return told[-1][:200] if told else "(none)"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), help="which commands")
    parser.add_argument("--resolution", type=int, default=16, help="of the limit, in MB (default: 16)")
    parser.add_argument("--largest", type=int, default=LARGEST_MB, help="limit that stops no command, in MB")
    parser.add_argument("--smallest", type=int, default=0, help="limit that stops each command, in MB (default: 0)")
    parser.add_argument("--verbose", action="store_true", help="print the output of each run with a problem")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
