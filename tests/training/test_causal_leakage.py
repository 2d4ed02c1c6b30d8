"""A model whose losses depend on other pairs of a row is refused before it trains."""

import pytest
import torch
from torch import Tensor

from mtx.batches.batch_format import BatchFormat
from mtx.batches.plan.planner import NO_PADDING
from mtx.batches.schema import is_causal
from mtx.errors import ConfigError
from mtx.evaluation.held_out_bits import pair_likelihood
from mtx.training.causal_leakage import check_rows_keep_pairs_apart


class Running(torch.nn.Module):
    """Sees the mean of the ids before a position: of its pair; or of the whole row, or of its row in several rows."""

    def __init__(self, sees: str) -> None:
        super().__init__()
        self.sees, self.table, self.num_calls = sees, torch.nn.Embedding(20, 20), 0

    def target_nats(self, batch: dict[str, Tensor]) -> Tensor:
        self.num_calls += 1
        assert is_causal(batch)
        assert not self.training
        segments = batch["segment_ids"]
        may_mix = self.sees == "row" or (self.sees == "row of several" and len(segments) > 1)
        is_seen = (
            torch.ones_like(segments[:, :, None] == segments[:, None, :])
            if may_mix
            else (segments[:, :, None] == segments[:, None, :])
        )
        return pair_likelihood(batch, is_seen.float().tril() @ self.table(batch["input_ids"])).nats


@pytest.mark.parametrize(("length_multiple", "num_rows"), [(1, 8), (1, 1), (NO_PADDING, 1)])
def test_a_model_that_keeps_pairs_apart_may_train(length_multiple: int, num_rows: int) -> None:
    model, layout = Running("pair").train(), BatchFormat(names="causal", length_multiple=length_multiple)
    check_rows_keep_pairs_apart(model, layout, 20, num_rows)
    assert model.num_calls == 2
    assert model.training
    with pytest.raises(ConfigError, match=r"Running mixes the pairs of a row .* the loss of another went from"):
        check_rows_keep_pairs_apart(Running("row"), layout, 20, num_rows)


def test_a_model_that_keeps_pairs_apart_in_one_row_alone_may_train_with_one_row() -> None:
    model, layout = Running("row of several"), BatchFormat(names="causal")
    check_rows_keep_pairs_apart(model, layout, 20, 1)
    with pytest.raises(ConfigError, match=r"flash attention only batches of one row"):
        check_rows_keep_pairs_apart(model, layout, 20, 8)


def test_a_model_that_cannot_be_asked_yet_is_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    check_rows_keep_pairs_apart(torch.nn.Linear(1, 1), BatchFormat(names="causal"), 20, 1)
    model = Running("pair")
    del model.sees
    check_rows_keep_pairs_apart(model, BatchFormat(names="causal"), 20, 1)
    assert "could not be checked that the pairs of a row do not mix" in caplog.text
