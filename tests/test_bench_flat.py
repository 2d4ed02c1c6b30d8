"""The benchmark of flat batches: arms of equal size, costs by real token, and the rates of collate."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtx.batches.batch_format import BatchFormat
from mtx.batches.pair_lengths import batch_lengths
from mtx.data.token_rows import EncodedPairs, TokenRows
from mtx.training.reference.transformer import TransformerTranslator

SCRIPT = Path(__file__).parents[1] / "scripts/bench_flat.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    spec = importlib.util.spec_from_file_location("bench_flat", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_flat"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_arms_have_about_equal_real_tokens_and_are_measured(bench: Any, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    lengths = random.integers(1, 20, 400)
    pairs = EncodedPairs(*[TokenRows.of([random.integers(4, 30, length).tolist() for length in lengths])] * 2)
    in_batch = batch_lengths(pairs, BatchFormat())
    arms = bench.all_arms(pairs, in_batch, BatchFormat(), 400)
    for arm in arms.values():
        tokens = [int((in_batch.source + in_batch.target)[rows].sum()) for rows in arm.batches]
        assert 360 < np.mean(tokens) * arm.accumulated <= 420
        assert sum(map(len, arm.batches)) == 400
    assert [arm.accumulated for arm in arms.values()] == [1, 4, 1, 1]
    assert arms[bench.FLAT].collator.batch_format.is_flat

    sizes = {"d_model": 8, "num_heads": 1, "dim_feedforward": 8, "num_encoder_layers": 1, "num_decoder_layers": 1}
    ids = {"source_vocab_size": 30, "target_vocab_size": 30, "pad_id": 0, "bos_id": 1, "eos_id": 2}
    model = TransformerTranslator(**ids, **sizes)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert all(bench.cost_of_updates(model, optimizer, arm, in_batch, 1) > 0 for arm in arms.values())

    bench.print_collate(pairs, arms, in_batch)
    lines = capsys.readouterr().out.splitlines()
    names = [line.split(",")[0].split()[0] for line in lines[1:]]
    assert names == ["token_budget", "random", "random_tokens", "random_tokens", "random_tokens"] * 2
    assert all(float(line.split()[-1]) > 0 for line in lines[1:])
