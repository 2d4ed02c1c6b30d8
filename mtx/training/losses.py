"""The curve of the training loss, in bounded memory however long the training."""

from typing import Any

import torch
from torch import Tensor

MAX_POINTS = 500


class LossCurve:
    """Mean training loss by step: at most 500 points, each the mean over equally many steps.

    When there are 500, neighbours are put together, and points cover twice as many steps from then on. Losses stay on
    their device until somebody asks, so that no step waits for them.
    """

    def __init__(self) -> None:
        self._steps = 1  # that a point covers
        self._points: list[tuple[int, Tensor | float]] = []  # the last step of each, and its mean
        self._done = 0  # the last step of the last point
        self._sum: Tensor | None = None  # of the batches behind it
        self._num_batches = 0

    def add(self, step: int, loss: Tensor) -> None:
        """Take the loss of a batch, a scalar; `step` counts optimizer steps, this batch's included if it made one."""
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
        """Return the points: (last step, mean loss). Batches behind the last whole point are not in them."""
        points = [(step, float(loss)) for step, loss in self._points]
        self._points = list(points)  # so that none is fetched twice
        return points

    def state(self) -> dict[str, Any]:
        """Return all of it as plain values, for a checkpoint."""
        return {
            "steps": self._steps,
            "points": [list(point) for point in self.points()],
            "done": self._done,
            "sum": None if self._sum is None else float(self._sum),
            "num_batches": self._num_batches,
        }

    @classmethod
    def of(cls, state: dict[str, Any]) -> "LossCurve":
        """Return the curve of a state."""
        curve = cls()
        curve._steps = state["steps"]
        curve._points = [(int(step), float(loss)) for step, loss in state["points"]]
        curve._done = state["done"]
        curve._sum = None if state["sum"] is None else torch.tensor(float(state["sum"]))
        curve._num_batches = state["num_batches"]
        return curve
