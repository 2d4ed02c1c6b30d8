"""Collate rows with compiled kernels: two passes over the rows of several batches.

`compiled_kernels` returns the functions of `collate_kernels.py` as machine code, and `CompiledCollator` calls them. If
`compiled_kernels` returns None, `collate.py` does the same with numpy index arithmetic, several times slower. B is the
number of pairs, S and T the source and target positions.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mtx.batches import compile_cache
from mtx.batches.kernel_argument_array import DONE, NUM_ARRAYS, NUM_FLAT_ARRAYS, NUM_SCRATCH, KernelArguments

DEFAULT_ID_TYPE = np.dtype(np.uint16)  # holds the ids of most vocabularies
KERNEL_MODULES = ("mtx.batches.collate_kernels", "mtx.batches.kernel_argument_array", "mtx.batches.kernel_memory")
FLAT_KERNEL_MODULES = (*KERNEL_MODULES, "mtx.batches.flat_kernels")

Int = NDArray[np.int64]
Tensors = Sequence[Tensor]  # tensors of a batch, in the order of `kernel_argument_array.py`


class Kernels(NamedTuple):
    """The compiled functions of `collate_kernels.py`.

    Each function takes the address of a `KernelArguments` array and releases the interpreter lock.
    """

    measure: compile_cache.Function
    fill: compile_cache.Function


@cache
def compiled_kernels(
    source_ids: np.dtype[Any] = DEFAULT_ID_TYPE, target_ids: np.dtype[Any] = DEFAULT_ID_TYPE
) -> Kernels | None:
    """Return the kernels for ids of these dtypes, or None if they are not available; the log then gives the reason.

    The first process on a machine compiles the kernels, which takes some seconds; later processes read them from a
    file.
    """

    def compiled() -> dict[str, Any]:
        from mtx.batches import collate_kernels

        return {
            "measure": collate_kernels.measure,
            "fill": collate_kernels.fill_kernel(source_ids.type, target_ids.type),
        }

    functions = compile_cache.cached_functions(f"gather-{source_ids}-{target_ids}", compiled, sources=KERNEL_MODULES)
    return None if functions is None else Kernels(**functions)


@cache
def compiled_flat_kernels(
    source_ids: np.dtype[Any] = DEFAULT_ID_TYPE, target_ids: np.dtype[Any] = DEFAULT_ID_TYPE
) -> Kernels | None:
    """Return the kernels of flat batches, as `compiled_kernels` does."""

    def compiled() -> dict[str, Any]:
        from mtx.batches import collate_kernels, flat_kernels

        fill = flat_kernels.flat_fill_kernel(source_ids.type, target_ids.type)
        return {"measure": collate_kernels.measure, "fill": fill}

    name = f"gather-flat-{source_ids}-{target_ids}"
    functions = compile_cache.cached_functions(name, compiled, sources=FLAT_KERNEL_MODULES)
    return None if functions is None else Kernels(**functions)


class CollateSide(NamedTuple):
    """Source or target side of all encoded pairs, and how its rows are written into a batch.

    Attributes:
        ids: token ids of all rows, one row after the other: uint16, uint32 or int64 [number of tokens], contiguous.
        offsets: int64 [n + 1], contiguous; row i has the ids from `offsets[i]` to `offsets[i + 1]`.
        capacity: largest number of a row's own ids; further ids are cut off.
        pad: id that fills a row after its real tokens.
        eos: id that ends a row.
        extra: number of positions of a row in addition to its own ids: 1 for EOS or BOS, else 0.
        multiple: the width of a batch is rounded up to a multiple of this number.
        dropped: number of first positions that are removed from the batch later, and do not count in its width.
    """

    ids: NDArray[Any]
    offsets: Int
    capacity: int
    pad: int
    eos: int
    extra: int
    multiple: int
    dropped: int = 0

    def width(self, longest: int, least: int) -> int:
        """Return the width of a batch whose longest row has `longest` ids, but at least `least`, in positions."""
        needed = max(min(longest, self.capacity) + self.extra - self.dropped, least)
        return -(-needed // self.multiple) * self.multiple + self.dropped


class CompiledCollator:
    """Builds batches of rows with compiled kernels. Thread-safe; not picklable, since it holds memory addresses.

    Args:
        kernels: kernels for the dtypes of the sides' ids.
        source: the source side.
        target: the target side; each row has one extra position, for EOS in labels and BOS in decoder ids.
        selection: row number of each pair, uint32 or int64 [n], contiguous; None: pair i is row i.
        bos: id that starts decoder ids.
        label_pad: value that fills labels after EOS.
        pin_memory: whether to allocate tensors in pinned memory.
    """

    def __init__(
        self,
        kernels: Kernels,
        source: CollateSide,
        target: CollateSide,
        *,
        selection: NDArray[Any] | None = None,
        bos: int,
        label_pad: int,
        pin_memory: bool = False,
    ) -> None:
        self._kernels = kernels
        self._sides, self._selection = (source, target), selection
        self._num_pairs = len(source.offsets) - 1 if selection is None else len(selection)
        self._empty = _pinned_tensors if pin_memory else _pageable_tensors
        unknown = dict.fromkeys(("num_batches", "begins", "rows", "widths", "totals", "places", "scratch"), 0)
        call = KernelArguments(
            **unknown,
            state=DONE,
            num_rows=len(source.offsets) - 1,
            num_pairs=self._num_pairs,
            selected=0 if selection is None else selection.ctypes.data,
            selected_bytes=0 if selection is None else selection.itemsize,
            source_ids=source.ids.ctypes.data,
            source_num_ids=source.ids.size,
            source_offsets=source.offsets.ctypes.data,
            source_room=source.capacity,
            source_pad=source.pad,
            source_eos=source.eos,
            target_ids=target.ids.ctypes.data,
            target_num_ids=target.ids.size,
            target_offsets=target.offsets.ctypes.data,
            target_room=target.capacity,
            target_pad=target.pad,
            target_eos=target.eos,
            source_extra=source.extra,
            target_bos=bos,
            label_pad=label_pad,
        )
        self._call = np.array(call, dtype=np.int64)

    num_arrays = NUM_ARRAYS
    num_scratch = NUM_SCRATCH

    def __call__(self, rows: Sequence[Int], widths: Sequence[tuple[int, int]]) -> list[Tensors]:
        """Return the tensors of one batch for each of `rows`, padded to at least the S and T in `widths`.

        Raises:
            IndexError: a row number or an offset is out of range; no id is read in that case.
        """
        call = self._measured_call(rows)
        made = self._empty_batches(call, widths)
        call.places[:] = [tensor.data_ptr() for tensors in made for tensor in tensors]
        self._kernels.fill(call.address)
        return made

    def _measured_call(self, rows: Sequence[Int]) -> "_Call":
        """Return the arguments of the kernels for these batches, after the kernel `measure`."""
        num_batches, sizes = len(rows), [len(each) for each in rows]
        num_rows, fixed = sum(sizes), len(self._call)
        # One array holds the kernel arguments and all arrays that they point to, since looking up an address is slow.
        of_sides, num_places = 2 * num_batches, self.num_arrays * num_batches
        ends = list(accumulate((fixed, num_batches + 1, of_sides, of_sides, num_places, num_rows)))
        block = np.empty(ends[-1] + self.num_scratch * num_rows, dtype=np.int64)
        address = ctypes.addressof(_Byte.from_buffer(block.data))
        block[:fixed] = self._call
        block[CALL_SLOTS] = [num_batches, *(address + INT_BYTES * end for end in ends)]
        block[fixed : ends[1]] = [0, *accumulate(sizes)]
        all_rows = block[ends[4] : ends[5]]
        if num_rows:
            all_rows[:] = rows[0] if num_batches == 1 else np.concatenate(rows)
        self._kernels.measure(address)
        if block[STATE_SLOT] != DONE:
            raise IndexError(rows_problem(self._num_pairs, all_rows))
        return _Call(
            address=address,
            block=block,
            sizes=sizes,
            widths=block[ends[1] : ends[2]],
            totals=block[ends[2] : ends[3]],
            places=block[ends[3] : ends[4]],
        )

    def _empty_batches(self, call: "_Call", widths: Sequence[tuple[int, int]]) -> list[Tensors]:
        """Allocate the tensors of all batches, and write S and T of each batch into `call.widths`."""
        longest = call.widths.tolist()
        source, target = self._sides
        padded: list[int] = []
        for number, (least_source, least_target) in enumerate(widths):
            padded.append(source.width(longest[2 * number], least_source))
            padded.append(target.width(longest[2 * number + 1], least_target))
        call.widths[:] = padded
        return [self._empty(size, padded[2 * number], padded[2 * number + 1]) for number, size in enumerate(call.sizes)]


class CompiledFlatCollator(CompiledCollator):
    """Builds flat batches with compiled kernels, as `CompiledCollator` builds padded batches."""

    num_arrays = NUM_FLAT_ARRAYS

    def _empty_batches(self, call: "_Call", widths: Sequence[tuple[int, int]]) -> list[Tensors]:
        """Allocate the tensors of all batches, and write the tokens of both sides of each batch into `call.widths`."""
        totals, extra = iter(call.totals.tolist()), self._sides[0].extra
        tokens = [(next(totals) + extra * size, next(totals) + size) for size in call.sizes]
        call.widths[:] = [*chain.from_iterable(tokens)]
        return [self._empty_flat(size, *each) for size, each in zip(call.sizes, tokens, strict=True)]

    def _empty_flat(self, size: int, source: int, target: int) -> Tensors:
        if self._empty is _pinned_tensors:
            int64, int32 = torch.int64, torch.int32
            sizes = size, source, size + 1, source, target, target, size + 1, target
            types = int64, int64, int32, int32, int64, int64, int32, int32
            return [torch.empty(n, dtype=kind, pin_memory=True) for n, kind in zip(sizes, types, strict=True)]
        empty, tensor, ids, small = np.empty, torch.from_numpy, np.int64, np.int32
        return (
            tensor(empty(size, ids)),
            tensor(empty(source, ids)),
            tensor(empty(size + 1, small)),
            tensor(empty(source, small)),
            tensor(empty(target, ids)),
            tensor(empty(target, ids)),
            tensor(empty(size + 1, small)),
            tensor(empty(target, small)),
        )


class _Call(NamedTuple):
    """Arguments of the kernels for some batches: the address, and views of the arrays to which the arguments point."""

    address: int
    block: Int
    sizes: list[int]
    widths: Int
    totals: Int
    places: Int


INT_BYTES = 8
STATE_SLOT = KernelArguments._fields.index("state")
CALL_SLOTS = slice(KernelArguments._fields.index("num_batches"), KernelArguments._fields.index("scratch") + 1)
_Byte = ctypes.c_char


def rows_problem(num_rows: int, rows: Int) -> str:
    """Return an error message for `rows` that cannot be read from a dataset of `num_rows` rows."""
    wrong = rows[(rows < 0) | (rows >= num_rows)]
    if len(wrong):
        return f"rows are numbered from 0 to {num_rows - 1}, but row {wrong[0]} was requested"
    return (
        "the offsets of the encoded rows do not match their ids, so the dataset is damaged. Move it out of the store "
        "with `mtx task=verify full=true repair=true`; the next run builds it again"
    )


def _pageable_tensors(size: int, source: int, target: int) -> Tensors:
    empty, tensor, int64, mask = np.empty, torch.from_numpy, np.int64, np.bool_  # takes half the time of torch.empty
    return (
        tensor(empty(size, int64)),
        tensor(empty((size, source), int64)),
        tensor(empty((size, source), mask)),
        tensor(empty((size, target), int64)),
        tensor(empty((size, target), int64)),
        tensor(empty((size, target), mask)),
    )


def _pinned_tensors(size: int, source: int, target: int) -> Tensors:
    shapes = (size,), (size, source), (size, source), (size, target), (size, target), (size, target)
    types = torch.int64, torch.int64, torch.bool, torch.int64, torch.int64, torch.bool
    return [torch.empty(shape, dtype=kind, pin_memory=True) for shape, kind in zip(shapes, types, strict=True)]
