"""Bits per byte, worked by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.evaluation.likelihood import LikelihoodSums, PairLikelihoods, sums_by_pair


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


def test_values_of_labels_are_summed_over_the_labels_of_their_pair() -> None:
    of_labels = torch.tensor([1.0, 2.0, 4.0, 8.0], requires_grad=True)
    found = sums_by_pair(of_labels, torch.tensor([1, 0, 3]))
    assert found.tolist() == [1.0, 0.0, 14.0]
    assert (found.dtype, found.requires_grad) == (torch.float64, False)
    assert sums_by_pair(torch.zeros(0), torch.tensor([0, 0])).tolist() == [0.0, 0.0]
    many = sums_by_pair(torch.full((100_000,), 0.1), torch.tensor([100_000]))
    assert many.item() == pytest.approx(100_000 * float(torch.tensor(0.1)), rel=1e-12)


def test_pairs_are_collected_batch_after_batch_with_exact_rows() -> None:
    pairs = PairLikelihoods()
    assert pairs.as_tensor().shape == (3, 0)
    pairs.add(torch.tensor([2**53 - 1, 0]), torch.tensor([0.5, 1.5]), torch.tensor([3, 4]))
    pairs.add(torch.tensor([7]), torch.tensor([2.5]), torch.tensor([5]))
    assert pairs.as_tensor().tolist() == [[2**53 - 1, 0, 7], [0.5, 1.5, 2.5], [3, 4, 5]]
