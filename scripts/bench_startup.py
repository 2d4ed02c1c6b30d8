"""Benchmark: total time of mtx commands, start-up included, relative to `python -c "import hydra"`.

Commands take turns, each in a new process, on a small store that is already filled. The first round is not counted: it
fills the store and writes the bytecode of all modules, as an installation does. With --before, the commands of another
version of mtx run in the same rounds.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HYDRA = "import hydra"
SMALL = ("downloader.n=500", "tokenizer.vocab_size=500", "datamodule.validation=20", "datamodule.test=20")
ONE_UPDATE = ("trainer.max_steps=1", "trainer.limit_val_batches=1", "model.d_model=32", "logger=none")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "--help": ("--help",),
    "task=prepare, warm": ("task=prepare", *SMALL),
    "task=show": ("task=show",),
    "task=options": ("task=options",),
    "task=verify": ("task=verify",),
    "task=gc": ("task=gc",),
    "task=check": ("task=check", *SMALL),
    "task=measure, warm": ("task=measure", *SMALL),
    "task=fit, 1 update": ("task=fit", *SMALL, *ONE_UPDATE),
}
BOUNDS = {"--help": 2.0, "task=show": 4.0, "task=options": 4.0, "task=verify": 4.0, "task=gc": 4.0}  # × `import hydra`


def main() -> None:
    options = _options()
    clock = children_seconds if options.cpu else time.perf_counter
    pythons = {"now": sys.executable} | ({"before": options.before} if options.before else {})
    names = [name for name in COMMANDS if not options.only or any(part in name for part in options.only)]
    first = ["task=prepare, warm"] if set(names) - {"--help"} else []  # fills the store that the commands read
    seconds: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds + 1):
            for version, python in pythons.items():
                commands = {HYDRA: [python, "-c", HYDRA]}
                for name in names if number else [*first, *names]:
                    commands[name] = [python, "-m", "mtx", *COMMANDS[name]]
                for name, command in commands.items():
                    taken = timed(command, Path(folder), version, clock)
                    seconds.setdefault((version, name), []).append(taken)
            print(f"round {number} of {options.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    counted = {key: taken[-options.rounds :] for key, taken in seconds.items()}
    print_table(counted, [HYDRA, *names])


def timed(command: Sequence[str], folder: Path, version: str, clock: Callable[[], float]) -> float:
    """Run a command in a new process, with the store of its version of mtx, and return the seconds."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["MTX_STORE"] = str(folder / f"store-{version}")
    started = clock()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=folder)
    seconds = clock() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return seconds


def children_seconds() -> float:
    """Return the processor time of all ended child processes of this process, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def print_table(seconds: Mapping[tuple[str, str], list[float]], names: Sequence[str]) -> None:
    """Print minimal and median seconds, and ratios of the minima, because other load can only increase a time."""
    has_before = ("before", HYDRA) in seconds
    print(f"\n{'':24}{'min s':>8}{'median s':>10}{'× hydra':>9}{'bound':>7}", end="")
    print(f"{'before min':>12}{'median':>8}{'now ÷ before':>14}" if has_before else "")
    for name in names:
        own = seconds["now", name]
        ratio = min(own) / min(seconds["now", HYDRA])
        bound = f"{BOUNDS[name]:.0f}" if name in BOUNDS else ""
        print(f"{name:24}{min(own):8.2f}{statistics.median(own):10.2f}{ratio:9.2f}{bound:>7}", end="")
        if has_before:
            former = seconds["before", name]
            print(f"{min(former):12.2f}{statistics.median(former):8.2f}{min(own) / min(former):14.2f}", end="")
        print()
    held = [name for name in names if name in BOUNDS]
    over = [name for name in held if min(seconds["now", name]) > BOUNDS[name] * min(seconds["now", HYDRA])]
    print(f"\nbounds: {'EXCEEDED by ' + ', '.join(over) if over else 'all held'}; ratios are ratios of the minima")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="number of measurements of each command")
    parser.add_argument("--before", metavar="PYTHON", help="python of another mtx installation to compare with")
    parser.add_argument("--cpu", action="store_true", help="measure processor time, which depends less on other load")
    parser.add_argument("--only", nargs="*", default=[], metavar="TEXT", help="measure only commands that contain TEXT")
    return parser.parse_args()


if __name__ == "__main__":
    main()
