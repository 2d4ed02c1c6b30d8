"""Assigns each pair of a raw training split to train, validation or test, by a hash of its source sentence.

The validation or test split is held out from the training split if the source has no such split. The assignment does
not depend on the order of the input. All pairs with the same source sentence go to the same split, so that no
validation sentence is trained on.
"""

import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import field
from functools import partial
from typing import Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field
from xxhash import xxh3_64_intdigest

from mtx.components.checked_options import Natural, component
from mtx.components.identity import JSON, LATER, identity
from mtx.data.bounded_pair_batches import Pairs, pair_batches
from mtx.data.dataset import SPLITS
from mtx.data.growing_array import GrowingArray
from mtx.errors import ConfigError
from mtx.infra.dataset.language_names import SIDES

# Values in the result of `split_assignment`; the first three as in `SPLITS`. The stage adds the last one.
TRAIN, VALIDATION, TEST, LEAK, CONTAMINATED = range(5)
CLUSTER_GROUPS = "cluster"  # the value of `datamodule.split_by` for clusters of near-duplicates

NUM_HASHES = 2**64  # number of possible hash values
MAX_SEED = NUM_HASHES - 1

Sides = tuple[NDArray[np.uint64], NDArray[np.uint64]]  # the hashes of sources and of targets

UNEVEN_SPACE = r"[\t-\r\x1c-\x1f]|  "  # matches ASCII white space other than single spaces


# A number of pairs, or a fraction of the pairs; null or 0: none.
HeldOutSize = Annotated[
    Natural | Annotated[float, Field(ge=0, lt=1)] | None,
    Field(description="a count of pairs (500), a fraction between 0 and 1 (0.01), or null for none"),
]
SplitBy = Annotated[str | None, Field(title="split_by")]
DropLeaks = bool | Literal["either_side"]
DropContaminated = bool | Literal["ngram"]
HashSeed = Annotated[int, Field(ge=0, le=MAX_SEED, title="held_out_seed")]


@component("datamodule")
class HeldOut:
    """How many pairs of the training split are held out for validation and test if the source has no such splits.

    A whole number is a number of pairs. All pairs of a source sentence stay together, so the split may exceed this
    number by the other pairs of its last sentence. A fraction between 0 and 1 is the probability of each source
    sentence. If the corpus grows, the sentences that were held out stay held out. Validation takes the sentences with
    the lowest hashes, and test those with the highest, so that changing one size does not change the other split.

    Args:
        validation: number or fraction of pairs for validation; None or 0: none.
        test: number or fraction of pairs for test; None or 0: none.
        seed: seed of the hash, 0 to 2^64 - 1; another seed holds out other sentences.
        drop_leaks: drop training pairs whose source sentence also occurs in the source's validation or test split.
            `either_side` also drops those that share a sentence of any side with any held-out pair, such as the same
            pair in the other direction.
        by: a column of the corpus, such as a document, or `cluster`: all pairs with one value are held out together.
            Training pairs with a source sentence that was held out with another value are leaks. Training pairs with a
            value that the source's own validation or test split has are leaks, too. None: no groups.
        drop_contaminated: drop training pairs whose source or target equals a held-out one up to case, white space and
            punctuation. `ngram` also drops those of which a side shares an 8-gram of words with a held-out one.
    """

    kind: ClassVar[str] = "split/held_out"
    version: ClassVar[int] = 1

    validation: HeldOutSize = None
    test: HeldOutSize = None
    seed: HashSeed = 0
    drop_leaks: DropLeaks = True
    by: SplitBy = field(default=None, metadata=LATER)
    drop_contaminated: DropContaminated = field(default=False, metadata=LATER)

    def described(self) -> dict[str, JSON]:
        """Return the identity with the names that the fields have as options of the data module."""
        return {"split_by" if name == "by" else name: value for name, value in identity(self).items()}

    def __post_init__(self) -> None:
        if sum(size for size in (self.validation, self.test) if isinstance(size, float)) >= 1:
            raise ConfigError(
                f"datamodule.validation={self.validation} and datamodule.test={self.test} leave nothing to train on: "
                "the sum of the fractions must be below 1. Lower one of them"
            )


