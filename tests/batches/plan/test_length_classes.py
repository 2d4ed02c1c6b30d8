"""Classes of equal lengths, by hand and against a plain reference."""

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.batches.plan import same_length_classes as module
from mtx.batches.plan.planner import Lengths
from mtx.batches.plan.same_length_classes import MAX_CLASSES, LengthClasses, length_classes


def classes_of(lengths: Lengths, *, multiple: int = 1, limit: int = 10_000) -> LengthClasses:
    return length_classes(lengths, np.arange(len(lengths), dtype=np.int32), multiple=multiple, limit=limit)


def test_rows_of_equal_lengths_lie_together() -> None:
    classes = classes_of(Lengths.of([3, 1, 3, 1, 3], [2, 5, 2, 1, 9]))
    assert list(zip(classes.source.tolist(), classes.target.tolist(), classes.count.tolist(), strict=True)) == [
        (1, 1, 1),
        (1, 5, 1),
        (3, 2, 2),
        (3, 9, 1),
    ]
    assert classes.rows.tolist() == [3, 1, 0, 2, 4]
    assert classes.rows_in(np.array([2, 0, 3, 1]), None).tolist() == [0, 2, 3, 4, 1]


def test_long_lengths_are_rounded_up_to_eight_bits_but_not_above_the_limit() -> None:
    classes = classes_of(Lengths.of([0, 1, 255, 256, 257, 258, 1001, 1021], [1] * 8), limit=1022)
    assert classes.source.tolist() == [1, 255, 256, 258, 1004, 1022]
    assert classes.count.tolist() == [2, 1, 1, 2, 1, 1]


def test_lengths_are_rounded_up_to_the_multiple_first() -> None:
    classes = classes_of(Lengths.of([0, 8, 9, 100], [3, 3, 3, 3]), multiple=8)
    assert classes.source.tolist() == [8, 16, 104]
    assert classes.target.tolist() == [8, 8, 8]


def test_as_many_classes_as_sixteen_bits_can_name_stay_exact() -> None:
    source, target = np.meshgrid(np.arange(1, 257), np.arange(1, 257))
    classes = classes_of(Lengths.of(source.ravel(), target.ravel()))
    assert len(classes) == 65_536
    assert classes.count.max() == 1


def test_too_many_classes_become_coarser() -> None:
    random = np.random.default_rng(0)
    lengths = Lengths.of(*random.integers(1, 3000, (2, 300_000)))
    classes = classes_of(lengths)
    assert 1000 < len(classes) <= MAX_CLASSES
    assert sorted(classes.rows.tolist()) == list(range(300_000))
    ratio = np.repeat(classes.source, classes.count) / lengths.source[classes.rows]
    assert 1 <= ratio.min() <= ratio.max() < 1.05


@settings(max_examples=100, deadline=None)
@given(
    pairs=st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), max_size=60),
    order=st.randoms(use_true_random=False),
    shuffled=st.booleans(),
)
def test_small_chunks_and_blocks_give_what_a_plain_sort_gives(
    pairs: list[tuple[int, int]], order: object, shuffled: bool
) -> None:
    lengths = Lengths.of([source for source, _ in pairs], [target for _, target in pairs])
    with patch.object(module, "CHUNK_ROWS", 7), patch.object(module, "SHUFFLE_BLOCK_ROWS", 5):
        classes = classes_of(lengths)
        names = list(range(len(classes)))
        order.shuffle(names)  # type: ignore[attr-defined]
        random = np.random.default_rng(0) if shuffled else None
        rows = classes.rows_in(np.array(names, dtype=np.int64), random).tolist()
    assert classes.rows.tolist() == sorted(range(len(pairs)), key=lambda row: pairs[row])
    sizes = [(classes.source[name], classes.target[name]) for name in names]
    if shuffled:
        assert sorted(rows) == list(range(len(pairs)))
        assert [pairs[row] for row in rows] == sorted(pairs, key=sizes.index)
    else:
        assert rows == sorted(range(len(pairs)), key=lambda row: (sizes.index(pairs[row]), row))


def test_every_order_of_a_class_comes_up() -> None:
    classes = classes_of(Lengths.of([4, 9, 4, 4]))
    seen = {tuple(classes.rows_in(np.array([0, 1]), np.random.default_rng(k)).tolist()) for k in range(60)}
    assert seen == {(0, 2, 3, 1), (0, 3, 2, 1), (2, 0, 3, 1), (2, 3, 0, 1), (3, 0, 2, 1), (3, 2, 0, 1)}
