"""What is reported of an epoch, worked out by hand."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtx.batches.plan.planner import Lengths, Plan
from mtx.errors import ConfigError
from mtx.experiment import measure
from mtx.experiment.measure import batch_sizes, long_pair_counts, neighbour_correlation
from mtx.records.report_record import Ledger, Report, TooLong, TooLongBySide

LENGTHS = Lengths.of([2, 3, 5, 1], [4, 4, 1, 2])


def planned(order: list[int], sizes: tuple[int, ...] = (2, 2)) -> Plan:
    none = np.empty(0, dtype=np.int32)
    offsets = np.cumsum([0, *sizes])
    return Plan(4, np.arange(4, dtype=np.int32), offsets, np.array(order), none, none)


def test_padding_shapes_and_tokens() -> None:
    # batch 0: rows 0, 1: 2 x (3 + 4) slots, 13 real; batch 1: rows 2, 3: 2 x (5 + 2) slots, 9 real
    report = batch_sizes(planned([0, 1]), LENGTHS)
    assert report.padding_ratio == pytest.approx(1 - 22 / 28)
    assert report.source_padding_ratio == pytest.approx(1 - 11 / 16)
    assert report.target_padding_ratio == pytest.approx(1 - 11 / 12)
    assert report.num_shapes == 2
    assert report.max_padded_tokens == 10
    assert report.real_tokens == 22
    assert report.real_tokens_per_batch is not None
    assert report.real_tokens_per_batch.mean == 11


def test_neighbours_correlate_where_batches_run_from_short_to_long() -> None:
    lengths = Lengths.of([1, 2, 3, 4])
    assert neighbour_correlation(planned([0, 1, 2, 3], (1, 1, 1, 1)), lengths) == pytest.approx(1)
    assert neighbour_correlation(planned([0, 3, 1, 2], (1, 1, 1, 1)), lengths) < 0


def test_no_correlation_of_few_batches_or_equal_ones() -> None:
    assert neighbour_correlation(planned([0, 1]), LENGTHS) == 0
    assert neighbour_correlation(planned([0, 1, 2, 3], (1, 1, 1, 1)), Lengths.of([7, 7, 7, 7])) == 0


def test_pairs_too_long_by_side_add_up_to_the_ledger() -> None:
    ledger = Ledger(num_pairs=9, batched=0, dropped_length=9, dropped_remainder=0)
    counts = {"dropped_length": 7, "truncated": 0, "dropped_length_source": 4, "dropped_length_target": 5}
    counts |= {"dropped_length_both": 2, "truncated_source": 0, "truncated_target": 0, "truncated_both": 0}
    assert long_pair_counts(ledger, counts) == TooLong(
        dropped=TooLongBySide(source=4, target=5, both=2, sampler=2),
        truncated=TooLongBySide(source=0, target=0, both=0),
    )


def test_memory_that_is_filled_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rollup = tmp_path / "smaps_rollup"
    monkeypatch.setattr(measure, "MEMORY_FILE", rollup)
    assert measure.anonymous_memory_mb() is None
    rollup.write_text("00400000-7fff Rss:\nRss:  9000 kB\nAnonymous:     1000 kB\nSwap: 0 kB\n")
    assert measure.anonymous_memory_mb() == 1.024


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="only Linux tells")
def test_memory_does_not_count_mapped_files(tmp_path: Path) -> None:
    (tmp_path / "zeros").write_bytes(bytes(1 << 25))
    before = measure.anonymous_memory_mb()
    mapped = np.memmap(tmp_path / "zeros", dtype=np.uint8, mode="r")
    assert int(mapped.sum()) == 0
    after = measure.anonymous_memory_mb()
    filled = np.ones(1 << 27, dtype=np.uint8)  # too large for the allocator to find it among what was freed
    assert before is not None
    assert after is not None
    assert after - before < 10
    assert measure.anonymous_memory_mb() - after > 120  # type: ignore[operator]
    del filled


@pytest.mark.parametrize(("option", "told"), [({"epoch": -1}, "task.epoch"), ({"world_size": 0}, "task.world_size")])
def test_numbers_that_are_none_are_refused_before_any_work(option: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError, match=rf"{told} is an integer (of at least|from 1)"):
        measure.measure(None, **option)  # type: ignore[arg-type]


class SlowLoader(list[int]):
    """An epoch of three batches that advances a clock by 0.3 s."""

    def __init__(self, clock: list[float]) -> None:
        super().__init__(range(3))
        self.clock = clock
        self.batch_sampler = SimpleNamespace(set_epoch=lambda epoch: None)

    def __iter__(self) -> Iterator[int]:
        self.clock[0] += 0.3
        return super().__iter__()


@pytest.mark.parametrize(("first_s", "num_further"), [(0.3, 3), (0.75, 1), (1.5, 0), (0.0, 4)])
def test_a_short_epoch_is_drawn_again_until_the_passes_took_a_second(
    monkeypatch: pytest.MonkeyPatch, first_s: float, num_further: int
) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    run: Any = SimpleNamespace(datamodule=SimpleNamespace(train_dataloader=lambda: SlowLoader(clock)))
    assert measure.further_passes(run, 0, first_s) == pytest.approx([0.3] * num_further)


def test_the_speed_has_three_digits_and_the_slowest_and_the_fastest_pass() -> None:
    report = Report(real_tokens=1000, real_tokens_per_s=1000 / 0.003, pass_s=(0.008, 0.003, 0.0025))
    assert measure.speed_text(report) == "333,000 (3 passes: 125,000 to 400,000)"
    assert measure.speed_text(Report(real_tokens=1000, real_tokens_per_s=98_283_934.0, pass_s=(1e-5,))) == "98,300,000"