def split_assignment(
    pairs: Pairs,
    held_out: HeldOut,
    *,
    wanted: Collection[str] = SPLITS[1:],
    own: Iterable[Pairs] = (),
    groups: NDArray[np.uint64] | None = None,
    own_groups: Iterable[NDArray[np.uint64]] = (),
    noun: str = "source sentence",
    hashed: Callable[[], Sides] | None = None,
) -> NDArray[np.uint8]:
    """Return the split of each pair of a raw training split.

    Args:
        pairs: columns `src` and `tgt`; may be memory-mapped and larger than memory.
        held_out: how many pairs to hold out.
        wanted: the splits to hold out, of `validation` and `test`; those that the source does not have.
        own: pairs of the source's own validation and test splits. Training pairs with a source sentence of these pairs
            are leaks: they go to no split, and the sizes in `held_out` ignore them.
        groups: uint64 [n], the hash of the group of each pair. Pairs of a group are held out together, and training
            pairs with a source sentence that is held out are leaks. None: pairs with one source sentence are a group.
        own_groups: hashes of groups of the source's own splits; training pairs of these groups are leaks, unless
            `held_out.drop_leaks` is False.
        noun: what a group is, in messages.
        hashed: returns the `side_hashes` of the pairs, with targets for `either_side`; None: they are computed here.

    Returns:
        uint8 [n]: `TRAIN`, `VALIDATION`, `TEST` or `LEAK`. The computation takes about 12 bytes of memory per pair.

    Raises ConfigError if the held-out splits leave no pair for training.
    """
    sizes = {str(name): getattr(held_out, name) if name in wanted else None for name in SPLITS[1:]}
    is_either = held_out.drop_leaks == "either_side"
    kept_apart = [side_hashes(part, seed=held_out.seed) for part in own] if held_out.drop_leaks else []
    empty = np.uint64(xxh3_64_intdigest(b"", seed=held_out.seed))  # shared by pairs that have nothing in common
    leaked = [np.concatenate([one, other[other != empty]]) if is_either else one for one, other in kept_apart]
    own_groups = [*own_groups] if held_out.drop_leaks else []
    if not leaked and not own_groups and not any(sizes.values()):
        return np.full(num_rows_of(pairs), TRAIN, dtype=np.uint8)
    hashes, target_hashes = hashed() if hashed else side_hashes(pairs, seed=held_out.seed, with_targets=is_either)
    assignment = np.full(len(hashes), TRAIN, dtype=np.uint8)
    if leaked:
        unwanted = np.unique(np.concatenate(leaked))
        assignment[np.isin(hashes, unwanted)] = LEAK
        if is_either:
            assignment[np.isin(target_hashes, unwanted[unwanted != empty])] = LEAK
    if groups is not None and own_groups:
        assignment[np.isin(groups, np.unique(np.concatenate(own_groups)))] = LEAK
    held_by = hashes if groups is None else groups
    if np.any(assignment):  # there are leaks; a selection is a copy
        free = assignment == TRAIN
        assignment[free] = _held_out_splits(held_by[free], sizes, noun)
    else:
        assignment = _held_out_splits(held_by, sizes, noun)
    if groups is not None and held_out.drop_leaks:
        is_held_out = (assignment == VALIDATION) | (assignment == TEST)
        assignment[(assignment == TRAIN) & np.isin(hashes, np.unique(hashes[is_held_out]))] = LEAK
    if is_either:
        _drop_shared_sides(assignment, hashes, target_hashes, empty)
    return assignment


def _drop_shared_sides(
    assignment: NDArray[np.uint8], hashes: NDArray[np.uint64], target_hashes: NDArray[np.uint64], empty: np.uint64
) -> None:
    """Make training pairs leaks, in place, that share a sentence of either side with a held-out pair.

    Raises ConfigError if no training pair is left.
    """
    is_held_out = (assignment == VALIDATION) | (assignment == TEST)
    texts = np.unique(np.concatenate([hashes[is_held_out], target_hashes[is_held_out]]))
    texts = texts[texts != empty]
    assignment[(assignment == TRAIN) & (np.isin(hashes, texts) | np.isin(target_hashes, texts))] = LEAK
    if len(assignment) and not np.any(assignment == TRAIN):
        raise ConfigError(
            f"datamodule.drop_leaks=either_side leaves none of the {len(assignment):,} pairs for training, because all "
            "others share a sentence with a held-out pair. Set datamodule.drop_leaks=true, or hold out fewer pairs"
        )


def num_rows_of(pairs: Pairs) -> int:
    """Return the number of pairs; record batches are consumed to count them."""
    return pairs.num_rows if isinstance(pairs, pa.Table) else sum(batch.num_rows for batch in pairs)


def source_hashes(pairs: Pairs, *, seed: int = 0) -> NDArray[np.uint64]:
    """Return the 64-bit XXH3 hash of each pair's source sentence: uint64 [n], the same on all machines and versions.

    Two sentences have the same hash if they differ only in their Unicode normal form or in white space. The white space
    may be around the sentence, or of another amount or kind between words.
    """
    return side_hashes(pairs, seed=seed, with_targets=False)[0]


