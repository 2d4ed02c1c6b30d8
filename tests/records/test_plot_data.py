"""What a run leaves for pictures, worked out by hand."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.app.command import compose
from mtx.batches.plan.bucket import BucketPlanner
from mtx.batches.plan.planner import Lengths, Planner
from mtx.batches.plan.random import RandomPlanner
from mtx.batches.plan.sequential import SequentialPlanner
from mtx.batches.plan.token_budget import TokenBudgetPlanner
from mtx.experiment.measure import measure
from mtx.experiment.prepare import prepare_only
from mtx.experiment.run_context import Run
from mtx.records.plot_data_computation import (
    MAX_POINTS,
    common_shapes,
    fertility,
    fit_profile,
    histogram,
    plan_profile,
    reject_profile,
    spaced_points,
)
from mtx.records.plot_data_record import Histogram, Rejects, RunProfile, Sample
from mtx.records.record_file import Record
from mtx.records.report_record import DataReport, DrawReport, PlanReport, Report
from mtx.training.loader import EpochBatches
from mtx.training.training_record import TrainingProgress

LENGTHS = Lengths.of([2, 3, 5, 1, 3], [4, 4, 1, 2, 2])


def profiled(planner: Planner, lengths: Lengths = LENGTHS, **options: Any) -> dict[str, Any]:
    return plain(plan_profile(EpochBatches(planner.draft(lengths)), lengths, **options))


def plain(record: Record) -> dict[str, Any]:
    """Return a record as it is in JSON."""
    return record.model_dump(mode="json", exclude_unset=True)


def test_batches_in_order_worked_out_by_hand() -> None:
    # batches of two. Rows 0, 1: 2 x (3 + 4) slots, 13 real; 2, 3: 2 x (5 + 2), 9 real; 4: 3 + 2, all real
    found = profiled(SequentialPlanner(batch_size=2))
    assert found["lengths"] == {
        "source": {"edges": [1, 2, 3, 4, 5, 6], "counts": [1, 1, 2, 0, 1]},
        "target": {"edges": [1, 2, 3, 4, 5], "counts": [1, 2, 0, 2]},
    }
    assert found["bucket_edges"] == {"source": None, "target": None}
    assert sorted(found["shapes"]) == [[1, 3, 2, 1], [2, 3, 4, 1], [2, 5, 2, 1]]
    assert (found["num_shapes"], found["other_batches"]) == (3, 0)
    assert found["tokens_per_step"] == {"positions": [0, 1, 2], "real": [13, 9, 5], "padded": [14, 14, 5]}


def test_padding_to_a_multiple_shows_in_shapes_and_tokens() -> None:
    found = profiled(SequentialPlanner(batch_size=5), length_multiple=4)
    assert found["shapes"] == [[5, 8, 4, 1]]
    assert found["tokens_per_step"] == {"positions": [0], "real": [27], "padded": [60]}


@pytest.mark.parametrize(
    ("by", "edges"),
    [
        ("source", {"source": [2, 4], "target": None}),
        ("target", {"source": None, "target": [2, 4]}),
        ("max", {"source": [2, 4], "target": [2, 4]}),
    ],
)
def test_edges_of_buckets_are_of_the_side_that_decides(by: Any, edges: dict[str, Any]) -> None:
    found = profiled(BucketPlanner(batch_size=1, boundaries=(2, 4), by=by))
    assert found["bucket_edges"] == edges


def test_pairs_that_no_batch_has_are_in_no_bin() -> None:
    found = profiled(TokenBudgetPlanner(max_tokens=4))  # the source of 5 is dropped
    assert sum(found["lengths"]["source"]["counts"]) == sum(found["lengths"]["target"]["counts"]) == 4


lengths_of_pairs = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1, max_size=60)


@settings(deadline=None)
@given(lengths_of_pairs, st.integers(1, 5))
def test_counts_add_up_to_the_pairs_and_the_batches(pairs: list[tuple[int, int]], batch_size: int) -> None:
    lengths = Lengths.of([source for source, _ in pairs], [target for _, target in pairs])
    found = profiled(SequentialPlanner(batch_size=batch_size), lengths)
    for side, values in (("source", lengths.source), ("target", lengths.target)):
        bins = found["lengths"][side]
        assert sum(bins["counts"]) == len(pairs)
        assert len(bins["edges"]) == len(bins["counts"]) + 1 <= 61
        expected, _ = np.histogram(values, [edge - 0.5 for edge in bins["edges"]])
        assert bins["counts"] == expected.tolist()
    num_batches = -(-len(pairs) // batch_size)
    assert sum(count for *_, count in found["shapes"]) + found["other_batches"] == num_batches
    assert sum(found["tokens_per_step"]["real"]) == int(lengths.source.sum() + lengths.target.sum())


@settings(deadline=None)
@given(lengths_of_pairs, st.integers(1, 5), st.integers(0, 3))
def test_tokens_come_in_the_order_in_which_batches_are_drawn(
    pairs: list[tuple[int, int]], batch_size: int, epoch: int
) -> None:
    lengths = Lengths.of([source for source, _ in pairs], [target for _, target in pairs])
    batches = EpochBatches(RandomPlanner(batch_size=batch_size).draft(lengths), seed=1)
    batches.set_epoch(epoch)
    found = plain(plan_profile(batches, lengths))["tokens_per_step"]
    drawn = [(lengths.source[rows], lengths.target[rows]) for rows in batches.plan()]
    assert found["real"] == [int(source.sum() + target.sum()) for source, target in drawn]
    assert found["padded"] == [len(source) * int(source.max() + target.max()) for source, target in drawn]


def test_a_histogram_has_whole_bins_and_at_most_60() -> None:
    assert histogram(np.array([7, 7])) == Histogram(edges=(7, 8), counts=(2,))
    assert histogram(np.array([], dtype=np.int32)) == Histogram(edges=(0,), counts=())
    wide = plain(histogram(np.array([10, 70])))  # 61 values: bins of two
    assert (len(wide["counts"]), wide["edges"][0], wide["edges"][-1]) == (31, 10, 72)


def test_frequent_shapes_come_first_and_rare_ones_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtx.records.plot_data_computation.MAX_SHAPES", 2)
    of_batches = np.array([[1, 2, 2], [1, 3, 3], [1, 3, 3], [1, 4, 4], [1, 3, 3], [1, 4, 4], [1, 5, 5]])
    assert plain(common_shapes(of_batches)) == {
        "shapes": [[1, 3, 3, 3], [1, 4, 4, 2]],
        "num_shapes": 4,
        "other_batches": 2,
    }


def test_points_are_spaced_evenly_with_both_ends() -> None:
    assert spaced_points(range(3), 5) == [0, 1, 2]
    assert spaced_points(range(101), 5) == [0, 25, 50, 75, 100]
    many = spaced_points(range(1234), MAX_POINTS)
    assert (len(set(many)), many[0], many[-1]) == (MAX_POINTS, 0, 1233)


METRICS = {
    "source_tokens": 10, "source_chars": 20, "source_bytes": 24, "source_words": 5,
    "source_unknown": 1, "source_unused": 2,
}  # fmt: skip


def test_fertility_worked_out_by_hand() -> None:
    assert plain(fertility(METRICS, "source", 2, 8)) == {
        "vocab_size": 8,
        "tokens_per_word": 2,
        "tokens_per_char": 0.5,
        "bytes_per_token": 2.4,
        "unknown_share": 0.1,
        "unused_share": 0.25,
    }


@pytest.mark.parametrize(
    ("num_chars", "num_words", "is_told"),
    # two texts: a gap between words is what comes beyond one word each
    [(40, 3, True), (41, 3, False), (80, 4, True), (10, 2, False), (0, 0, False)],
)
def test_text_with_next_to_no_spaces_has_no_words(num_chars: int, num_words: int, is_told: bool) -> None:
    metrics = {**METRICS, "source_chars": num_chars, "source_words": num_words}
    assert (fertility(metrics, "source", 2, 8).tokens_per_word is not None) == is_told


def test_what_a_dataset_of_an_earlier_version_did_not_count_is_none() -> None:
    old = {"source_tokens": 10, "source_chars": 20, "source_unknown": 1}
    found = fertility(old, "source", 2, 8)
    assert (found.tokens_per_char, found.unknown_share) == (0.5, 0.1)
    assert found.tokens_per_word is found.bytes_per_token is found.unused_share is None
    assert reject_profile({"dropped": {"identical": 3}}) == {"identical": Rejects(count=3)}


def test_rules_come_by_what_they_drop_and_the_first_with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtx.records.plot_data_computation.MAX_RULES", 2)
    pair = [{"source": "a", "target": "b"}]
    found = reject_profile({"dropped": {"x": 1, "y": 5, "z": 3}, "rejects": {"x": pair, "y": pair, "z": pair}})
    assert list(found) == ["y", "z", "x"]
    assert [plain(found[name])["samples"] for name in found] == [pair, pair, []]


def test_curves_are_those_of_the_record_without_what_is_no_number() -> None:
    progress = TrainingProgress(train_losses=[(1, 3.0), (2, math.nan), (3, 2.0)])
    progress.add_validation(0, {"val/bits_per_byte": 3.5, "val/loss": 7.0, "train/loss": 9.0})
    progress.epoch, progress.spent = 0.5, {"seconds": 1.5, "real_tokens": None}
    progress.add_validation(10, {"val/loss": math.inf})
    found = plain(fit_profile(progress))
    assert found["validations"] == [
        {"step": 0, "seconds": 0, "real_tokens": 0, "epoch": 0, "bits_per_byte": 3.5, "loss": 7.0},
        {"step": 10, "seconds": 1.5, "real_tokens": None, "epoch": 0.5, "bits_per_byte": None, "loss": None},
    ]
    assert found["train_loss"] == [[1, 3.0], [3, 2.0]]


def test_validations_of_an_earlier_version_know_their_step_only() -> None:
    found = plain(fit_profile(TrainingProgress(validations=[{"step": 4, "val/bits_per_byte": 2.0}])))
    assert found["validations"] == [
        {"step": 4, "seconds": None, "real_tokens": None, "epoch": None, "bits_per_byte": 2.0, "loss": None}
    ]


def test_any_number_of_validations_stays_small() -> None:
    progress = TrainingProgress()
    for step in range(3000):
        progress.add_validation(step, {"val/bits_per_byte": 1.0})
    curve = plain(fit_profile(progress))["validations"]
    assert (len(curve), curve[0]["step"], curve[-1]["step"]) == (MAX_POINTS, 0, 2999)


def test_the_file_is_whole_and_has_text_as_it_is(tmp_path: Path) -> None:
    rejected = Rejects(count=1, samples=(Sample(source="<script> 日本語", target="שלום"),))
    path = RunProfile(rejects={"train": {"x": rejected}}).write(tmp_path / "new")
    assert "<script> 日本語" in path.read_text(encoding="utf-8")
    assert "שלום" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text()) == {"profile_version": 2, "rejects": {"train": {"x": plain(rejected)}}}
    assert [entry.name for entry in path.parent.iterdir()] == ["profile.json"]


def run_of(folder: Path, *overrides: str) -> Run:
    lines = [f"a word number {i}\tein Wort Nummer {i}" for i in range(20)]
    (folder / "few.tsv").write_text("\n".join(["src\ttgt", *lines, "same\tsame", "\tnur hier", "\tund da"]) + "\n")
    local = ["downloader=local", f"downloader.path={folder / 'few.tsv'}", f"storage.root={folder / 'store'}"]
    small = ["tokenizer=byte", "datamodule.validation=2", "datamodule.test=null", "datamodule.num_workers=0"]
    return Run(compose([*local, *small, *overrides]), output_dir=folder / "out")


def test_measuring_leaves_a_profile(tmp_path: Path) -> None:
    measure(run_of(tmp_path, "sampler=bucket", "sampler.batch_size=4", "sampler.num_buckets=2"))
    profile = json.loads((tmp_path / "out" / "profile.json").read_text())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    train = profile["rejects"]["train"]
    assert {reason: rule["count"] for reason, rule in train.items()} == report["dropped"]
    assert all(rule["samples"] for rule in train.values())
    drawn = report["num_pairs_drawn"]
    assert sum(profile["lengths"]["source"]["counts"]) == sum(profile["lengths"]["target"]["counts"]) == drawn
    assert profile["bucket_edges"]["source"] == profile["bucket_edges"]["target"]
    assert len(profile["bucket_edges"]["source"]) == 1
    assert profile["num_shapes"] == report["num_shapes"]
    assert sum(profile["tokens_per_step"]["real"]) == report["real_tokens"]
    assert profile["fertility"]["source"]["vocab_size"] == report["source_vocab_size"]
    assert profile["fertility"]["source"]["bytes_per_token"] == 1
    tokens = report["train_tokens"]
    assert profile["fertility"]["target"]["tokens_per_word"] == tokens["target_tokens"] / tokens["target_words"]


def test_every_key_of_what_measuring_and_preparing_leave_is_declared(tmp_path: Path) -> None:
    # of mixtures, of groups, of scorers and of rules
    by_option = {"sources", "ledger_by_source", "ledger_by_group", "scorers", "selection"}
    for task, parts in ((prepare_only, [DataReport]), (measure, [DataReport, PlanReport, DrawReport])):
        run = run_of(tmp_path)
        task(run)  # type: ignore[operator]  # each takes a run
        report = Report.read(run.output_dir)
        assert report is not None
        assert report.own == {}
        expected = {name for part in parts for name in part.model_fields} - by_option
        assert set(json.loads((run.output_dir / "report.json").read_text())) == expected | {"report_version"}
        assert RunProfile.read(run.output_dir) is not None


def test_preparing_leaves_what_is_known_without_batches(tmp_path: Path) -> None:
    prepare_only(run_of(tmp_path))
    profile = json.loads((tmp_path / "out" / "profile.json").read_text())
    assert set(profile) == {"profile_version", "rejects", "fertility"}
