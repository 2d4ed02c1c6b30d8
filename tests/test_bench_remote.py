"""The benchmark of shards in a bucket counts requests, and the cache stays within its bound."""

import re
from pathlib import Path

import pytest
import warm_process

SCRIPT = Path(__file__).parents[1] / "scripts/bench_remote.py"


@pytest.mark.slow
def test_a_quick_measurement_prints_both_tables() -> None:
    done = warm_process.run(SCRIPT, "--quick")
    assert done.returncode == 0, done.stderr
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.split("\n") if line[:1] == "|"
    ]
    table = {row[0]: row[1:] for row in rows}
    bound = re.search(r"storage\.cache_gb=([\d.e-]+)", done.stdout)
    assert bound is not None
    assert list(table)[:1] == ["epoch"]
    for way in ("up", "down", "again"):
        *requests, _, _, ratio, peak, stored = map(float, table[way])
        assert ratio > 0
        assert 0 < peak * 1e6 <= float(bound[1]) * 1e9 + 5000 < stored * 1e6  # the peak is rounded to 10 kB
        puts, gets, heads, listings = requests
        if way == "up":  # two objects for each of five datasets of a shard, and for a few further ones of the first
            assert 10 <= puts < 13
            assert heads == pytest.approx(puts / 2, abs=1)
            assert gets < 70
            assert listings < 1
        else:
            assert (puts, heads) == (0, 0)
            assert gets < 25
            assert listings < 5
    assert [float(table[f"file, {way}"][0]) > 0 for way in ("up", "down", "local copy with fsync")] == [True] * 3
