"""Batches of few shapes: at most K different (pairs, source, target), for compiled models and CUDA graphs.

`cover.py` chooses the shapes; here rows are dealt out to them. A row goes to the smallest shape that holds it. What
is left of a shape after full batches moves on to the next larger shape that holds it, and so on, so that all rows but
a few of the largest shape end in full batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from mtx.errors import ConfigError
from mtx.infra.dataset.plan.base import (
    Draft,
    Int,
    Lengths,
    Mask,
    Plan,
    Planner,
    Rows,
    candidates,
    check_at_least,
    check_choice,
    check_flag,
    generator,
)
from mtx.infra.dataset.plan.classes import length_classes
from mtx.infra.dataset.plan.cover import Cells, ascending, coarse, cover, homes, two_homes
from mtx.infra.dataset.plan.cut import Room
from mtx.infra.dataset.plan.sorted import above

Remainder = Literal["keep", "drop"]


@dataclass(frozen=True, kw_only=True)
class StaticShapesPlanner(Planner):
    """Cuts batches of at most `num_shapes` different shapes, formed anew in each epoch.

    The shapes are the same in every epoch. A pair that exceeds the budget by itself is dropped, counted under
    `dropped_length`.

    Args:
        num_shapes: shapes (pairs, source positions, target positions) of all batches at most; with
            `remainder="keep"` at least 2.
        max_tokens: padded positions of a side of a batch: pairs × the longer of the shape's two lengths.
        max_pairs: pairs of a batch at most; None: as many as the budget holds.
        remainder: the pairs at the end that fill no batch of the largest shape: `keep` serves them as one smaller
            batch, a shape of its own that counts; `drop` leaves them out, others in each epoch.
        batch_multiple: full batches have a multiple of this many pairs, or fewer than this.
        length_multiple: what the collate function rounds positions up to a multiple of; the budget holds for that.
        shuffle: False: the same batches in every epoch, served from small shapes to large ones.
    """

    keeps_shapes: ClassVar[bool] = True

    num_shapes: int = 32
    max_tokens: int = 4096
    max_pairs: int | None = None
    remainder: Remainder = "keep"
    batch_multiple: int = 1
    length_multiple: int = 1
    shuffle: bool = True

    def __post_init__(self) -> None:
        for name in ("num_shapes", "max_tokens", "batch_multiple", "length_multiple"):
            check_at_least(f"sampler.{name}", getattr(self, name), 1)
        if self.max_pairs is not None:
            check_at_least("sampler.max_pairs", self.max_pairs, 1)
        check_choice("sampler.remainder", self.remainder, ("keep", "drop"))
        check_flag("sampler.shuffle", self.shuffle)
        if self.num_shapes == 1 and self.remainder == "keep":
            raise ConfigError(
                "sampler.num_shapes is at least 2 with sampler.remainder=keep, since the last batch has a shape of its "
                "own, but is 1. Set sampler.num_shapes=2 or sampler.remainder=drop"
            )

    def draft(self, lengths: Lengths, *, excluded: Mask | None = None) -> "StaticShapesDraft":
        """Choose the shapes and put each row with its own."""
        rows, dropped = candidates(len(lengths), excluded)
        limit = self.max_tokens // self.length_multiple * self.length_multiple
        too_long = above(limit, lengths, rows)
        dropped, rows = np.union1d(dropped, rows[too_long]), rows[~too_long]
        if not len(rows):
            return StaticShapesDraft(planner=self, num_rows=len(lengths), ladder=EMPTY, groups=[], dropped=dropped)
        classes = length_classes(lengths, rows, multiple=self.length_multiple, limit=limit)
        cells, cell_of_class = coarse(classes.source, classes.target, classes.count)
        ladder = self.ladder(cells)
        home = homes(cells, ladder.shapes)[cell_of_class]
        by_home = classes.rows_in(np.argsort(home, kind="stable"), None)
        sizes = np.bincount(home, weights=classes.count, minlength=len(ladder.pairs)).astype(np.int64)
        return StaticShapesDraft(
            planner=self,
            num_rows=len(lengths),
            ladder=ladder,
            groups=np.split(by_home, np.cumsum(sizes)[:-1]),
            dropped=dropped,
        )

    def ladder(self, cells: Cells) -> "Ladder":
        """Return the shapes to use: those that hold the rows best, less those that do not pay.

        A small corpus cannot fill batches of many shapes: leftovers would move on and on. So shapes are left out as
        long as that saves padding.
        """
        multiple = self.length_multiple
        room = Room(
            max_tokens=self.max_tokens,
            area=False,
            max_pairs=self.max_pairs or self.max_tokens,
            multiple=self.batch_multiple,
        )
        shapes = -(-cover(cells, self.num_shapes - (self.remainder == "keep")) // multiple) * multiple
        shapes = ascending(np.minimum(shapes, self.max_tokens // multiple * multiple))
        return Ladder.of(shapes, room).pruned(cells)


@dataclass(frozen=True)
class Ladder:
    """Shapes, and where the leftovers of each move on to.

    Attributes:
        shapes: int64 [k, 2], source and target positions, ascending by their sum; the last one holds every row.
        pairs: int64 [k], pairs of a full batch.
        next: int64 [k], for each shape the smallest other one that is at least as long on both sides; the last
            shape has none: itself.
    """

    shapes: Int
    pairs: Int
    next: Int

    @classmethod
    def of(cls, shapes: Int, room: Room) -> "Ladder":
        """Take shapes, ascending by the sum of their lengths."""
        pairs = np.asarray([room(source, target) for source, target in shapes.tolist()], dtype=np.int64)
        return cls(shapes, pairs, _next(shapes))

    def without(self, number: int) -> "Ladder":
        """Return the ladder without one shape, which is not the last."""
        shapes = np.delete(self.shapes, number, axis=0)
        return Ladder(shapes, np.delete(self.pairs, number), _next(shapes))

    def loads(self, rows: Int) -> Int:
        """Return the rows that each shape gets to serve or move on, given those at home in it; int64 [k] both."""
        loads = rows.tolist()
        for number, (pairs, after) in enumerate(zip(self.pairs[:-1].tolist(), self.next[:-1].tolist(), strict=True)):
            loads[after] += loads[number] % pairs
        return np.asarray(loads, dtype=np.int64)

    def cost(self, rows: Int) -> int:
        """Return the padded positions of all batches, the rows that fill no batch included; `rows` as in `loads`."""
        loads = self.loads(rows)
        moved_on = np.append(loads[:-1] % self.pairs[:-1], 0)
        return int(((loads - moved_on) * self.shapes.sum(axis=1)).sum())

    def pruned(self, cells: Cells) -> "Ladder":
        """Leave out shapes that cost more than they save, the worst first, until all that are left pay."""
        ladder = self
        while True:
            homes = two_homes(cells, ladder.shapes)
            cost = ladder.cost(np.bincount(homes[0], cells.count, minlength=len(ladder.pairs)).astype(np.int64))
            costs = np.asarray([ladder.cost_without(n, cells, homes) for n in range(len(ladder.pairs) - 1)])
            useless = np.flatnonzero(costs <= cost)
            if not len(useless):
                return ladder
            for shape in ladder.shapes[useless[np.argsort(costs[useless], kind="stable")]].tolist():
                number = ladder.shapes.tolist().index(shape)
                without = ladder.cost_without(number, cells, homes)
                if without <= cost:  # still, without those left out before
                    ladder, cost = ladder.without(number), without
                    homes = two_homes(cells, ladder.shapes)

    def cost_without(self, number: int, cells: Cells, homes: tuple[Int, Int]) -> int:
        """Return the cost without one shape, which is not the last; `homes` are `two_homes` of all."""
        first, second = homes
        rows = np.bincount(np.where(first == number, second, first), cells.count, minlength=len(self.pairs))
        return self.without(number).cost(np.delete(rows, number).astype(np.int64))


def _next(shapes: Int) -> Int:
    number = np.arange(len(shapes))
    holds: Mask = np.all(shapes[:, None, :] <= shapes[None, :, :], axis=2)  # [of this shape, by that one]
    after: Int = np.argmax(holds & (number[:, None] < number), axis=1).astype(np.int64)
    after[-1] = len(shapes) - 1
    return after


EMPTY = Ladder(np.empty((0, 2), dtype=np.int64), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True, kw_only=True)
class StaticShapesDraft(Draft):
    """What all epochs of a static-shapes planner share.

    Attributes:
        planner: the options.
        num_rows: rows that a plan accounts for.
        ladder: the shapes.
        groups: int32 each: the rows at home in each shape.
        dropped: int32, rows left out for their length, ascending.
    """

    planner: StaticShapesPlanner
    num_rows: int
    ladder: Ladder
    groups: list[Rows]
    dropped: Rows

    def __len__(self) -> int:
        return int(self._num_batches().sum())

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """Return the batches of `epoch`. Which rows move on to a larger shape is chosen by chance, not by length."""
        random = generator(seed, epoch) if self.planner.shuffle else None
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
                remainder = left  # nothing with `keep`: the last batch reaches beyond the end of the rows
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
        """Return the lengths of the shapes, the same in every epoch."""
        sides = zip(("source", "target"), self.ladder.shapes.T, strict=True)
        return {side: np.unique(positions)[:-1].tolist() for side, positions in sides}

    def _num_batches(self) -> Int:
        """Return the batches of each shape, int64 [k]; the last one's smaller batch is counted if it is kept."""
        loads = self.ladder.loads(np.asarray([len(group) for group in self.groups], dtype=np.int64))
        num_batches = loads // self.ladder.pairs
        if len(loads) and self.planner.remainder == "keep":
            num_batches[-1] = -(-loads[-1] // self.ladder.pairs[-1])
        return num_batches
