"""Which split a pair of a raw training set goes to: by a hash of its source sentence, so at any order of the input.

A source without a validation or test split gets them held out from its training split. All pairs of a source
sentence go to the same split, so that no sentence that is trained on is measured on.
"""

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from mtx.data.dataset import SPLITS, Split
from mtx.data.pairs import Pairs, pair_batches
from mtx.errors import ConfigError
from mtx.infra.dataset.pairs import ROWS_PER_BATCH

TRAIN, VALIDATION, TEST, LEAK = range(4)  # what `assign` says of a pair; the first three as in `SPLITS`

HASHES = 2**64  # how many values a hash has
MAX_SEED = HASHES - 1

UNEVEN_SPACE = r"[\t-\r\x1c-\x1f]|  "  # white space of ASCII, but for one space at a time


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """How much of a training split is held out where the source has no such split of its own.

    A whole number is a count of pairs: sources are taken whole, in the order of their hashes, until the count is
    reached, so there may be more by the further pairs of the last source. A fraction between 0 and 1 is the chance
    of each source sentence: a corpus that grows keeps what was held out. Validation takes the lowest hashes and test
    the highest, so that changing one leaves the other as it was.

    Args:
        validation: pairs or fraction for validation; None or 0: none.
        test: pairs or fraction for test; None or 0: none.
        seed: another seed holds out other sentences, 0 to 2^64 - 1.
        drop_leaks: leave out training pairs whose source sentence stands in the source's own validation or test split.
    """

    validation: int | float | None = None
    test: int | float | None = None
    seed: int = 0
    drop_leaks: bool = True

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError("\n".join(problems))

    def _problems(self) -> Iterator[str]:
        sizes = {name: getattr(self, name) for name in SPLITS[1:]}
        for name, size in sizes.items():
            if size is None or (_is_count(size) and size >= 0) or (isinstance(size, float) and 0 <= size < 1):
                continue
            yield (
                f"datamodule.{name} is a count of pairs (500), a fraction between 0 and 1 (0.01), or null for none, "
                f"but is {size!r}"
            )
            sizes[name] = None
        if sum(size for size in sizes.values() if isinstance(size, float)) >= 1:
            yield (
                f"datamodule.validation={self.validation} and datamodule.test={self.test} leave nothing to train on: "
                "the fractions together are below 1. Lower one of them"
            )
        if not _is_count(self.seed) or not 0 <= self.seed <= MAX_SEED:
            yield f"the seed of held-out splits is a whole number from 0 to 2^64 - 1, but is {self.seed!r}"
        if not isinstance(self.drop_leaks, bool):
            yield f"datamodule.drop_leaks is true or false, but is {self.drop_leaks!r}"


def assign(
    pairs: pa.Table, held_out: HeldOut, *, wanted: Collection[str] = SPLITS[1:], own: Iterable[Pairs] = ()
) -> NDArray[np.uint8]:
    """Decide the split of each pair of a raw training split.

    Args:
        pairs: columns `src` and `tgt`; may be memory-mapped and larger than memory.
        held_out: how much is held out.
        wanted: the splits to hold out, of `validation` and `test`: those that the source has not itself.
        own: the source's own validation and test pairs. Training pairs with a source sentence of theirs are leaks,
            which go to no split; they count neither as held out nor as there to hold out from.

    Returns:
        uint8 [n]: `TRAIN`, `VALIDATION`, `TEST` or `LEAK`. Some 20 bytes of memory a pair while it is made.

    Raises:
        ConfigError: the sizes of the held-out splits leave nothing to train on.
    """
    sizes = {str(name): getattr(held_out, name) if name in wanted else None for name in SPLITS[1:]}
    leaked = [source_hashes(part, seed=held_out.seed) for part in own] if held_out.drop_leaks else []
    assignment = np.full(pairs.num_rows, TRAIN, dtype=np.uint8)
    if not leaked and not any(sizes.values()):
        return assignment
    hashes = source_hashes(pairs, seed=held_out.seed)
    if leaked:
        assignment[np.isin(hashes, np.unique(np.concatenate(leaked)))] = LEAK
    free = assignment == TRAIN
    assignment[free] = _held_out(hashes[free], sizes)
    return assignment


