"""Who gets what in an epoch: every rank takes the same number of steps, at similar cost, and no pair is repeated.

Batches near each other in the cut are of similar shape. Those of a few groups are sorted by their padded positions, and
each group, of as many as there are ranks, is dealt out together, a batch to each rank. The groups are served in the
plan's order. The batches themselves do not depend on the number of ranks; so an epoch that was begun by some ranks is
finished by any other number: see `resume`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mtx.infra.dataset.plan.base import Int, Plan

Item = Int | tuple[Int, tuple[int, int]]  # rows of a batch; with the source and target positions that it is padded to
GROUPS_SORTED = 8  # at a time; on real text 16 halve what ranks differ by, but put short and long rows into one step
Served = Sequence[tuple[int, int]]  # what an epoch has served so far: (ranks, steps that each of them took), in turn


@dataclass(frozen=True)
class Deal:
    """The batches of all ranks: number k is for rank `k % world_size` at step `k // world_size`.

    Attributes:
        plan: what is dealt out.
        world_size: number of ranks.
        starts: int64 [steps × ranks]; batch k has `plan.rows[starts[k]:ends[k]]`.
        ends: int64 [steps × ranks].
        cut: int64 [steps × ranks], the batch of the plan's cut that batch k is, or is a part of.
        left_out: int64, rows that no rank gets, ascending: fewer than there are ranks, and only where there are not
            enough rows to give each rank another step.
    """

    plan: Plan
    world_size: int
    starts: Int
    ends: Int
    cut: Int
    left_out: Int

    def __len__(self) -> int:
        """Return the steps that every rank takes."""
        return len(self.starts) // self.world_size

    def items(self, *, rank: int, start: int = 0) -> Iterator[Item]:
        """Yield what a loader asks for, for each step of `rank` from step `start` on. Parts are padded as a whole."""
        mine = slice(start * self.world_size + rank, None, self.world_size)
        widths = self.plan.widths
        for first, end, cut in zip(self.starts[mine], self.ends[mine], self.cut[mine], strict=True):
            rows = self.plan.rows[first:end].astype(np.int64)
            yield rows if widths is None else (rows, (int(widths[cut, 0]), int(widths[cut, 1])))


@dataclass(frozen=True)
class _Pieces:
    """Parts of `plan.rows` still to be dealt out, in the order of the cut; all int64 [pieces]."""

    starts: Int
    ends: Int
    cut: Int

    def __len__(self) -> int:
        return len(self.starts)

    def at(self, chosen: Int) -> "_Pieces":
        return _Pieces(self.starts[chosen], self.ends[chosen], self.cut[chosen])


def num_steps(num_batches: int, num_rows: int, world_size: int) -> int:
    """Return the steps that every rank takes: enough for all batches, unless there are fewer rows than that takes."""
    return min(-(-num_batches // world_size), num_rows // world_size)


def deal(plan: Plan, world_size: int, *, positions: Int | None = None, join: bool = False) -> Deal:
    """Deal the epoch out to `world_size` ranks.

    Where the last group lacks batches, the largest ones are split until each rank has one, so a batch is never
    larger than planned. Where there are too few rows for that, some are left out.

    Args:
        plan: the epoch.
        world_size: number of ranks.
        positions: int64 [batches], what a row of each batch of the cut is padded to, both sides together; None: not
            known, so that batches are dealt out as they lie in the cut.
        join: put rows into other batches rather than leave them out, as evaluation wants it: it loses none, as long as
            there is a row for each rank, but fewer batches than there are ranks are two planned ones in one.
    """
    return _dealt(plan, _whole(plan), world_size, positions, join=join)


def resume(plan: Plan, world_size: int, served: Served, *, positions: Int | None = None) -> tuple[Deal, int]:
    """Deal out an epoch that other ranks have begun.

    Args:
        plan: the epoch.
        world_size: number of ranks now.
        served: numbers of ranks and the steps each of them took, in turn.
        positions: as in `deal`.

    Returns:
        The batches, and the step to go on with. With the number of ranks that took the last steps, these are the
        batches that they would have got.
    """
    pieces = _whole(plan)
    for number, (ranks, steps) in enumerate(served):
        dealt = _dealt(plan, pieces, ranks, positions)
        if ranks == world_size and number == len(served) - 1:
            return dealt, steps
        pieces = _split_largest(pieces, len(dealt.starts))
        done = np.isin(pieces.starts, dealt.starts[: steps * ranks])
        pieces = pieces.at(np.flatnonzero(~done))
    return _dealt(plan, pieces, world_size, positions), 0


def _whole(plan: Plan) -> _Pieces:
    return _Pieces(plan.offsets[:-1], plan.offsets[1:], np.arange(len(plan), dtype=np.int64))


def _dealt(plan: Plan, pieces: _Pieces, world_size: int, positions: Int | None, *, join: bool = False) -> Deal:
    served_as = np.empty(len(plan), dtype=np.int64)
    served_as[plan.order] = np.arange(len(plan))
    num_rows = int((pieces.ends - pieces.starts).sum())
    wanted = num_steps(len(pieces), num_rows, world_size) * world_size
    pieces = _split_largest(pieces, wanted)
    left_out = plan.rows[:0]
    if (surplus := len(pieces) - wanted) and wanted and join:
        pieces = _join_first(pieces, surplus)
    elif surplus:
        by_order = np.argsort(served_as[pieces.cut], kind="stable")
        lost = pieces.at(by_order[wanted:])
        left_out = np.concatenate([plan.rows[a:b] for a, b in zip(lost.starts, lost.ends, strict=True)])
        pieces = pieces.at(np.sort(by_order[:wanted]))
    if positions is not None and world_size > 1:
        window = np.arange(wanted) // (GROUPS_SORTED * world_size)
        pieces = pieces.at(np.lexsort(((pieces.ends - pieces.starts) * positions[pieces.cut], window)))
    groups = served_as[pieces.cut].reshape(-1, world_size)
    within = np.argsort(groups, axis=1, kind="stable") + np.arange(0, wanted, world_size)[:, None]
    pieces = pieces.at(within[np.argsort(groups.min(axis=1, initial=len(plan)), kind="stable")].reshape(-1))
    return Deal(plan, world_size, pieces.starts, pieces.ends, pieces.cut, np.sort(left_out).astype(np.int64))


def _split_largest(pieces: _Pieces, wanted: int) -> _Pieces:
    """Split pieces in two, the one of most rows first, until there are `wanted`."""
    while len(pieces) < wanted:
        largest = int(np.argmax(pieces.ends - pieces.starts))
        middle = (pieces.starts[largest] + pieces.ends[largest]) // 2
        pieces = _Pieces(
            np.insert(pieces.starts, largest + 1, middle),
            np.insert(pieces.ends, largest, middle),
            np.insert(pieces.cut, largest, pieces.cut[largest]),
        )
    return pieces


def _join_first(pieces: _Pieces, times: int) -> _Pieces:
    """Join the first pieces two by two, `times` times; each joined one is padded as its second."""
    first = np.arange(0, 2 * times, 2)
    return _Pieces(np.delete(pieces.starts, first + 1), np.delete(pieces.ends, first), np.delete(pieces.cut, first))
