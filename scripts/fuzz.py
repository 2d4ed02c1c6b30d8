"""Fuzzing: give mtx broken and hostile files and settings, and count the failures.

    scripts/fuzz                             run 2,000 files per parser, and print a table
    scripts/fuzz --inputs 200 --only jsonl tsv
    scripts/fuzz --seconds 600               run as many files as possible in ten minutes
    scripts/fuzz settings                    compose and check overrides of every option
    scripts/fuzz settings --processes 2      the same result, with two processes
    scripts/fuzz settings --inputs 40 --only sampler/token_budget trainer/default

A file is a valid one with random changes: flipped bits, and deleted, repeated or swapped parts. Other changes insert
byte strings that often break parsers. A setting is a valid or invalid override of one key, made from the key's type
and bounds. The same seed gives the same inputs. An input passes if mtx accepts it, or refuses it with an error of its
own, within 10 seconds of CPU time. The refusal of a setting must also name the key. The exit code is 1 if an input
failed, or if the memory of the process grew by more than 1 GB.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from fuzz_files import fuzz_files, parsers
from fuzz_setting_keys import option_names
from fuzz_settings import fuzz_settings, hide_assumptions


def main(arguments: list[str] | None = None) -> int:
    """Run the fuzzer of files or of settings, and return 1 if an input failed."""
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("what", nargs="?", choices=("files", "settings"), default="files", help="default: files")
    said.add_argument("--inputs", type=int, help="files per parser, or settings per key; default: 2000, and 24")
    said.add_argument("--seconds", type=float, help="time limit of all parsers together")
    said.add_argument("--seed", type=int, default=0, help="seed of the random changes")
    said.add_argument("--only", nargs="+", help="names of the parsers or options to run, as printed in the table")
    said.add_argument("--processes", type=int, default=1, help="processes for the options of settings, default: 1")
    said.add_argument("--failures", type=Path, default=Path("fuzz-failures"), help="folder for the inputs that failed")
    options = said.parse_args(arguments)
    known = list(parsers()) if options.what == "files" else option_names()
    if unknown := set(options.only or ()) - set(known):
        said.error(f"--only: there is no {', '.join(unknown)}. Use one or more of: {', '.join(known)}")
    print(f"seed {options.seed}")
    if options.what == "settings":
        inputs = options.inputs or 24
        return fuzz_settings(only=options.only, inputs=inputs, seed=options.seed, processes=options.processes)
    inputs = options.inputs if options.inputs or options.seconds else 2000
    seconds = None if options.seconds is None else options.seconds / len(options.only or known)
    return fuzz_files(options, lambda divisor: _numbers(None if inputs is None else inputs // divisor, seconds))


def _numbers(inputs: int | None, seconds: float | None) -> Iterator[int]:
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (end is None or time.monotonic() < end) and (inputs is None or number < inputs):
        yield number
        number += 1


if __name__ == "__main__":
    hide_assumptions()
    sys.exit(main())
