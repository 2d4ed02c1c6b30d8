"""The benchmarks run and print what docs/performance.md shows."""

from pathlib import Path

import pytest
import warm_process

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.mark.slow
def test_bench_loader_compares_all_loaders_on_the_sample_corpus() -> None:
    pytest.importorskip("numba")
    pytest.importorskip("transformers")
    done = warm_process.run(SCRIPTS / "bench_loader.py", "--quick", "--pairs", "2000", "--sample")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("NOT THE CORPUS OF THE PUBLISHED TABLE")
    table = {line[:40].strip(): line[40:].split() for line in done.stdout.splitlines()}
    for name in ("bare plan, compiled row copy", "mtx", "mtx, 2 workers", "the original design, 32, tokenizing"):
        rate, _, padding, _, largest = table[name]
        assert float(rate) > 0
        assert 0 < float(padding) < 1
        assert int(largest.replace(",", "")) > 0
    assert table["mtx"][1] == "1.00"
    assert int(table["mtx"][4].replace(",", "")) <= 4096
