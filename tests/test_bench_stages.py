"""The benchmarks of single stages run, find the same as what they compare with, and print ratios."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts"


def ratios(script: str) -> dict[str, float]:
    command = [sys.executable, SCRIPTS / script, "--quick", "--sample"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT THE CORPUS OF THE PUBLISHED TABLE")
    rows = [line for line in done.stdout.splitlines() if len(line) == 74 and line[-1].isdigit()]
    return {row[:44].strip(): float(row[64:]) for row in rows}


@pytest.mark.slow
def test_bench_encode_compares_with_the_bare_call() -> None:
    found = ratios("bench_encode.py")
    assert found["mtx: read, encode, write"] == 1
    assert found["bare encode_batch_fast"] > 0
    assert found["and the ids taken from what it returns"] > 0


@pytest.mark.slow
def test_bench_filter_compares_with_plain_python() -> None:
    found = ratios("bench_filter.py")
    assert found["mtx"] == 1
    assert found["plain Python"] > 0


@pytest.mark.slow
def test_bench_callbacks_times_steps_with_and_without() -> None:
    command = [sys.executable, SCRIPTS / "bench_callbacks.py", "--rounds", "1", "--steps", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if len(line) == 42 and line[0] != " "]
    rows = {line[:20].strip(): float(line[32:]) for line in table}
    assert rows["no callback"] == 1
    assert rows["DataCosts"] > 0
