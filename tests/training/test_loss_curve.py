"""The curve of the training loss: its points, how they are put together, and its state."""

import json

import pytest
import torch

from mtx.training import loss_curve
from mtx.training.loss_curve import LossCurve


def curve_of(values: list[float], *, batches_a_step: int = 1) -> LossCurve:
    curve = LossCurve()
    for number, value in enumerate(values, 1):
        curve.add(number // batches_a_step, torch.tensor(value))
    return curve


def test_a_short_training_has_a_point_for_each_step() -> None:
    assert curve_of([3, 2, 1]).points() == [(1, 3), (2, 2), (3, 1)]
    assert LossCurve().points() == []


def test_accumulated_batches_make_one_point_with_their_mean() -> None:
    assert curve_of([3, 1, 2, 4, 9], batches_a_step=2).points() == [(1, 2), (2, 3)]


def test_neighbours_are_put_together_where_points_grow_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_curve, "MAX_POINTS", 4)
    assert curve_of([1, 3, 5, 7]).points() == [(2, 2), (4, 6)]
    assert curve_of([1, 3, 5, 7, 2, 4]).points() == [(2, 2), (4, 6), (6, 3)]
    # at 8 again: (2, 2), (4, 6), (6, 3), (8, 5) become two points of four steps
    assert curve_of([1, 3, 5, 7, 2, 4, 4, 6, 100]).points() == [(4, 4), (8, 4)]


def test_there_are_never_more_than_500_points() -> None:
    assert len(curve_of([1.0] * 499).points()) == 499
    assert len(curve_of([1.0] * 500).points()) == 250
    assert len(curve_of([1.0] * 3100).points()) <= 500


def test_a_curve_goes_on_from_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_curve, "MAX_POINTS", 4)
    values = [float(value) for value in (1, 3, 5, 7, 2, 4, 4, 6, 8)]
    for stop in range(len(values)):
        state = json.loads(json.dumps(curve_of(values[:stop]).state()))
        again = LossCurve.of(state)
        for step, value in enumerate(values[stop:], stop + 1):
            again.add(step, torch.tensor(value))
        assert again.state() == curve_of(values).state()


def test_the_loss_that_is_given_stays_as_it_is() -> None:
    curve, loss = LossCurve(), torch.tensor(2.0, requires_grad=True)
    curve.add(0, loss)
    curve.add(1, torch.tensor(4.0))
    assert (curve.points(), loss.item()) == ([(1, 3.0)], 2.0)
