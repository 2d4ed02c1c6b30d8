"""Memory access inside compiled kernels: arrays at an address, and rows that are copied in blocks.

This module imports numba, so it is imported only to compile. Nothing here can raise or call Python, so machine code of
the kernels runs without numba and without the interpreter lock. Addresses are int64.
"""

from collections.abc import Callable
from typing import Any

import numba as typed_numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils

numba: Any = typed_numba  # untyped, since numba's annotations lack some options and the signature of intrinsics
carray, types = numba.carray, numba.types
Decorator = Callable[[Callable[..., Any]], Any]

INT_BYTES, INT32_BYTES = 8, 4  # an unsigned number has the size of a signed one
BLOCK = 16  # ids that are copied at once; most rows have no more
UInt = np.uint64  # loops over unsigned indices are vectorized, since no index is checked for being below 0
ONE = UInt(1)

inner_kernel: Decorator = numba.njit(error_model="numpy")
# Wrappers for Python and C are left out, since their code calls numba and Python.
entry_point: Decorator = numba.njit(
    types.void(types.int64), error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)
_intrinsic: Decorator = numba.extending.intrinsic


@_intrinsic
def pointer(_: Any, address: Any) -> Any:
    """Convert an int64 address to a pointer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> ir.Value:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@inner_kernel
def int_array(address: int, size: int) -> Any:
    """Return the int64 array [size] at an address."""
    return carray(pointer(address), (size,), np.int64)


def row_writer(id_type: Any, *, shifted: bool = False, positions: bool = False) -> Any:
    """Return a kernel that writes a row of ids of a dtype as int64 numbers.

    It writes whole blocks, so up to BLOCK numbers after the row are overwritten, if there is memory for them. A loop
    over single ids would check for each row whether its arrays overlap, and its end would be hard to predict.

    Args:
        id_type: numpy type of the ids.
        shifted: whether to write the ids a second time, one place later, to another table.
        positions: whether to write the int32 numbers from 0 to the length of the row, inclusive if there is room.
    """
    size = np.dtype(id_type).itemsize
    copy_block = _block_copier(8 * size)

    @inner_kernel
    def write_row(
        ids: int, num_ids: int, start: int, length: int, room: int, table: int, later: int, places: int
    ) -> None:
        """Write `length` of the `num_ids` ids at `ids`, from number `start` on, to `table`, `later` and `places`.

        Each of these has memory for `room` numbers: at least `length`, or one more with `shifted`.
        """
        whole = (length + BLOCK) & -BLOCK  # more than the length
        row = ids + size * start
        if start + whole <= num_ids and whole < room:
            for first in range(0, whole, BLOCK):
                copy_block(row + size * first, table + INT_BYTES * first)
                if shifted:
                    copy_block(row + size * first, later + INT_BYTES * (first + 1))
                if positions:
                    _position_block(places + INT32_BYTES * first, first)
        else:
            source, written = carray(pointer(row), (length,), id_type), int_array(table, length)
            moved, numbers = int_array(later, length + 1), carray(pointer(places), (length + 1,), np.int32)
            for j in range(UInt(length)):
                written[j] = source[j]
                if shifted:
                    moved[j + ONE] = source[j]
            if positions:
                for j in range(UInt(min(length + 1, room))):
                    numbers[j] = j

    return write_row


def _block_copier(bits: int) -> Any:
    """Return a function that copies BLOCK ids of so many bits to int64 numbers."""

    @_intrinsic
    def copy_block(_: Any, ids: Any, table: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values = builder.load(builder.inttoptr(arguments[0], _vector(bits).as_pointer()), align=bits // 8)
            if bits < 8 * INT_BYTES:
                values = builder.zext(values, _vector(64))
            builder.store(values, builder.inttoptr(arguments[1], _vector(64).as_pointer()), align=INT_BYTES)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64), generate

    return copy_block


@_intrinsic
def _position_block(_: Any, table: Any, first: Any) -> Any:
    """Write BLOCK int32 numbers from `first` on."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector, int32 = _vector(32), ir.IntType(32)
        undefined, zeros = ir.Constant(vector, ir.Undefined), ir.Constant(vector, [0] * BLOCK)
        values = builder.insert_element(undefined, builder.trunc(arguments[1], int32), ir.Constant(int32, 0))
        values = builder.shuffle_vector(values, undefined, zeros)
        values = builder.add(values, ir.Constant(vector, list(range(BLOCK))))
        builder.store(values, builder.inttoptr(arguments[0], vector.as_pointer()), align=INT32_BYTES)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


def _vector(bits: int) -> ir.VectorType:
    return ir.VectorType(ir.IntType(bits), BLOCK)
