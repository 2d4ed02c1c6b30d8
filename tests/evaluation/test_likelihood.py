"""Bits per byte, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.evaluation.likelihood import LikelihoodSums


def test_bits_per_byte_is_nats_over_ln_2_over_bytes() -> None:
    sums = LikelihoodSums()
    sums.add(24 * math.log(2), 10, 12)  # 24 bits for 12 bytes
    assert sums.bits_per_byte == pytest.approx(2.0)
    assert sums.loss == pytest.approx(2.4 * math.log(2))


def test_batches_count_by_their_size_and_not_as_a_mean_of_means() -> None:
    sums = LikelihoodSums()
    sums.add(1.0, 1, 1)  # alone: 1 nat per token
    sums.add(27.0, 9, 6)  # alone: 3 nats per token
    assert sums.loss == pytest.approx(2.8)
    assert sums.bits_per_byte == pytest.approx(4 / math.log(2))


def test_without_tokens_or_bytes_there_is_no_figure() -> None:
    assert LikelihoodSums().loss is None
    assert LikelihoodSums().bits_per_byte is None
    assert LikelihoodSums(3.0, 2, 0).bits_per_byte is None


def test_bytes_that_one_batch_does_not_know_nobody_knows() -> None:
    sums = LikelihoodSums()
    sums.add(1.0, 1, 5)
    sums.add(1.0, 1, None)
    sums.add(1.0, 1, 5)
    assert sums.bits_per_byte is None
    assert sums.loss == pytest.approx(1.0)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 10**6), st.integers(0, 10**7) | st.none()), max_size=5))
def test_sums_of_ranks_add_up_as_tensors(parts: list[tuple[float, int, int | None]]) -> None:
    whole = LikelihoodSums()
    total = LikelihoodSums().as_tensor(torch.device("cpu"))
    for part in parts:
        whole.add(*part)
        total = total + LikelihoodSums(*part).as_tensor(torch.device("cpu"))
    assert LikelihoodSums.from_tensor(total) == whole