def select(pairs: pa.Table, assignment: NDArray[np.uint8], split: Split) -> Iterator[pa.RecordBatch]:
    """Stream the pairs that `assign` gave to `split`, in order, as record batches of `PAIR_SCHEMA`. At least one."""
    return pair_batches(_selected(pairs, assignment == SPLITS.index(split)))


def source_hashes(pairs: Pairs, *, seed: int = 0) -> NDArray[np.uint64]:
    """Hash each pair's source sentence: uint64 [n], XXH3 of 64 bits, the same on every machine and in every version.

    Sentences that differ only in white space (around them, or how much and of which kind between words) or in their
    Unicode normal form have the same hash.
    """
    digest = partial(xxh3_64_intdigest, seed=seed)
    parts = [
        np.fromiter(map(digest, normalized(batch.column("src"))), dtype=np.uint64, count=batch.num_rows)
        for batch in pair_batches(pairs)
    ]
    return np.concatenate(parts)


def normalized(text: pa.LargeStringArray) -> list[bytes]:
    """Return `unicodedata.normalize("NFC", " ".join(text.split()))` of each text, as UTF-8."""
    text = pc.utf8_trim_whitespace(text)
    # A Python call only where it may change something. Arrow's own NFC differs between its versions.
    changes = pc.or_(pc.match_substring_regex(text, UNEVEN_SPACE), pc.invert(pc.string_is_ascii(text)))
    texts: list[bytes] = text.cast(pa.large_binary()).to_pylist()
    for row in np.flatnonzero(changes.to_numpy(zero_copy_only=False)):
        texts[row] = unicodedata.normalize("NFC", " ".join(texts[row].decode().split())).encode()
    return texts


def _held_out(hashes: NDArray[np.uint64], sizes: Mapping[str, int | float | None]) -> NDArray[np.uint8]:
    """Choose pairs by the hashes of their sources: uint8 [n], as `assign` returns. Raises as `assign` does."""
    asked = " and ".join(f"datamodule.{name}={size}" for name, size in sizes.items() if size)
    counts = [size for size in sizes.values() if size and isinstance(size, int)]
    if counts and sum(counts) >= len(hashes):
        raise ConfigError(
            f"{asked} must hold out fewer pairs than there are, but there are {len(hashes):,}. "
            "Hold out fewer, or set it to null"
        )
    validation = _lowest(hashes, sizes["validation"])
    test = _lowest(~hashes, sizes["test"])
    if len(hashes) and (np.any(validation & test) or np.all(validation | test)):
        raise ConfigError(
            f"with {asked}, none of the {len(hashes):,} pairs is left to train on, since pairs of one source sentence "
            "stay together. Hold out fewer, or set it to null"
        )
    split = np.full(len(hashes), TRAIN, dtype=np.uint8)
    split[validation] = VALIDATION
    split[test] = TEST
    return split


def _lowest(hashes: NDArray[np.uint64], size: int | float | None) -> NDArray[np.bool_]:
    """Tell which pairs have the lowest hashes, of a fraction of all hashes or of `size` pairs and their ties: bool [n].

    There is a hash a pair, so the hash of the k-th pair in their order is that of the source which reaches k pairs.
    """
    if not size:
        return np.zeros(len(hashes), dtype=np.bool_)
    bound = int(size * HASHES) - 1 if isinstance(size, float) else int(np.partition(hashes, size - 1)[size - 1])
    lowest: NDArray[np.bool_] = hashes <= np.uint64(max(0, bound))
    return lowest


def _selected(pairs: pa.Table, mask: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in pairs.to_batches(max_chunksize=ROWS_PER_BATCH):
        yield batch.filter(pa.array(mask[start : start + batch.num_rows]))
        start += batch.num_rows


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
