"""Functions that find the edges of a unigram lattice and compute their weights, for `unigram_sampling.py`.

They run as plain Python, or compiled in `sampling_kernels.py`, with equal results.
"""

from math import frexp, ldexp
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtx.data.tokenize.counter_rng import ONE

Array = NDArray[Any]

MIN_EXPONENT = -2000  # exponent at which a power of two is 0 in float64


def find_edges(
    text: Array,
    nodes: Array,
    child_offsets: Array,
    child_byte: Array,
    child_node: Array,
    piece: Array,
    byte_ids: Array,
    unknown: int,
    starts: Array,
    ends: Array,
    tokens: Array,
    weights: Array,
) -> int:
    """Find all edges of all words, in the order of their start nodes, and return the number of edges.

    The last four arrays are filled, unless they are empty. `weights` receives the index of each edge's weight, which is
    the token of a piece. For a character without a piece it is `unknown` at its first byte and `unknown + 1` at its
    other bytes.
    """
    count = 0
    fill = starts.size > 0
    for word in range(nodes.size - 1):
        end = nodes[word + 1] - 1
        at = nodes[word]
        while at < end:
            lead = text[at]
            size = 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            single = False
            node, place = 0, at
            while place < end:
                low, high = child_offsets[node], child_offsets[node + 1]
                byte = text[place]
                last = high
                while low < high:
                    middle = (low + high) // 2
                    if child_byte[middle] < byte:
                        low = middle + 1
                    else:
                        high = middle
                if low == last or child_byte[low] != byte:
                    break
                node = child_node[low]
                place += 1
                if piece[node] >= 0:
                    single = single or place - at == size
                    if fill:
                        starts[count], ends[count], tokens[count], weights[count] = at, place, piece[node], piece[node]
                    count += 1
            if not single:
                for inside in range(size):
                    if fill:
                        starts[count], ends[count] = at + inside, at + inside + 1
                        tokens[count] = byte_ids[text[at + inside]]
                        weights[count] = unknown if inside == 0 else unknown + 1
                    count += 1
            at += size
    return count


def weigh_edges(
    nodes: Array,
    edge_offsets: Array,
    edge_start: Array,
    edge_weight: Array,
    mantissas: Array,
    powers: Array,
    until: Array,
) -> None:
    """Fill `until`, which is `edge_until` of `Lattice`, from weights given as mantissa × 2**power.

    Sums are also stored as mantissa and power of two, so that long words and large `alpha` cause neither underflow nor
    overflow. All operations are exact or rounded in one defined way, so that compiled and plain code give equal
    results.
    """
    mantissa = np.zeros(edge_offsets.size - 1, dtype=np.float64)
    power = np.zeros(edge_offsets.size - 1, dtype=np.int64)
    for word in range(nodes.size - 1):
        mantissa[nodes[word]] = 1.0
        for node in range(nodes[word] + 1, nodes[word + 1]):
            first, last = edge_offsets[node], edge_offsets[node + 1]
            highest = -(1 << 62)
            for edge in range(first, last):
                highest = max(highest, power[edge_start[edge]] + powers[edge_weight[edge]])
            total = 0.0
            for edge in range(first, last):
                lower = int(max(power[edge_start[edge]] + powers[edge_weight[edge]] - highest, MIN_EXPONENT))
                total += ldexp(mantissa[edge_start[edge]] * mantissas[edge_weight[edge]], lower)
            so_far = 0.0
            for edge in range(first, last):
                lower = int(max(power[edge_start[edge]] + powers[edge_weight[edge]] - highest, MIN_EXPONENT))
                so_far += ldexp(mantissa[edge_start[edge]] * mantissas[edge_weight[edge]], lower)
                until[edge] = node * ONE + (ONE if edge + 1 == last else int(so_far / total * ONE))
            if first < last:
                mantissa[node], lower = frexp(total)
                power[node] = highest + lower
