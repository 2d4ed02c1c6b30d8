"""The measurement of plans works; what it finds is for people to read."""

from pathlib import Path

import pytest
import warm_process

SCRIPT = Path(__file__).parents[1] / "scripts/bench_plan.py"


@pytest.mark.slow
def test_a_quick_measurement_prints_all_tables() -> None:
    done = warm_process.run(SCRIPT, "--quick", "--sample")
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.split("\n") if line[:1] == "|"]

    padded = {row[0]: [float(cell) for cell in row[1:5]] for row in rows if len(row) == 9 and row[1][:2] == "0."}
    assert set(padded) >= {"random, 64", "sorted", "static_shapes, 32", "token_budget"}
    assert padded["sorted"][3] == 1
    assert padded["token_budget"][0] < padded["sorted"][0] < padded["random, 64"][0]

    few = [row for row in rows if row[0] in ("4", "8")]
    assert [int(row[1]) <= int(row[0]) for row in few] == [True, True]
    assert float(few[1][2]) < float(few[0][2])

    timed = [row for row in rows if len(row) == 10 and row[0] != "pairs" and "-" not in row[0]]
    assert [(row[0], row[2]) for row in timed] == [
        ("5,000", "token_budget"),
        ("5,000", "static_shapes"),
    ]
    assert all(float(cell) >= 0 for row in timed for cell in row[3:])
