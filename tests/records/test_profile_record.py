"""Reading profile.json: whole, missing, old, unusual."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_on_disk import profile

from mtx.page.data_section import histograms
from mtx.records.plot_data_record import Fertility, Histogram, RunProfile, Sample, ValidationPoint, read_profile
from mtx.records.report_record import Report
from mtx.records.result_types import JobRecord

UNUSUAL = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
NAMES = sorted(profile())


def test_a_whole_profile_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps(profile(buckets=[20, 10])))
    read = read_profile(tmp_path, Report())
    assert read.lengths["source"] == Histogram(edges=(0, 10, 20, 30), counts=(5, 80, 15))
    assert (read.edges_of("source"), read.edges_of("target")) == ((10, 20), ())
    assert read.shapes == ((64, 20, 18, 12), (32, 30, 28, 8))
    assert read.rejects["train"]["length_ratio"].samples == (Sample(source="a", target="b"),)
    assert "tokens_per_word" not in read.fertility["target"].shares
    assert read.validations[1] == ValidationPoint(
        step=10, seconds=5.0, real_tokens=10000, epoch=0, bits_per_byte=3.0, loss=6.0
    )


def test_of_a_run_without_a_profile_the_report_tells_what_it_can(tmp_path: Path) -> None:
    report = Report.of(
        {
            "train_tokens": {"source_tokens": 50, "source_chars": 200, "source_unknown": 1, "target_tokens": 0},
            "validations": [{"step": 0, "val/bits_per_byte": 4.0}, {"step": 5}],
        }
    )
    read = read_profile(tmp_path, report)
    assert read.fertility == {"source": Fertility(tokens_per_char=0.25, unknown_share=0.02)}
    assert read.validations == (ValidationPoint(step=0, bits_per_byte=4.0),)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lengths": {"source": {"edges": [0], "counts": [1]}}}', "\xff"])
def test_what_cannot_be_read_counts_as_missing_and_is_noted(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.json").write_text(text, encoding="latin-1")
    notes: list[str] = []
    assert read_profile(tmp_path, Report(), notes) == RunProfile()
    (note,) = notes
    assert note.startswith(str(tmp_path / "profile.json"))
    assert note.endswith("Its plots are left out")


def test_lengths_of_no_pairs_have_no_plot(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text('{"lengths": {"source": {"edges": [0], "counts": []}}}')
    read = read_profile(tmp_path, Report())
    assert read.lengths == {"source": Histogram(edges=(0,), counts=())}
    assert histograms([JobRecord(tmp_path, "0", "completed")], (), {tmp_path: read}) == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NAMES), UNUSUAL))
def test_no_profile_stops_a_page(tmp_path: Path, unusual: dict[str, object]) -> None:
    (tmp_path / "profile.json").write_text(json.dumps({**profile(), **unusual}))
    read_profile(tmp_path, Report())
