"""The benchmark of packed batches: which models of transformers are exact, and which are refused."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from mtx.errors import ConfigError, DataError
from mtx.training.pair_leakage import EXACT

SCRIPT = Path(__file__).parents[1] / "scripts/bench_packed.py"


@pytest.fixture(scope="module")
def bench() -> Any:
    pytest.importorskip("transformers")
    spec = importlib.util.spec_from_file_location("bench_packed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_packed"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "attention"), [("T5", "sdpa"), ("Marian", "eager"), ("Llama", "sdpa")])
def test_loss_and_gradients_are_those_of_padded_batches(bench: Any, name: str, attention: str) -> None:
    found = bench.difference(name, attention)
    assert max(found.loss, found.gradient) <= EXACT
    assert found.attention == attention


def test_a_model_with_positions_of_its_own_is_refused(bench: Any) -> None:
    with pytest.raises(ConfigError, match=r"^OPTForCausalLM mixes the pairs of a batch .*batch_format=huggingface$"):
        bench.difference("OPT", "sdpa")


def test_a_gradient_that_only_one_batch_gives_is_a_difference(bench: Any) -> None:
    import torch

    one, other = torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.5])
    assert bench.gradient_differences([one, None], [other, None]) == (0.5, 0.2)
    with pytest.raises(DataError, match="only one of both batches gives parameter 1 a gradient"):
        bench.gradient_differences([one, None], [one, one])
