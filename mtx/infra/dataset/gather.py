"""The compiled way from rows of ids to padded tensors: two passes over the rows of some batches.

`load` gives the functions of `kernels.py` as machine code. Where it returns None, `collate.py` does the same by numpy's
index arithmetic, at a fraction of the rate. `Gather` calls them. B pairs, S source and T target positions.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.infra.dataset import native
from mtx.infra.dataset.call import ARRAYS, DONE, Call

IDS = np.dtype(np.uint16)  # what most vocabularies fit into
SOURCES = ("mtx.infra.dataset.kernels", "mtx.infra.dataset.call")

Int = NDArray[np.int64]
Tensors = Sequence[Tensor]  # of a batch: row ids; source ids, mask; decoder ids, labels, target mask


class Kernels(NamedTuple):
    """The functions of `kernels.py`. Each takes the address of a `Call`, and lets other threads run meanwhile."""

    measure: native.Function
    fill: native.Function


@cache
def load(source_ids: np.dtype[Any] = IDS, target_ids: np.dtype[Any] = IDS) -> Kernels | None:
    """Return the kernels for ids of these types, or None where they cannot be had; the log says why.

    The first process on a machine compiles them, which takes some seconds; others read them from a file.
    """

    def compiled() -> dict[str, Any]:
        from mtx.infra.dataset import kernels

        return {"measure": kernels.measure, "fill": kernels.filler(source_ids.type, target_ids.type)}

    functions = native.load(f"gather-{source_ids}-{target_ids}", compiled, sources=SOURCES)
    return None if functions is None else Kernels(**functions)


class Side(NamedTuple):
    """One side of all pairs, and how its rows look in a batch.

    Attributes:
        ids: uint16, uint32 or int64 [number of tokens], contiguous.
        offsets: int64 [n + 1], contiguous.
        room: ids that a row may have at most.
        pad: fills up rows.
        eos: closes them.
        extra: positions of a row beside its ids: EOS, if there is one.
        multiple: widths are rounded up to a multiple of it.
    """

    ids: NDArray[Any]
    offsets: Int
    room: int
    pad: int
    eos: int
    extra: int
    multiple: int

    def width(self, longest: int, least: int) -> int:
        """Return the positions of a batch whose longest row has `longest` ids, but at least `least` of them."""
        return -(-max(min(longest, self.room) + self.extra, least) // self.multiple) * self.multiple


class Gather:
    """Makes batches of rows with compiled functions. Thread-safe; of one process, since it holds addresses.

    Args:
        kernels: loaded for the types of the sides' ids.
        source: the source's side.
        target: the target's side; each row has EOS, behind its labels, or BOS, before the decoder's ids.
        bos: opens decoder ids.
        label_pad: fills up labels.
        pin_memory: make tensors in pinned memory.
    """

    def __init__(
        self, kernels: Kernels, source: Side, target: Side, *, bos: int, label_pad: int, pin_memory: bool = False
    ) -> None:
        self._kernels = kernels
        self._sides = source, target
        self._empty = _pinned if pin_memory else _pageable
        unknown = dict.fromkeys(("num_batches", "begins", "rows", "widths", "places", "scratch"), 0)
        call = Call(
            **unknown,
            state=DONE,
            num_rows=len(source.offsets) - 1,
            source_ids=source.ids.ctypes.data,
            source_num_ids=source.ids.size,
            source_offsets=source.offsets.ctypes.data,
            source_room=source.room,
            source_pad=source.pad,
            source_eos=source.eos,
            target_ids=target.ids.ctypes.data,
            target_num_ids=target.ids.size,
            target_offsets=target.offsets.ctypes.data,
            target_room=target.room,
            target_pad=target.pad,
            target_eos=target.eos,
            source_extra=source.extra,
            target_bos=bos,
            label_pad=label_pad,
        )
        self._call = np.array(call, dtype=np.int64)

    def __call__(self, rows: Sequence[Int], widths: Sequence[tuple[int, int]]) -> list[Tensors]:
        """Return the tensors of a batch of each of `rows`, padded to at least each of `widths`.

        Raises IndexError for rows that are not there, before anything of their ids is read.
        """
        num_batches, sizes = len(rows), [len(each) for each in rows]
        num_rows, fixed = sum(sizes), len(self._call)
        # A call, and behind it all that it tells the addresses of, in one array, since finding an address takes long.
        ends = list(accumulate((fixed, num_batches + 1, 2 * num_batches, ARRAYS * num_batches, num_rows)))
        block = np.empty(ends[-1] + 4 * num_rows, dtype=np.int64)
        address = ctypes.addressof(_Byte.from_buffer(block.data))
        block[:fixed] = self._call
        block[BY_CALL] = [num_batches, *(address + INT_BYTES * end for end in ends)]
        block[fixed : ends[1]] = [0, *accumulate(sizes)]
        all_rows = block[ends[3] : ends[4]]
        if num_rows:
            all_rows[:] = rows[0] if num_batches == 1 else np.concatenate(rows)
        self._kernels.measure(address)
        if block[STATE] != DONE:
            raise IndexError(what_is_wrong(len(self._sides[0].offsets) - 1, all_rows))

        longest = block[ends[1] : ends[2]].tolist()
        source, target = self._sides
        padded: list[int] = []
        for number, (least_source, least_target) in enumerate(widths):
            padded.append(source.width(longest[2 * number], least_source))
            padded.append(target.width(longest[2 * number + 1], least_target))
        made: list[Tensors] = [
            self._empty(size, padded[2 * number], padded[2 * number + 1]) for number, size in enumerate(sizes)
        ]
        block[ends[1] : ends[2]] = padded
        block[ends[2] : ends[3]] = [tensor.data_ptr() for tensors in made for tensor in tensors]
        self._kernels.fill(address)
        return made


INT_BYTES = 8
STATE = Call._fields.index("state")
BY_CALL = slice(Call._fields.index("num_batches"), Call._fields.index("scratch") + 1)
_Byte = ctypes.c_char


def what_is_wrong(num_rows: int, rows: Int) -> str:
    """Return why `rows` of so many cannot be read."""
    wrong = rows[(rows < 0) | (rows >= num_rows)]
    if len(wrong):
        return f"rows are numbered from 0 to {num_rows - 1}, but row {wrong[0]} was asked for"
    return (
        "the offsets of the encoded rows do not fit their ids, so the dataset is damaged. Remove it from the store, "
        "which `mtx task=show` lists, and let it be built again"
    )


def _pageable(size: int, source: int, target: int) -> Tensors:
    empty, tensor, int64, mask = np.empty, torch.from_numpy, np.int64, np.bool_  # half of what torch.empty takes
    return (
        tensor(empty(size, int64)),
        tensor(empty((size, source), int64)),
        tensor(empty((size, source), mask)),
        tensor(empty((size, target), int64)),
        tensor(empty((size, target), int64)),
        tensor(empty((size, target), mask)),
    )


def _pinned(size: int, source: int, target: int) -> Tensors:
    shapes = (size,), (size, source), (size, source), (size, target), (size, target), (size, target)
    types = torch.int64, torch.int64, torch.bool, torch.int64, torch.int64, torch.bool
    return [torch.empty(shape, dtype=kind, pin_memory=True) for shape, kind in zip(shapes, types, strict=True)]
