"""The static-shapes planner: batches of at most K different shapes, for compiled models and CUDA graphs.

A shape is (pairs, source positions, target positions). `shape_cover.py` chooses the shapes; this module assigns rows to
them. A row goes to the smallest shape that holds it. Rows of a shape that do not fill a batch move to the next larger
shape that holds them, and so on. So all rows are in full batches, except a few rows of the largest shape.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mtx.batches.plan.batch_cutting import BatchCapacity
from mtx.batches.plan.planner import (
    Draft,
    Int,
    Lengths,
    Mask,
    Plan,
    Planner,
    Rows,
    candidate_rows,
    random_generator,
)
from mtx.batches.plan.same_length_classes import length_classes
from mtx.batches.plan.shape_cover import (
    Cells,
    coarse_cells,
    covering_shapes,
    home_and_next_shapes,
    home_shapes,
    sorted_shapes,
)
from mtx.batches.plan.sorted import long_row_mask
from mtx.components.checked_options import Count, Multiple, component
from mtx.errors import ConfigError

Remainder = Literal["keep", "drop"]


@component("sampler")
class StaticShapesPlanner(Planner):
    """Cuts batches of at most `num_shapes` different shapes; the rows of a batch change each epoch.

    The shapes are the same in every epoch. A pair that alone exceeds the budget is dropped and counted as
    `dropped_length`.

    Args:
        num_shapes: largest number of shapes (pairs, source positions, target positions) of all batches; at least 2 with
            `remainder="keep"`.
        max_tokens: largest number of padded positions in a batch, on each side: pairs × the longer of the shape's two
            lengths.
        max_pairs: largest number of pairs in a batch; None: only `max_tokens` limits.
        remainder: how the last pairs are handled, which do not fill a batch of the largest shape. `keep` puts them into
            one smaller batch, whose shape counts in `num_shapes`; `drop` leaves them out, different pairs in each
            epoch.
        batch_multiple: the number of pairs in a full batch is a multiple of this, or less than this.
        length_multiple: positions are rounded up to a multiple of this number; the budget limits the rounded positions.
        shuffle: False: the same batches in every epoch, from small to large shapes.
    """

    kind: ClassVar[str] = "sampler/static_shapes"
    version: ClassVar[int] = 1

    has_fixed_shapes: ClassVar[bool] = True

    num_shapes: Count = 32
    max_tokens: Count = 4096
    max_pairs: Count | None = None
    remainder: Remainder = "keep"
    batch_multiple: Multiple = 1
    length_multiple: Multiple = 1
    shuffle: bool = True

    def __post_init__(self) -> None:
        if self.num_shapes == 1 and self.remainder == "keep":
            raise ConfigError(
                "sampler.num_shapes must be at least 2 with sampler.remainder=keep, since the last batch has its own "
                "shape, but is 1. Set sampler.num_shapes=2 or sampler.remainder=drop"
            )

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "StaticShapesDraft":
        """Choose the shapes and assign each row to one."""
        rows, dropped = candidate_rows(len(lengths), excluded)
        limit = self.max_tokens // self.length_multiple * self.length_multiple
        too_long = long_row_mask(limit, lengths, rows)
        dropped, rows = np.union1d(dropped, rows[too_long]), rows[~too_long]
        if not len(rows):
            return StaticShapesDraft(
                planner=self, num_rows=len(lengths), ladder=EMPTY_LADDER, groups=[], dropped=dropped
            )
        classes = length_classes(lengths, rows, multiple=self.length_multiple, limit=limit)
        cells, cell_of_class = coarse_cells(classes.source, classes.target, classes.count)
        ladder = self.ladder(cells)
        home = home_shapes(cells, ladder.shapes)[cell_of_class]
        by_home = classes.rows_in(np.argsort(home, kind="stable"), None)
        sizes = np.bincount(home, weights=classes.count, minlength=len(ladder.pairs)).astype(np.int64)
        return StaticShapesDraft(
            planner=self,
            num_rows=len(lengths),
            ladder=ladder,
            groups=np.split(by_home, np.cumsum(sizes)[:-1]),
            dropped=dropped,
        )

    def ladder(self, cells: Cells) -> "ShapeLadder":
        """Return the shapes with the least padding, without those that increase the padding of a small corpus.

        A small corpus cannot fill batches of many shapes: too many rows would move to larger shapes. So shapes are
        removed as long as that saves padding.
        """
        multiple = self.length_multiple
        capacity = BatchCapacity(
            max_tokens=self.max_tokens,
            area=False,
            max_pairs=self.max_pairs or self.max_tokens,
            multiple=self.batch_multiple,
        )
        shapes = -(-covering_shapes(cells, self.num_shapes - (self.remainder == "keep")) // multiple) * multiple
        shapes = sorted_shapes(np.minimum(shapes, self.max_tokens // multiple * multiple))
        return ShapeLadder.of(shapes, capacity).best_subset(cells)


@dataclass(frozen=True)
class ShapeLadder:
    """Shapes, and for each the shape to which its remaining rows move.

    Attributes:
        shapes: int64 [k, 2], source and target positions, ascending by their sum; the last shape holds every row.
        pairs: int64 [k], number of pairs in a full batch.
        next: int64 [k], number of the smallest other shape that is at least as long on both sides; for the last shape,
            its own number.
    """

    shapes: Int
    pairs: Int
    next: Int

    @classmethod
    def of(cls, shapes: Int, capacity: BatchCapacity) -> "ShapeLadder":
        """Return the ladder of `shapes`, which are ascending by the sum of their lengths."""
        pairs = np.asarray([capacity(source, target) for source, target in shapes.tolist()], dtype=np.int64)
        return cls(shapes, pairs, _next_shapes(shapes))

    def subset_without(self, number: int) -> "ShapeLadder":
        """Return the ladder without the shape `number`, which must not be the last shape."""
        shapes = np.delete(self.shapes, number, axis=0)
        return ShapeLadder(shapes, np.delete(self.pairs, number), _next_shapes(shapes))

    def loads(self, rows: Int) -> Int:
        """Return the number of rows that each shape gets, including rows moved to it, int64 [k].

        `rows`, int64 [k], holds the number of rows for which each shape is the smallest that holds them.
        """
        loads = rows.tolist()
        for number, (pairs, after) in enumerate(zip(self.pairs[:-1].tolist(), self.next[:-1].tolist(), strict=True)):
            loads[after] += loads[number] % pairs
        return np.asarray(loads, dtype=np.int64)

    def cost(self, rows: Int) -> int:
        """Return the padded positions of all rows, including the last, incomplete batch; `rows` as in `loads`."""
        loads = self.loads(rows)
        moved_on = np.append(loads[:-1] % self.pairs[:-1], 0)
        return int(((loads - moved_on) * self.shapes.sum(axis=1)).sum())

    def best_subset(self, cells: Cells) -> "ShapeLadder":
        """Remove shapes that cost more padding than they save, the worst first, until every shape saves padding."""
        ladder = self
        while True:
            homes = home_and_next_shapes(cells, ladder.shapes)
            cost = ladder.cost(np.bincount(homes[0], cells.count, minlength=len(ladder.pairs)).astype(np.int64))
            costs = np.asarray([ladder.cost_without(n, cells, homes) for n in range(len(ladder.pairs) - 1)])
            useless = np.flatnonzero(costs <= cost)
            if not len(useless):
                return ladder
            for shape in ladder.shapes[useless[np.argsort(costs[useless], kind="stable")]].tolist():
                number = ladder.shapes.tolist().index(shape)
                without = ladder.cost_without(number, cells, homes)
                if without <= cost:  # true even after the removals before
                    ladder, cost = ladder.subset_without(number), without
                    homes = home_and_next_shapes(cells, ladder.shapes)

    def cost_without(self, number: int, cells: Cells, homes: tuple[Int, Int]) -> int:
        """Return the cost without the shape `number`, not the last; `homes` is the result of `home_and_next_shapes`."""
        first, second = homes
        rows = np.bincount(np.where(first == number, second, first), cells.count, minlength=len(self.pairs))
        return self.subset_without(number).cost(np.delete(rows, number).astype(np.int64))


def _next_shapes(shapes: Int) -> Int:
    number = np.arange(len(shapes))
    holds: Mask = np.all(shapes[:, None, :] <= shapes[None, :, :], axis=2)  # [i, j]: shape i fits into shape j
    after: Int = np.argmax(holds & (number[:, None] < number), axis=1).astype(np.int64)
    after[-1] = len(shapes) - 1
    return after


EMPTY_LADDER = ShapeLadder(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class StaticShapesDraft(Draft):
    """Data that all epochs of a static-shapes planner share.

    Attributes:
        planner: the planner, with its options.
        num_rows: number of rows for which a plan accounts.
        ladder: the shapes.
        groups: int32 arrays, one per shape: the rows for which it is the smallest shape that holds them.
        dropped: int32, rows dropped because of their length, ascending.
    """

    planner: StaticShapesPlanner
    num_rows: int
    ladder: ShapeLadder
    groups: list[Rows]
    dropped: Rows

    def __len__(self) -> int:
        return int(self._num_batches().sum())

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`.

        The rows that move to a larger shape are chosen at random, not by length. Without `shuffle`, they are always the
        same.
        """
        random = random_generator(seed, epoch) if self.planner.shuffle else None
        served: list[Rows] = [self.dropped[:0]]
        waiting: list[list[Rows]] = [[group] for group in self.groups]
        remainder = self.dropped[:0]
        num_batches = self._num_batches()
        for number, pairs in enumerate(self.ladder.pairs.tolist()):
            rows = np.concatenate(waiting[number])
            if random is not None:
                rows = random.permutation(rows)
            served.append(rows[: num_batches[number] * pairs])
            left = rows[num_batches[number] * pairs :]
            if number + 1 < len(self.groups):
                waiting[self.ladder.next[number]].append(left)
            else:
                remainder = left  # empty with `keep`, since the last, incomplete batch is counted in `num_batches`
        rows = np.concatenate(served)
        sizes = np.repeat(self.ladder.pairs, num_batches)
        offsets = np.minimum(np.concatenate([[0], np.cumsum(sizes)]), len(rows))
        return Plan(
            num_rows=self.num_rows,
            rows=rows,
            offsets=offsets,
            order=np.arange(len(sizes)) if random is None else random.permutation(len(sizes)),
            dropped_length=self.dropped,
            dropped_remainder=np.sort(remainder),
            widths=np.repeat(self.ladder.shapes, num_batches, axis=0),
        )

    def edges(self, *, seed: int, epoch: int) -> Mapping[str, Sequence[int]]:
        """Return the lengths of the shapes without the greatest, for each side; they are the same in every epoch."""
        sides = zip(("source", "target"), self.ladder.shapes.T, strict=True)
        return {side: np.unique(positions)[:-1].tolist() for side, positions in sides}

    def _num_batches(self) -> Int:
        """Return the number of batches of each shape, int64 [k]; with `keep`, the incomplete batch is counted."""
        loads = self.ladder.loads(np.asarray([len(group) for group in self.groups], dtype=np.int64))
        num_batches = loads // self.ladder.pairs
        if len(loads) and self.planner.remainder == "keep":
            num_batches[-1] = -(-loads[-1] // self.ladder.pairs[-1])
        return num_batches
