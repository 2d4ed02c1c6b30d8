"""One shard of a streamed training split while it is served, and the ledger of its rows.

The ledger accounts for every row of the source: served, held out, dropped for a reason, or not reached.
"""

from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from mtx.batches.plan.rank_assignment import RankBatches
from mtx.data.stage_runner import added_counts
from mtx.training.loader import PlanLoader
from mtx.training.streamed_shards import OpenedShard

Parts = list[tuple[int, int]]  # (number of ranks, steps of each rank) that were served of a shard, in order
Ledger = dict[str, Any]

SUMMED = ("rows", "served", "held_out", "not_reached")
BY_REASON = ("skipped", "dropped")
LEFT_OUT = "left_out_by_ranks"  # reason of pairs that no rank gets, because the ranks need equally many steps


@dataclass(frozen=True)
class PassedShard:
    """What was served of a shard, with the ledger of its rows."""

    parts: Parts
    ledger: Ledger


class ServedShard:
    """A shard that this run serves.

    Args:
        shard: the shard.
        loader: serves its batches; None: it has no batch for this number of ranks.
        earlier: the steps that earlier runs have served of it.

    Attributes:
        steps: the steps that this run has served.
        num_left: the steps that were left when this run began with the shard.
    """

    def __init__(self, shard: OpenedShard, loader: PlanLoader | None, earlier: Parts) -> None:
        self.shard, self.loader, self.steps = shard, loader, 0
        self._earlier = earlier
        self._dealt: RankBatches | None = None
        self._start = 0
        if loader is not None:
            self._dealt, self._start = loader.batch_sampler.rank_batches()
        self.num_left = 0 if self._dealt is None else len(self._dealt) - self._start

    def passed(self) -> PassedShard:
        """Return what was served of the shard so far."""
        own = [] if self._dealt is None else [(self._dealt.world_size, self.steps)]
        return PassedShard(merged([[*self._earlier, *own]]), self._ledger())

    def _ledger(self) -> Ledger:
        shard = self.shard
        counts = {"rows": shard.num_rows, "skipped": dict(shard.skipped), "held_out": shard.num_held_out}
        if self._dealt is None:
            more = {
                "dropped_length": shard.split.num_dropped,
                "dropped_remainder": len(shard.split.pairs) - shard.split.num_dropped,
            }
            served = not_reached = 0
        else:
            plan = self._dealt.plan
            first = (self._start + self.steps) * self._dealt.world_size
            ends = zip(self._dealt.starts[first:], self._dealt.ends[first:], strict=True)
            times, to_come, left_out = (
                np.bincount(rows, minlength=plan.num_rows)
                for rows in (
                    plan.rows,
                    np.concatenate([plan.rows[:0], *(plan.rows[begin:end] for begin, end in ends)]),
                    self._dealt.left_out,
                )
            )
            is_served = times > to_come + left_out
            served = int(np.count_nonzero(is_served))
            not_reached = int(np.count_nonzero(~is_served & (to_come > 0)))
            more = {
                "dropped_length": len(plan.dropped_length),
                "dropped_remainder": len(plan.dropped_remainder),
                LEFT_OUT: int(np.count_nonzero(times)) - served - not_reached,
            }
        dropped = added_counts(shard.dropped, {reason: count for reason, count in more.items() if count})
        return {**counts, "dropped": dropped, "served": served, "not_reached": not_reached}


def summed(ledgers: list[Ledger]) -> Ledger:
    """Return the sum of the ledgers of shards."""
    none: Ledger = {**dict.fromkeys(SUMMED, 0), **{key: {} for key in BY_REASON}}
    return reduce(added_counts, ledgers, none)


def merged(shards: list[Parts]) -> Parts:
    """Return the steps of several shards by number of ranks, in order; neighbours with the same ranks are joined."""
    total: Parts = []
    for ranks, steps in (part for parts in shards for part in parts):
        if total and total[-1][0] == ranks:
            steps += total.pop()[1]
        total.append((ranks, steps))
    return [part for part in total if part[1]]


def without_last(shards: list[Parts], steps: int) -> list[Parts]:
    """Return what was served of the shards of an epoch, without its last steps."""
    left = [list(parts) for parts in shards]
    while steps and left:
        if not left[-1]:
            left.pop()
            continue
        ranks, served = left[-1].pop()
        if served > steps:
            left[-1].append((ranks, served - steps))
        steps -= min(served, steps)
    return left
