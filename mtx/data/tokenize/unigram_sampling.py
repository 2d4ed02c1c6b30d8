"""Samples segmentations of words from a unigram language model, each by its probability to the power of `alpha`.

The method is forward filtering, backward sampling (Kudo 2018, as in SentencePiece). First, each position in a word gets
the total weight of all paths to this position. Then a segmentation is drawn from the end of the word to its start,
token by token. The weights are computed once for each distinct word and stored as multiples of 1/2**32. An epoch
therefore uses only integers, and gives equal results on every machine.

As in the `tokenizers` library, a character without a piece is spelled in bytes, with the lowest score minus 10.

A word of B bytes has B + 1 nodes: one before each byte and one at its end. An edge is a token that ends at its node.
The bytes of a spelled character pass through the nodes inside the character, which no other edge reaches.
"""

import json
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from mtx.data.tokenize import subword_sampling
from mtx.data.tokenize.counter_rng import ONE, derived_keys, draws
from mtx.data.tokenize.lattice_edges import find_edges, weigh_edges
from mtx.data.tokenize.subword_sampling import Ids, Int, id_type, offsets_of, read_only_view
from mtx.data.tokenize.user_symbols import symbol_ids
from mtx.data.tokenize.word_index import WordIndex
from mtx.errors import TokenizerError

Array = NDArray[Any]

UNKNOWN_PENALTY = 10.0  # subtracted from the lowest score for characters without a piece; constant of the library
NO_PIECE = -1
MANTISSA_STEPS = float(1 << 40)  # precision of a weight, so that differences of exp2 between machines have no effect


@dataclass(frozen=True)
class Lattice:
    """All segmentations of all distinct words as a graph, whose edges are grouped by their end node.

    Attributes:
        nodes: int64 [words + 1]; word k has the nodes from `nodes[k]` to `nodes[k + 1]` (exclusive).
        edge_offsets: int64 [nodes + 1]; node k has the incoming edges from `edge_offsets[k]` to `edge_offsets[k + 1]`.
        edge_start: int32 [edges], the start node of each edge.
        edge_id: uint16 or uint32 [edges], the token id of each edge.
        edge_until: uint64 [edges], the end node × 2**32 + the cumulative probability, as a multiple of 1/2**32, of the
            edge and the preceding edges into the same node.
    """

    nodes: Int
    edge_offsets: Int
    edge_start: Array
    edge_id: Array
    edge_until: Array


class LatticeSampler:
    """Samples the segmentations of the words of one side; implements `SubwordSampler`.

    Args:
        tokenizer: a tokenizer with a Unigram model that has a byte fallback.
        words: the words of all rows.
        alpha: power of the probabilities; 0: all segmentations are equally likely; large: only the best one.
        compiled: False: use numpy; None: use compiled kernels if numba is available. The results are equal.

    Raises TokenizerError if the model has no byte fallback.
    """

    def __init__(self, tokenizer: Tokenizer, words: WordIndex, *, alpha: float, compiled: bool | None = None) -> None:
        self._made = partial(type(self), tokenizer, words, alpha=alpha, compiled=compiled)
        self._kernels = None if compiled is False else subword_sampling.compiled_sampling_kernels()
        self.lattice = lattice_of(tokenizer, words.distinct, alpha, self._kernels)
        self._bytes = np.diff(self.lattice.nodes) - 1
        self._rows = read_only_view(words.numbers), read_only_view(words.offsets)
        if self._kernels is not None:
            with subword_sampling.compile_lock(self._kernels):
                self.sample(0, 0, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._made, ()

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Encode a range of rows; see `SubwordSampler.sample`."""
        numbers, offsets = self._rows
        here = numbers[offsets[first] : offsets[end]]
        if self._kernels is None:
            return self._numpy_sample(here, first, end, key)
        out = np.empty(int(self._bytes[here].sum()), dtype=self.lattice.edge_id.dtype)
        lengths = np.empty(end - first, dtype=np.int64)
        shape = self.lattice
        written = self._kernels.walk_rows(
            *(numbers, offsets, first, end, np.uint64(key)),
            *(shape.nodes, shape.edge_offsets, shape.edge_start, shape.edge_id, shape.edge_until),
            *(out, lengths),
        )
        return out[:written], lengths

    def _numpy_sample(self, here: Array, first: int, end: int, key: int) -> tuple[Ids, Int]:
        """Draw the tokens of all words in parallel, one token of each word per step, from the end to the start."""
        offsets = self._rows[1][first : end + 1]
        row = np.repeat(np.arange(end - first), np.diff(offsets))
        keys = derived_keys(derived_keys(key, row + first), np.arange(len(here)) - (offsets[:-1] - offsets[0])[row])
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
    """Build the lattice of all distinct words. Raises TokenizerError if the model has no byte fallback."""
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
    exponents = np.append(exponents, 0.0)  # the weight of the second and later bytes of a spelled character
    whole = np.floor(exponents)
    # a symbol is one byte here, so that its word has one edge, which gets the id of the symbol below
    symbols = symbol_ids(tokenizer)
    encoded = [b"\0" if word in symbols else word.encode() for word in distinct]
    nodes = offsets_of([len(word) + 1 for word in encoded])
    text = np.frombuffer(b"".join(word + b"\0" for word in encoded), dtype=np.uint8)
    find, weigh = (find_edges, weigh_edges) if kernels is None else (kernels.find_edges, kernels.weigh_edges)
    given = text, nodes, *trie.arrays, read_only_view(byte_ids), len(scores)
    room = [np.empty(0, dtype=np.int64) for _ in range(4)]
    num_edges = find(*given, *room)
    start, end, token, weight = (np.empty(num_edges, dtype=np.int64) for _ in range(4))
    find(*given, start, end, token, weight)
    whole_words = [number for number, word in enumerate(distinct) if word in symbols]
    of_symbol = np.isin(end, nodes[whole_words] + 1)
    token[of_symbol] = np.array([symbols[distinct[number]] for number in whole_words], dtype=np.int64)
    by_end = np.argsort(end, kind="stable")
    edge_offsets = offsets_of(np.bincount(end, minlength=len(text)))
    until = np.empty(num_edges, dtype=np.uint64)
    mantissas = read_only_view(np.round(np.exp2(exponents - whole) * MANTISSA_STEPS) / MANTISSA_STEPS)
    powers = read_only_view(whole.astype(np.int64))
    weigh(nodes, edge_offsets, read_only_view(start[by_end]), read_only_view(weight[by_end]), mantissas, powers, until)
    return Lattice(
        nodes,
        edge_offsets,
        read_only_view(start[by_end].astype(np.int32)),
        read_only_view(token[by_end].astype(id_type(max([len(scores), *(number + 1 for number in symbols.values())])))),
        read_only_view(until),
    )


class _Trie:
    """All pieces as a trie over bytes, in flat arrays. Node 0 is the root; children of a node are sorted by byte."""

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
            read_only_view(table[:, 0]),
            read_only_view(table[:, 1]),
            read_only_view(np.array(ends)),
        )
