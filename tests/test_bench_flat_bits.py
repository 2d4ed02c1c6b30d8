"""The learning half of the benchmark of flat batches: arms, updates, curves, and the table of differences."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import Lengths

SCRIPT = Path(__file__).parents[1] / "scripts/bench_flat_bits.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_flat_bits", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_flat_bits"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_updates_of_all_arms_have_about_equal_real_tokens_and_go_on_in_the_next_epoch(bench: Any) -> None:
    sizes = np.random.default_rng(0).integers(2, 30, (2, 600)).astype(np.int32)
    lengths = Lengths(sizes[0], np.maximum(sizes[0] + sizes[1] // 10 - 1, 1))
    for arm in bench.arms_by_name(lengths, BatchFormat(), 800).values():
        tokens, found = [], bench.updates(arm, lengths, 1)
        for _ in range(60):  # about two epochs
            rows = next(found)
            assert len(rows) == arm.accumulated * arm.num_ranks
            tokens.append(sum(int((lengths.source[each] + lengths.target[each]).sum()) for each in rows))
        assert 600 < np.mean(tokens) < 900


def test_a_curve_is_read_between_its_validations(bench: Any) -> None:
    curve = bench.Curve("a", 1, [100, 200], [3.0, 2.0], [10.0, 30.0])
    assert (curve.bits_at(150), curve.cpu_s_at(150)) == (2.5, 20.0)
    assert (curve.cpu_s_to(3.5), curve.cpu_s_to(2.25), curve.cpu_s_to(1.0)) == (10.0, 25.0, float("inf"))


def test_results_are_kept_in_a_file_and_differences_are_paired(
    bench: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ends = {"token_budget": [2.5, 2.6, 2.7], bench.FLAT: [2.0, 2.2, 2.1]}
    curves = [
        bench.Curve(arm, seed, [10_000, 20_000], [3.0, end], [1.0, 2.0])
        for arm, found in ends.items()
        for seed, end in enumerate(found)
    ]
    bench.write_curves(tmp_path / "curves", curves)
    assert list(bench.read_curves(tmp_path / "curves")) == curves
    bench.print_curves(curves)
    title, padded, flat, decided = capsys.readouterr().out.strip().splitlines()
    assert title.split()[:4] == ["at", "20,000", "real", "tokens"]
    # differences .5, .4, .6: mean .5, deviation .1, t of two degrees of freedom 2.920
    assert "+0.500 [+0.331, +0.669]" in padded
    assert "2.600 ± 0.100" in padded
    assert flat.split()[-1] == "1.00"
    assert decided.startswith(f"{bench.FLAT} and token_budget: {bench.FLAT} is best")
