"""Pack rows in a given order into batches of nearly equal numbers of tokens, with a few rows exchanged.

If a random order is cut where a batch is full, up to the length of a row stays unused. Here, the last row of a batch is
chosen among the next rows. So the batch gets its share of the tokens that are left.
"""

import numpy as np

from mtx.batches.plan.planner import Int

MAX_RETURNED = 3  # last rows of a batch that may give their place to one longer row


def packed_offsets(tokens: Int, order: Int, cap: int, num_batches: int, look_ahead: int) -> Int:
    """Cut rows into batches of at most `cap` tokens, and exchange rows in `tokens` and `order` to fill the batches.

    A batch takes rows in order, and then one of the next `look_ahead` rows. It gets at least the mean number of tokens
    of all batches that are left, but as few more as possible. So the mean of the remaining batches never grows, and the
    last batch fits as well. The time is a few dozen microseconds for each batch.

    Args:
        tokens: int64 [n], tokens of each row in order, at most `cap`; changed in place.
        order: int64 [n], names of the rows; changed in place like `tokens`.
        cap: largest number of tokens in a batch.
        num_batches: wanted number of batches.
        look_ahead: number of following rows from which the last row of a batch is chosen, at least 1.

    Returns:
        Offsets of the batches, int64 [number of batches + 1]. There are more than `num_batches` batches if these cannot
        hold all rows, and fewer if there are too few rows.
    """
    packing = _Packing(tokens, order, cap, look_ahead)
    offsets = [0]
    while offsets[-1] < len(tokens):
        batches_left = num_batches - len(offsets) + 1
        tokens_left = packing.tokens_from(offsets[-1])
        target = min(cap, -(-tokens_left // batches_left)) if batches_left > 0 else cap
        offsets.append(packing.batch_end(offsets[-1], target))
    return np.array(offsets, dtype=np.int64)


class _Packing:
    """Rows in order, with the running sum of their tokens."""

    def __init__(self, tokens: Int, order: Int, cap: int, look_ahead: int) -> None:
        self._tokens = tokens
        self._order = order
        self._cap = cap
        self._look_ahead = look_ahead
        self._sums = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(tokens, dtype=np.int64)])

    def tokens_from(self, start: int) -> int:
        """Return the tokens of all rows from `start` on."""
        return int(self._sums[-1] - self._sums[start])

    def batch_end(self, start: int, target: int) -> int:
        """Return the end of the batch that begins at `start`, after moving suitable rows before the end."""
        sums, goal = self._sums, int(self._sums[start]) + target
        end = int(np.searchsorted(sums, goal, side="right")) - 1
        while end < len(self._tokens) and (gap := goal - int(sums[end])):
            if closed := self._closed_end(start, end, gap, self._cap - target):
                return closed
            ahead = self._tokens[end : end + self._look_ahead]
            fitting = np.where(ahead <= gap, ahead, -1)
            chosen = int(fitting.argmax())
            if fitting[chosen] < 0:
                break
            self._exchange(end, end + chosen)
            end += 1
        return end

    def _closed_end(self, start: int, end: int, gap: int, room: int) -> int:
        """Choose a row that closes the gap and exceeds it by at most `room`; return the batch's end, or 0 without one.

        The row may also replace the last rows of the batch, which then come first in the next batch.
        """
        ahead = self._tokens[end : end + self._look_ahead]
        num_returned = min(MAX_RETURNED, max(end - start - 1, 0))
        gaps = gap + self._sums[end] - self._sums[end - num_returned : end + 1][::-1]
        excess = ahead - gaps[:, None]
        excess[(excess < 0) | (excess > room)] = self._cap + 1
        best = int(excess.argmin())
        if excess.flat[best] > room:
            return 0
        returned, chosen = divmod(best, len(ahead))
        self._exchange(end - returned, end + chosen)
        return end - returned + 1

    def _exchange(self, first: int, second: int) -> None:
        if first == second:
            return
        for values in (self._tokens, self._order):
            values[first], values[second] = values[second], values[first]
        # the running sums between the two rows change by the difference of their tokens
        self._sums[first + 1 : second + 1] += self._tokens[first] - self._tokens[second]
