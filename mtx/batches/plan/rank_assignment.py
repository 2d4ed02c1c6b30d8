"""Assign the batches of an epoch to ranks: equally many steps for each, similar cost per step, no pair repeated.

Neighbouring batches in cut order have similar shapes. The batches of a few groups are sorted by their padded positions.
Each group has one batch per rank, which the ranks process in the same step. Groups are used in the order of the plan. A
plan with `mixes_lengths` gets groups of different lengths instead; see `length_mixing.py`.
The batches do not depend on the number of ranks, except that some are split. So a different number of ranks can finish
an epoch: see `remaining_batches`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mtx.batches.plan.length_mixing import mixed_groups
from mtx.batches.plan.planner import Int, Plan

Costs = NDArray[np.float64]

Item = Int | tuple[Int, tuple[int, int]]  # rows of a batch, or rows with the source and target positions to pad to
SORTED_GROUPS = 8  # groups sorted together; on real text, 16 halve the imbalance but mix short and long rows in a step
ServedSteps = Sequence[
    tuple[int, int]
]  # finished parts of an epoch, in order: (number of ranks, number of steps of each rank)


@dataclass(frozen=True)
class RankBatches:
    """The batches of all ranks: batch number k is for rank `k % world_size` at step `k // world_size`.

    Attributes:
        plan: plan of the epoch.
        world_size: number of ranks.
        starts: int64 [steps × ranks]; batch k has the rows `plan.rows[starts[k]:ends[k]]`.
        ends: int64 [steps × ranks].
        cut: int64 [steps × ranks], number in cut order of the plan's batch from which batch k comes.
        left_out: int64, rows that no rank gets, ascending. There are fewer of them than ranks, and only if the rows are
            too few to give each rank another step.
    """

    plan: Plan
    world_size: int
    starts: Int
    ends: Int
    cut: Int
    left_out: Int

    def __len__(self) -> int:
        """Return the number of steps of each rank."""
        return len(self.starts) // self.world_size

    def items(self, *, rank: int, start: int = 0) -> Iterator[Item]:
        """Yield the item of each step of `rank`, from step `start` on.

        Parts of a batch are padded like the whole batch.
        """
        mine = slice(start * self.world_size + rank, None, self.world_size)
        widths = self.plan.widths
        for first, end, cut in zip(self.starts[mine], self.ends[mine], self.cut[mine], strict=True):
            rows = self.plan.rows[first:end].astype(np.int64)
            yield rows if widths is None else (rows, (int(widths[cut, 0]), int(widths[cut, 1])))


@dataclass(frozen=True)
class _BatchParts:
    """Parts of `plan.rows` that are not assigned yet, in cut order; all arrays are int64 [pieces]."""

    starts: Int
    ends: Int
    cut: Int

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, chosen: Int) -> "_BatchParts":
        return _BatchParts(self.starts[chosen], self.ends[chosen], self.cut[chosen])


def num_steps(num_batches: int, num_rows: int, world_size: int) -> int:
    """Return the number of steps of each rank: enough for all batches, but at most the number of rows per rank."""
    return min(-(-num_batches // world_size), num_rows // world_size)


def assigned_batches(plan: Plan, world_size: int, *, positions: Costs | None = None, join: bool = False) -> RankBatches:
    """Assign the batches of an epoch to `world_size` ranks.

    If the last group has too few batches, the largest batches are split until each rank has one, so no batch is larger
    than planned. If there are too few rows for that, some rows are left out.

    Args:
        plan: plan of the epoch.
        world_size: number of ranks.
        positions: float64 [batches], positions of a row in each batch in cut order, both sides together; None:
            unknown, so batches are assigned in cut order.
        join: whether to merge batches instead of leaving rows out, for evaluation. No row is lost if there is at least
            one row per rank, but some batches are two planned batches in one.
    """
    return _assigned_parts(plan, _whole_batches(plan), world_size, positions, join=join)


def remaining_batches(
    plan: Plan, world_size: int, served: ServedSteps, *, positions: Costs | None = None
) -> tuple[RankBatches, int]:
    """Assign the rest of an epoch that another number of ranks has started.

    Args:
        plan: plan of the epoch.
        world_size: number of ranks now.
        served: finished parts of the epoch, in order: number of ranks, and number of steps of each rank.
        positions: see `assigned_batches`.

    Returns:
        The batches, and the step from which to resume. If the number of ranks is that of the last part, the batches are
        those that its ranks would have got.
    """
    pieces = _whole_batches(plan)
    for number, (ranks, steps) in enumerate(served):
        dealt = _assigned_parts(plan, pieces, ranks, positions)
        if ranks == world_size and number == len(served) - 1:
            return dealt, steps
        pieces = _parts_after_splits(pieces, len(dealt.starts))
        done = np.isin(pieces.starts, dealt.starts[: steps * ranks])
        pieces = pieces.at(np.flatnonzero(~done))
    return _assigned_parts(plan, pieces, world_size, positions), 0


def _whole_batches(plan: Plan) -> _BatchParts:
    return _BatchParts(plan.offsets[:-1], plan.offsets[1:], np.arange(len(plan), dtype=np.int64))


def _assigned_parts(
    plan: Plan, pieces: _BatchParts, world_size: int, positions: Costs | None, *, join: bool = False
) -> RankBatches:
    served_as = np.empty(len(plan), dtype=np.int64)
    served_as[plan.order] = np.arange(len(plan))
    num_rows = int((pieces.ends - pieces.starts).sum())
    wanted = num_steps(len(pieces), num_rows, world_size) * world_size
    pieces = _parts_after_splits(pieces, wanted)
    left_out = plan.rows[:0]
    if (surplus := len(pieces) - wanted) and wanted and join:
        pieces = _parts_after_joins(pieces, surplus)
    elif surplus:
        by_order = np.argsort(served_as[pieces.cut], kind="stable")
        lost = pieces.at(by_order[wanted:])
        left_out = np.concatenate([plan.rows[a:b] for a, b in zip(lost.starts, lost.ends, strict=True)])
        pieces = pieces.at(np.sort(by_order[:wanted]))
    if positions is not None and world_size > 1:
        lengths = positions[pieces.cut]
        costs = (pieces.ends - pieces.starts) * lengths
        if plan.mixes_lengths:
            pieces = pieces.at(mixed_groups(costs, lengths, world_size))
        else:
            pieces = pieces.at(np.lexsort((costs, np.arange(wanted) // (SORTED_GROUPS * world_size))))
    groups = served_as[pieces.cut].reshape(-1, world_size)
    within = np.argsort(groups, axis=1, kind="stable") + np.arange(0, wanted, world_size)[:, None]
    pieces = pieces.at(within[np.argsort(groups.min(axis=1, initial=len(plan)), kind="stable")].reshape(-1))
    return RankBatches(plan, world_size, pieces.starts, pieces.ends, pieces.cut, np.sort(left_out).astype(np.int64))


def _parts_after_splits(pieces: _BatchParts, wanted: int) -> _BatchParts:
    """Split pieces in two, always the piece of most rows, until there are `wanted` pieces."""
    while len(pieces) < wanted:
        largest = int(np.argmax(pieces.ends - pieces.starts))
        middle = (pieces.starts[largest] + pieces.ends[largest]) // 2
        pieces = _BatchParts(
            np.insert(pieces.starts, largest + 1, middle),
            np.insert(pieces.ends, largest, middle),
            np.insert(pieces.cut, largest, pieces.cut[largest]),
        )
    return pieces


def _parts_after_joins(pieces: _BatchParts, times: int) -> _BatchParts:
    """Join the first 2 × `times` pieces in pairs; a joined piece is padded like its second piece."""
    first = np.arange(0, 2 * times, 2)
    return _BatchParts(np.delete(pieces.starts, first + 1), np.delete(pieces.ends, first), np.delete(pieces.cut, first))
