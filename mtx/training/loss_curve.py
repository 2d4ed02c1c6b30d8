"""Training loss by step, stored as at most 500 points, so that memory does not grow with the length of the training."""

from typing import Any

import torch
from torch import Tensor

MAX_POINTS = 500


class LossCurve:
    """Mean training loss by step: at most 500 points, each of which is the mean over the same number of steps.

    When there are 500 points, each two neighbours are merged into one, and new points cover twice as many steps.
    Losses stay on their device until `points` or `state` is called, so that no training step waits for the device.
    """

    def __init__(self) -> None:
        self._steps = 1  # optimizer steps per point
        self._points: list[tuple[int, Tensor | float]] = []  # (last step, mean loss) of each point
        self._done = 0  # the last step of the last point
        self._sum: Tensor | None = None  # sum of the losses after the last point
        self._num_batches = 0  # batches after the last point

    def add(self, step: int, loss: Tensor) -> None:
        """Add the loss of a batch, a scalar; `step` is the number of optimizer steps after this batch."""
        loss = loss.detach().float()
        self._sum = loss.clone() if self._sum is None else self._sum + loss
        self._num_batches += 1
        if step - self._done < self._steps:
            return
        self._points.append((step, self._sum / self._num_batches))
        self._done, self._sum, self._num_batches = step, None, 0
        if len(self._points) == MAX_POINTS:
            halves = zip(self._points[::2], self._points[1::2], strict=True)
            self._points = [(step, (one + other) / 2) for (_, one), (step, other) in halves]
            self._steps *= 2

    def points(self) -> list[tuple[int, float]]:
        """Return the points as (last step, mean loss); batches after the last complete point are not included."""
        points = [(step, float(loss)) for step, loss in self._points]
        self._points = list(points)  # each value is copied from the device only once
        return points

    def state(self) -> dict[str, Any]:
        """Return the whole curve as plain values, for a checkpoint."""
        return {
            "steps": self._steps,
            "points": [list(point) for point in self.points()],
            "done": self._done,
            "sum": None if self._sum is None else float(self._sum),
            "num_batches": self._num_batches,
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> "LossCurve":
        """Return the curve that a state from `state()` describes."""
        curve = cls()
        curve._steps = state["steps"]
        curve._points = [(int(step), float(loss)) for step, loss in state["points"]]
        curve._done = state["done"]
        curve._sum = None if state["sum"] is None else torch.tensor(float(state["sum"]))
        curve._num_batches = state["num_batches"]
        return curve
