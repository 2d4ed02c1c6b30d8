"""Reading profile.json: whole, missing, old, odd."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jobs_on_disk import profile

from mtx.experiment.page.profile import Histogram, Look, Profile, read_profile

ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
NAMES = sorted(profile())


def test_a_whole_profile_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text(json.dumps(profile(buckets=[20, 10])))
    read = read_profile(tmp_path, {})
    assert read.lengths["source"] == Histogram((0.0, 10.0, 20.0, 30.0), (5.0, 80.0, 15.0))
    assert read.bucket_edges == {"source": (10.0, 20.0), "target": ()}
    assert read.shapes == ((64, 20, 18, 12), (32, 30, 28, 8))
    assert read.rejects["train"]["length_ratio"].samples == (("a", "b"),)
    assert "tokens_per_word" not in read.fertility["target"]
    assert read.curve[1] == Look(step=10.0, seconds=5.0, real_tokens=10000.0, bits_per_byte=3.0)


def test_of_a_run_without_a_profile_the_report_tells_what_it_can(tmp_path: Path) -> None:
    report = {
        "train_tokens": {"source_tokens": 50, "source_chars": 200, "source_unknown": 1, "target_tokens": 0},
        "validations": [{"step": 0, "val/bits_per_byte": 4.0}, {"step": 5}],
    }
    read = read_profile(tmp_path, report)
    assert read.fertility == {"source": {"tokens_per_char": 0.25, "unknown_share": 0.02}}
    assert read.curve == (Look(0.0, None, None, 4.0),)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"lengths": {"source": {"edges": [0], "counts": []}}}', "\xff"])
def test_what_cannot_be_read_counts_as_missing(tmp_path: Path, text: str) -> None:
    (tmp_path / "profile.json").write_text(text, encoding="latin-1")
    assert read_profile(tmp_path, {}) == Profile(bucket_edges={"source": (), "target": ()})


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(NAMES), ODD))
def test_no_profile_stops_a_page(tmp_path: Path, odd: dict[str, object]) -> None:
    (tmp_path / "profile.json").write_text(json.dumps({**profile(), **odd}))
    read_profile(tmp_path, odd)
