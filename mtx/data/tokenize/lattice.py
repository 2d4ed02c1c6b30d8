"""Sampling from a unigram language model: any segmentation of a word, by its probability to the power of `alpha`.

Forward filtering, backward sampling (Kudo 2018, as in SentencePiece): each place in a word gets the sum over all ways
to arrive there; then a segmentation is drawn from the end of the word back, piece by piece. Sums are found once for
each distinct word and kept as shares of 2**32, so that an epoch needs whole numbers only, and comes out the same on
every machine.

As in the library, a character that is no piece by itself is spelled in bytes, at the lowest score of all less 10.

A word of B bytes has B + 1 nodes, one before each byte and one at its end. An edge into a node is a token that may end
there; bytes that spell a character pass through the nodes inside it, which no other edge reaches.
"""

import json
from dataclasses import dataclass
from functools import partial
from math import frexp, ldexp
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import sampling
from mtx.data.tokenize.draws import ONE, draws, keyed
from mtx.data.tokenize.sampling import Ids, Int, fixed, id_type, offsets_of
from mtx.data.tokenize.words import Words
from mtx.errors import TokenizerError

Array = NDArray[Any]

UNKNOWN_PENALTY = 10.0  # below the lowest score; the library's constant
NO_PIECE = -1
TOO_LITTLE = -2000  # two to this power is 0 as a float64
MANTISSA_STEPS = float(1 << 40)  # of a weight, so that the last bit of a machine's exp2 makes no difference


@dataclass(frozen=True)
class Lattice:
    """All ways to cut all distinct words, by the node that an edge ends in.

    Attributes:
        nodes: int64 [words + 1]; word k has the nodes from `nodes[k]` up to `nodes[k + 1]`, exclusive.
        edge_offsets: int64 [nodes + 1]; the edges into node k.
        edge_start: int32 [edges], the node that an edge comes from.
        edge_id: the token, uint16 or uint32 [edges].
        edge_until: uint64 [edges]: the edge's node × 2**32 + the share, of 2**32, of this edge and those before it
            among all into the node.
    """

    nodes: Int
    edge_offsets: Int
    edge_start: Array
    edge_id: Array
    edge_until: Array


