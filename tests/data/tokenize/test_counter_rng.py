"""Random numbers by position: the same one by one and in arrays, and spread evenly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.tokenize.counter_rng import ONE, derived_keys, draw, draw_threshold, draws, rng_key
from mtx.errors import ConfigError

keys = st.integers(0, 2**64 - 1)


def test_values_are_those_of_splitmix64() -> None:
    """The first outputs of SplitMix64 from seed 1234567, as its authors' C code prints them."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    made = derived_keys(1234567, np.arange(4))
    assert made.tolist() == known
    assert draws(np.full(4, 1234567, dtype=np.uint64), np.arange(4)).tolist() == [value >> 32 for value in known]


@settings(deadline=None)
@given(key=keys, number=st.integers(0, 2**40))
def test_one_draw_is_the_one_of_an_array(key: int, number: int) -> None:
    assert draw(key, number) == draws(np.array([key], dtype=np.uint64), np.array([number]))[0] < ONE


def test_draws_are_spread_evenly_over_rows_words_and_turns() -> None:
    rows = derived_keys(rng_key(0, 0, 1), np.arange(100))
    words = derived_keys(rows[:, None], np.arange(50))
    drawn = draws(words[:, :, None], np.arange(10)) / ONE
    assert len(np.unique(drawn)) > 49_990  # of 50,000; some of 2**32 values may meet
    for axis in range(3):
        means = drawn.mean(axis=tuple({0, 1, 2} - {axis}))
        assert np.abs(means - 0.5).max() < 5 * np.sqrt(1 / 12 / (drawn.size / len(means)))


def test_keys_differ_by_seed_epoch_and_purpose() -> None:
    assert len({rng_key(seed, epoch, purpose) for seed in range(3) for epoch in range(3) for purpose in (1, 2)}) == 18
    assert rng_key(5, 7, 1) == rng_key(5, 7, 1)


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (0, -2)])
def test_a_negative_seed_or_epoch_is_refused(seed: int, epoch: int) -> None:
    with pytest.raises(ConfigError, match=f"seed and epoch are at least 0, but are {seed} and {epoch}"):
        rng_key(seed, epoch, 1)


def test_shares_reach_from_never_to_always() -> None:
    assert (draw_threshold(0.0), draw_threshold(0.25), draw_threshold(1.0)) == (0, 2**30, 2**32)
