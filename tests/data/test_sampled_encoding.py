"""An epoch's ids from words: the same however the work is split, in files that leave nothing behind."""

import threading
from pathlib import Path

import numpy as np
import pytest

from mtx.data import sampled_encoding
from mtx.data.sampled_encoding import SampledPairs
from mtx.data.tokenize.counter_rng import draw
from mtx.data.tokenize.subword_sampling import Ids, Int
from mtx.errors import ConfigError


class Drawn:
    """Stands in for a sampler: row r has r % 3 ids, drawn for it."""

    def __init__(self, most: int = 2) -> None:
        self.most = most
        self.threads: set[str] = set()

    def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
        self.threads.add(threading.current_thread().name)
        lengths = [min(row % 3, self.most) for row in range(first, end)]
        rows = zip(range(first, end), lengths, strict=True)
        ids = [draw(key + row, at) % 1000 for row, length in rows for at in range(length)]
        return np.array(ids, dtype=np.uint16), np.array(lengths, dtype=np.int64)


def pairs(scratch: Path, num_pairs: int, num_threads: int | None = None, **options: int) -> SampledPairs:
    return SampledPairs(Drawn(**options), Drawn(**options), num_pairs, scratch=scratch, num_threads=num_threads)


def lists(made: SampledPairs, seed: int = 0, epoch: int = 0) -> tuple[list[list[int]], list[list[int]]]:
    encoded = made.epoch(seed=seed, epoch=epoch)
    assert len(encoded) == len(made)
    source, target = ([side[row].tolist() for row in range(len(encoded))] for side in (encoded.source, encoded.target))
    return source, target


def test_parts_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = lists(pairs(tmp_path, 50, 1))
    assert [len(row) for row in whole[0]] == [row % 3 for row in range(50)]
    monkeypatch.setattr(sampled_encoding, "ROWS_PER_TASK", 7)
    for num_threads in (None, 1, 3, 20):
        assert lists(pairs(tmp_path, 50, num_threads)) == whole


def test_sides_epochs_and_seeds_are_drawn_apart(tmp_path: Path) -> None:
    made = pairs(tmp_path, 50)
    source, target = lists(made)
    assert source != target
    drawn = [source, lists(made, epoch=1)[0], lists(made, seed=1)[0], lists(made, epoch=2)[0]]
    assert all(a != b for number, a in enumerate(drawn) for b in drawn[:number])
    assert lists(made) == (source, target)


@pytest.mark.parametrize(("num_pairs", "most"), [(0, 2), (5, 0)], ids=["no row", "no id"])
def test_nothing_is_no_matter(tmp_path: Path, num_pairs: int, most: int) -> None:
    assert lists(pairs(tmp_path, num_pairs, most=most)) == ([[]] * num_pairs, [[]] * num_pairs)


def test_ids_are_mapped_from_files_without_a_name(tmp_path: Path) -> None:
    encoded = pairs(tmp_path, 50).epoch(seed=0, epoch=0)
    assert list(tmp_path.iterdir()) == []
    assert not encoded.source.ids.flags.owndata
    assert encoded.source.ids.dtype == np.uint16


def test_a_failing_thread_fails_the_epoch(tmp_path: Path) -> None:
    class Failing(Drawn):
        def sample(self, first: int, end: int, key: int) -> tuple[Ids, Int]:
            if end > 0:
                raise MemoryError("too much")
            return super().sample(first, end, key)

    with pytest.raises(MemoryError, match="too much"):
        SampledPairs(Failing(), Failing(), 5, scratch=tmp_path).epoch(seed=0, epoch=0)


def test_a_negative_epoch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="but are 0 and -1"):
        pairs(tmp_path, 5).epoch(seed=0, epoch=-1)
