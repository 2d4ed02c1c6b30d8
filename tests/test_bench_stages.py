"""The benchmarks of single stages run, find the same as what they compare with, and print ratios."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm_process

SCRIPTS = Path(__file__).parents[1] / "scripts"


def ratios(script: str) -> dict[str, float]:
    done = warm_process.run(SCRIPTS / script, "--quick", "--sample")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT THE CORPUS OF THE PUBLISHED TABLE")
    rows = [line for line in done.stdout.splitlines() if len(line) == 74 and line[-1].isdigit()]
    return {row[:44].strip(): float(row[64:]) for row in rows}


@pytest.mark.slow
def test_bench_encode_compares_with_the_bare_call() -> None:
    found = ratios("bench_encode.py")
    assert found["mtx: read, encode, write"] == 1
    assert found["bare encode_batch_fast"] > 0
    assert found["bare call, ids converted to lists"] > 0


@pytest.mark.slow
def test_bench_scale_compares_with_the_bare_call_on_generated_pairs() -> None:
    done = warm_process.run(SCRIPTS / "bench_scale.py", "--quick", "--sample", "--check")
    assert done.returncode == 0, done.stderr
    checked, growth, compared = done.stdout.splitlines()[-3:]
    assert checked.startswith("mtx and the library return the same ids for all 4")
    assert growth.startswith("distinct words grow with words^0.")
    assert re.search(r" 500 pairs, one core: mtx [\d,]+ pairs/s, bare [\d,]+ pairs/s, ratio [\d.]+; ", compared)


@pytest.mark.slow
def test_bench_filter_compares_with_plain_python() -> None:
    found = ratios("bench_filter.py")
    assert found["mtx"] == 1
    assert found["plain Python"] > 0


@pytest.mark.slow
def test_bench_callbacks_times_steps_with_and_without() -> None:
    done = warm_process.run(SCRIPTS / "bench_callbacks.py", "--rounds", "1", "--steps", "3", "--pairs", "2000")
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if len(line) == 42 and line[0] != " "]
    rows = {line[:20].strip(): float(line[32:]) for line in table}
    assert rows["no callback"] == 1
    assert rows["DataCosts"] > 0


@pytest.mark.slow
def test_bench_startup_times_commands_beside_hydra_and_another_version() -> None:
    command = [sys.executable, SCRIPTS / "bench_startup.py", "--rounds", "1", "--only", "help"]
    done = subprocess.run([*command, "--before", sys.executable], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    rows = {line[:24].strip(): line[24:].split() for line in done.stdout.splitlines()}
    assert float(rows["import hydra"][2]) == 1
    assert float(rows["--help"][2]) > 0
    assert float(rows["--help"][-1]) > 0, "now ÷ before"


@pytest.mark.slow
def test_bench_checks_compares_preparations() -> None:
    done = warm_process.run(SCRIPTS / "bench_checks.py", "--rounds", "1", "--pairs", "3000")
    assert done.returncode == 0, done.stderr
    rows = {line[:44].strip(): line[44:].split() for line in done.stdout.splitlines()}
    assert float(rows["prepare, with comparison"][0]) > 0
    assert float(rows["ratio"][0]) > 0
    assert any(name.startswith("SHA-256 of raw") for name in rows)