class LatticeSampler:
    """Draws segmentations of the words of one side; a `SubwordSampler`.

    Args:
        tokenizer: with a Unigram model that has a byte fallback.
        words: the rows.
        alpha: power of the probabilities; 0: all segmentations alike, large: the best one alone.
        compiled: False: by numpy; None: by compiled kernels where there are any. Both give the same.

    Raises TokenizerError where the model has no byte fallback.
    """

    def __init__(self, tokenizer: Tokenizer, words: Words, *, alpha: float, compiled: bool | None = None) -> None:
        self._made = partial(type(self), tokenizer, words, alpha=alpha, compiled=compiled)
        self._kernels = None if compiled is False else sampling.load()
        self.lattice = lattice_of(tokenizer, words.distinct, alpha, self._kernels)
        self._bytes = np.diff(self.lattice.nodes) - 1
        self._rows = fixed(words.numbers), fixed(words.offsets)
        if self._kernels is not None:
            with sampling.compiling(self._kernels):
                self.sample(0, 0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode rows; see `SubwordSampler`."""
        numbers, offsets = self._rows
        here = numbers[offsets[first] : offsets[end]]
        if self._kernels is None:
            return self._by_numpy(here, first, end, key)
        out = np.empty(int(self._bytes[here].sum()), dtype=self.lattice.edge_id.dtype)
        lengths = np.empty(end - first, dtype=np.int64)
        shape = self.lattice
        written = self._kernels.walk_rows(
            *(numbers, offsets, first, end, np.uint64(key)),
            *(shape.nodes, shape.edge_offsets, shape.edge_start, shape.edge_id, shape.edge_until),
            *(out, lengths),
        )
        return out[:written], lengths

    def _by_numpy(self, here: Array, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Walk all words together, one token of each at a time."""
        offsets = self._rows[1][first : end + 1]
        row = np.repeat(np.arange(end - first), np.diff(offsets))
        keys = keyed(keyed(key, row + first), np.arange(len(here)) - (offsets[:-1] - offsets[0])[row])
        node, origin = self.lattice.nodes[here.astype(np.int64) + 1] - 1, self.lattice.nodes[here]
        active = np.flatnonzero(node > origin)
        steps: list[tuple[Int, Ids]] = []
        while len(active):
            drawn = node[active].astype(np.uint64) * np.uint64(ONE) + draws(keys[active], np.array([len(steps)]))
            edge = np.searchsorted(self.lattice.edge_until, drawn, side="right")
            steps.append((active, self.lattice.edge_id[edge]))
            node[active] = self.lattice.edge_start[edge]
            active = active[node[active] > origin[active]]
        tokens = np.zeros(len(here), dtype=np.int64)
        for active, _ in steps:
            tokens[active] += 1
        ends = np.cumsum(tokens)
        out = np.empty(int(tokens.sum()), dtype=self.lattice.edge_id.dtype)
        for number, (active, ids) in enumerate(steps):
            out[ends[active] - 1 - number] = ids
        return out, np.bincount(row, weights=tokens, minlength=end - first).astype(np.int64)


def lattice_of(tokenizer: Tokenizer, distinct: list[str], alpha: float, kernels: Any | None) -> Lattice:
    """Build the lattice of all distinct words; see `Lattice`."""
    model = json.loads(tokenizer.to_str())["model"]
    byte_ids = np.array([tokenizer.token_to_id(f"<0x{byte:02X}>") or 0 for byte in range(256)], dtype=np.int64)
    if not model.get("byte_fallback") or not byte_ids.all():
        raise TokenizerError(
            "tokenizer.alpha needs a vocabulary with byte_fallback and its 256 byte tokens, as mtx trains it, but this "
            "one has none. Train one with tokenizer=unigram, or set tokenizer.alpha=null"
        )
    trie = _Trie([piece.encode() for piece, _ in model["vocab"]])
    scores = np.array([score for _, score in model["vocab"]], dtype=np.float64)
    exponents = alpha * np.append(scores, scores.min() - UNKNOWN_PENALTY) / np.log(2)
    exponents = np.append(exponents, 0.0)  # bytes behind a character's first
    whole = np.floor(exponents)
    encoded = [word.encode() for word in distinct]
    nodes = offsets_of([len(word) + 1 for word in encoded])
    text = np.frombuffer(b"".join(word + b"\0" for word in encoded), dtype=np.uint8)
    find, weigh = (find_edges, weigh_edges) if kernels is None else (kernels.find_edges, kernels.weigh_edges)
    given = text, nodes, *trie.arrays, fixed(byte_ids), len(scores)
    room = [np.empty(0, dtype=np.int64) for _ in range(4)]
    num_edges = find(*given, *room)
    start, end, token, weight = (np.empty(num_edges, dtype=np.int64) for _ in range(4))
    find(*given, start, end, token, weight)
    by_end = np.argsort(end, kind="stable")
    edge_offsets = offsets_of(np.bincount(end, minlength=len(text)))
    until = np.empty(num_edges, dtype=np.uint64)
    mantissas = fixed(np.round(np.exp2(exponents - whole) * MANTISSA_STEPS) / MANTISSA_STEPS)
    powers = fixed(whole.astype(np.int64))
    weigh(nodes, edge_offsets, fixed(start[by_end]), fixed(weight[by_end]), mantissas, powers, until)
    return Lattice(
        nodes,
        edge_offsets,
        fixed(start[by_end].astype(np.int32)),
        fixed(token[by_end].astype(id_type(len(scores)))),
        fixed(until),
    )


class _Trie:
    """All pieces as a tree of bytes, in arrays. Node 0 is the root; children are sorted by byte."""

    def __init__(self, pieces: list[bytes]) -> None:
        ways: list[dict[int, int]] = [{}]
        ends = [NO_PIECE]
        for number, piece in enumerate(pieces):
            node = 0
            for byte in piece:
                if (below := ways[node].get(byte)) is None:
                    below = ways[node][byte] = len(ways)
                    ways.append({})
                    ends.append(NO_PIECE)
                node = below
            if node:
                ends[node] = number
        children = [item for way in ways for item in sorted(way.items())]
        table = np.array(children, dtype=np.int64).reshape(-1, 2)
        self.arrays = (
            offsets_of([len(way) for way in ways]),
            fixed(table[:, 0]),
            fixed(table[:, 1]),
            fixed(np.array(ends)),
        )


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
    """Find all edges, in the order of their starts; return their number. Fills the last four unless they are empty.

    `weights` gets the number of an edge's weight: its token's, or `unknown` at the first byte of a character that is
    no piece, `unknown + 1` at the others.
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
    """Fill `until`, as in `Lattice`, from weights of mantissa × 2**power.

    Sums are kept as mantissa and power of two, which no long word and no `alpha` makes too small or too large; and all
    arithmetic is exact or rounded in one defined way, so that compiled or not, it comes to the same.
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
                lower = int(max(power[edge_start[edge]] + powers[edge_weight[edge]] - highest, TOO_LITTLE))
                total += ldexp(mantissa[edge_start[edge]] * mantissas[edge_weight[edge]], lower)
            so_far = 0.0
            for edge in range(first, last):
                lower = int(max(power[edge_start[edge]] + powers[edge_weight[edge]] - highest, TOO_LITTLE))
                so_far += ldexp(mantissa[edge_start[edge]] * mantissas[edge_weight[edge]], lower)
                until[edge] = node * ONE + (ONE if edge + 1 == last else int(so_far / total * ONE))
            if first < last:
                mantissa[node], lower = frexp(total)
                power[node] = highest + lower
