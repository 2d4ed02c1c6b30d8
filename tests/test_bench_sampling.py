"""The benchmark of subword sampling runs and prints what docs/performance.md shows."""

from pathlib import Path

import pytest
import warm_process

SCRIPT = Path(__file__).parents[1] / "scripts/bench_sampling.py"


@pytest.mark.slow
def test_bench_sampling_compares_with_the_library() -> None:
    options = ["--sample", "--pairs", "500", "--vocab-size", "3000", "--rounds", "1"]
    done = warm_process.run(SCRIPT, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT THE CORPUS OF THE PUBLISHED TABLE")
    rows = [line.split() for line in done.stdout.splitlines() if "library, best" in line or line.startswith("mtx")]
    assert len(rows) == 6
    tokens = [int(row[-1].replace(",", "")) for row in rows]
    assert tokens[0] < tokens[1] == tokens[2]
    assert tokens[3] < tokens[4] == tokens[5]
    assert all(float(row[-2]) > 0 for row in rows)