def side_hashes(pairs: Pairs, *, seed: int, with_targets: bool = True) -> Sides:
    """Return the hashes of each pair's source and target, as `source_hashes`; without targets, the second is empty."""
    return joined_sides(hash_batches(pairs, seed=seed, with_targets=with_targets))


def hash_batches(pairs: Pairs, *, seed: int, with_targets: bool) -> Iterator[pa.RecordBatch]:
    """Stream the hashes of `side_hashes`: the columns `src` and, with targets, `tgt`, uint64."""
    digest = partial(xxh3_64_intdigest, seed=seed)
    for batch in pair_batches(pairs):
        texts = {name: batch.column(name) for name in (SIDES if with_targets else SIDES[:1])}
        hashes = {
            name: np.fromiter(map(digest, normalized_texts(side)), dtype=np.uint64, count=batch.num_rows)
            for name, side in texts.items()
        }
        yield pa.record_batch({name: pa.array(values) for name, values in hashes.items()})


def joined_sides(batches: Iterable[pa.RecordBatch]) -> Sides:
    """Return the hashes of `hash_batches` as two arrays."""
    sides = tuple(GrowingArray(np.uint64) for _ in SIDES)
    for batch in batches:
        for side, column in zip(sides, batch.columns, strict=False):
            side.append(column.to_numpy())
    return sides[0].values(), sides[1].values()


def normalized_texts(text: pa.LargeStringArray) -> list[bytes]:
    """Return `unicodedata.normalize("NFC", " ".join(text.split()))` of each text, as UTF-8."""
    text = pc.utf8_trim_whitespace(text)
    # Call Python only for texts that may change. Arrow's own NFC is not used, because it differs between its versions.
    changes = pc.or_(pc.match_substring_regex(text, UNEVEN_SPACE), pc.invert(pc.string_is_ascii(text)))
    texts: list[bytes] = text.cast(pa.large_binary()).to_pylist()
    for row in np.flatnonzero(changes.to_numpy(zero_copy_only=False)):
        texts[row] = unicodedata.normalize("NFC", " ".join(texts[row].decode().split())).encode()
    return texts


def _held_out_splits(
    hashes: NDArray[np.uint64], sizes: Mapping[str, int | float | None], noun: str
) -> NDArray[np.uint8]:
    """Assign pairs to splits by the hashes of their groups: uint8 [n], as in `split_assignment`.

    Raises ConfigError if no pair is left for training.
    """
    asked = " and ".join(f"datamodule.{name}={size}" for name, size in sizes.items() if size)
    counts = [size for size in sizes.values() if size and isinstance(size, int)]
    if counts and sum(counts) >= len(hashes):
        raise ConfigError(
            f"{asked} must hold out fewer pairs than there are, but there are {len(hashes):,}. "
            "Hold out fewer, or set it to null"
        )
    validation = _lowest_mask(hashes, sizes["validation"])
    test = _highest_mask(hashes, sizes["test"])
    if len(hashes) and (np.any(validation & test) or np.all(validation | test)):
        raise ConfigError(
            f"with {asked}, none of the {len(hashes):,} pairs is left for training, because pairs with the same "
            f"{noun} stay together. Hold out fewer, or set it to null"
        )
    split = np.full(len(hashes), TRAIN, dtype=np.uint8)
    split[validation] = VALIDATION
    split[test] = TEST
    return split


def _lowest_mask(hashes: NDArray[np.uint64], size: int | float | None) -> NDArray[np.bool_]:
    """Return which pairs have the lowest hashes: bool [n].

    `size` is a fraction of the range of hash values, or a number of pairs. For a number, all pairs whose hash is at
    most the `size`-th lowest hash are selected. So pairs with equal source sentences stay together.
    """
    if not size:
        return np.zeros(len(hashes), dtype=np.bool_)
    bound = int(size * NUM_HASHES) - 1 if isinstance(size, float) else int(np.partition(hashes, size - 1)[size - 1])
    lowest: NDArray[np.bool_] = hashes <= np.uint64(max(0, bound))
    return lowest


def _highest_mask(hashes: NDArray[np.uint64], size: int | float | None) -> NDArray[np.bool_]:
    """Return which pairs have the highest hashes: bool [n]. `size` is as in `_lowest_mask`."""
    if not size:
        return np.zeros(len(hashes), dtype=np.bool_)
    if isinstance(size, float):
        bound = MAX_SEED - max(0, int(size * NUM_HASHES) - 1)
    else:
        bound = int(np.partition(hashes, len(hashes) - size)[len(hashes) - size])
    highest: NDArray[np.bool_] = hashes >= np.uint64(bound)
    return highest
