"""Collate decoder-only batches with compiled kernels; `collate_causal.py` builds the same batches with numpy.

R is the number of rows of a batch, L their positions.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mtx.batches import compile_cache
from mtx.batches.batch_format import BatchFormat
from mtx.batches.collate_compiled import (
    DEFAULT_ID_TYPE,
    KERNEL_MODULES,
    STATE_SLOT,
    CollateSide,
    CompiledCollator,
    Int,
    Kernels,
    Tensors,
    rows_problem,
)
from mtx.batches.kernel_argument_array import (
    DONE,
    NUM_CAUSAL_ARRAYS,
    NUM_CAUSAL_SCRATCH,
    TOO_LONG,
    PromptArguments,
)
from mtx.batches.prompted_pairs import PromptVariants
from mtx.data.token_rows import TokenRows

CAUSAL_KERNEL_MODULES = (*KERNEL_MODULES, "mtx.batches.causal_kernels")
_NO_MAXIMUM = np.iinfo(np.int32).max  # no prompt has so many tokens


class CausalKernels(NamedTuple):
    """The compiled functions for decoder-only batches; see `Kernels`."""

    measure: compile_cache.Function
    place: compile_cache.Function
    fill: compile_cache.Function


@cache
def compiled_causal_kernels(
    source_ids: np.dtype[Any] = DEFAULT_ID_TYPE, target_ids: np.dtype[Any] = DEFAULT_ID_TYPE
) -> CausalKernels | None:
    """Return the kernels of decoder-only batches, as `compiled_kernels` does."""

    def compiled() -> dict[str, Any]:
        from mtx.batches import causal_kernels, collate_kernels

        return {
            "measure": collate_kernels.measure,
            "place": causal_kernels.place,
            "fill": causal_kernels.causal_fill_kernel(source_ids.type, target_ids.type),
        }

    name = f"gather-causal-{source_ids}-{target_ids}"
    functions = compile_cache.cached_functions(name, compiled, sources=CAUSAL_KERNEL_MODULES)
    return None if functions is None else CausalKernels(**functions)


class CompiledCausalCollator(CompiledCollator):
    """Builds decoder-only batches with compiled kernels, as `CompiledCollator` builds padded batches.

    Args:
        kernels: kernels for the dtypes of the sides' ids.
        source: the source side, without a maximum: the prompt decides how much of a source fits.
        target: the target side.
        prompts: the ids around the sources.
        layout: the format of the batches.
        selection: as in `CompiledCollator`.
        pin_memory: whether to allocate tensors in pinned memory.
    """

    num_arrays = NUM_CAUSAL_ARRAYS
    num_scratch = NUM_CAUSAL_SCRATCH

    def __init__(
        self,
        kernels: CausalKernels,
        source: CollateSide,
        target: CollateSide,
        *,
        prompts: PromptVariants,
        layout: BatchFormat,
        selection: NDArray[Any] | None = None,
        pin_memory: bool = False,
    ) -> None:
        super().__init__(
            Kernels(kernels.measure, kernels.fill),
            source,
            target,
            selection=selection,
            bos=layout.target.bos,
            label_pad=layout.label_padding,
        )
        self._place, self._pin_memory = kernels.place, pin_memory
        of_pair = prompts.of_pair
        if of_pair is not None:
            of_pair = np.ascontiguousarray(of_pair, np.uint32 if of_pair.dtype == np.uint32 else np.int64)
        before, between = _wide(prompts.before), _wide(prompts.between)
        self._kept = (of_pair, before, between)  # the kernels hold their addresses
        most = layout.max_source_tokens
        further = PromptArguments(
            variants=0 if of_pair is None else of_pair.ctypes.data,
            variant_bytes=0 if of_pair is None else of_pair.itemsize,
            num_variants=min(len(before), len(between)),
            most_prompt=_NO_MAXIMUM if most is None else most,
            length_multiple=layout.length_multiple,
            before_ids=before.ids.ctypes.data,
            before_num_ids=before.ids.size,
            before_offsets=before.offsets.ctypes.data,
            between_ids=between.ids.ctypes.data,
            between_num_ids=between.ids.size,
            between_offsets=between.offsets.ctypes.data,
        )
        self._call = np.append(self._call, np.array(further, dtype=np.int64))

    def batches(self, rows: Sequence[Int], widths: Sequence[tuple[int, int]]) -> list[Tensors] | None:
        """Return ids, positions, labels and segments [R, L] and row numbers of one batch for each of `rows`.

        Args:
            rows: numbers of the pairs of each batch, int64 [B].
            widths: rows and positions of each packed batch; (0, 0): one pair a row, or one row without padding.

        Returns:
            The tensors in the order of the schema, int64; None if a pair is longer than a packed row.

        Raises:
            IndexError: a row number or an offset is out of range; no id is read in that case.
        """
        call = self._measured_call(rows)
        call.widths[:] = [size for shape in widths for size in shape]
        self._place(call.address)
        if (state := int(call.block[STATE_SLOT])) != DONE:
            if state == TOO_LONG:
                return None
            raise IndexError(rows_problem(self._num_pairs, np.concatenate(rows)))
        shapes = call.widths.reshape(-1, 2).tolist()
        made = [self._tables(size, shape) for size, shape in zip(call.sizes, shapes, strict=True)]
        call.places[:] = [tensor.data_ptr() for tensors in made for tensor in tensors]
        self._kernels.fill(call.address)
        return made

    def _tables(self, size: int, shape: list[int]) -> Tensors:
        if self._pin_memory:
            shapes = [*[shape] * (NUM_CAUSAL_ARRAYS - 1), [size]]
            return [torch.empty(each, dtype=torch.int64, pin_memory=True) for each in shapes]
        empty, tensor, ids = np.empty, torch.from_numpy, np.int64  # takes half the time of torch.empty
        return (
            tensor(empty(shape, ids)),
            tensor(empty(shape, ids)),
            tensor(empty(shape, ids)),
            tensor(empty(shape, ids)),
            tensor(empty(size, ids)),
        )


def _wide(rows: TokenRows) -> TokenRows:
    return TokenRows(rows.ids.astype(np.int64), rows.offsets)
