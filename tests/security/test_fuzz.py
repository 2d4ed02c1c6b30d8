"""A short run of scripts/fuzz: whatever a file holds, it is read, or refused by an error of mtx's own."""

import importlib
import json
import random
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.errors import MtxError, StoreError
from mtx.infra.dataset.sources.local import LocalDownloader

sys.path.append(str(Path(__file__).parents[2] / "scripts"))
fuzz, fuzz_files, fuzz_settings, fuzz_refusals, fuzz_outcomes = map(
    importlib.import_module, ("fuzz", "fuzz_files", "fuzz_settings", "fuzz_refusals", "fuzz_outcomes")
)

INPUTS = 60
PARSERS = fuzz_files.parsers()


@pytest.mark.parametrize("name", PARSERS)
def test_broken_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    ending, parser, seeds = PARSERS[name]
    inputs = INPUTS if name != "overrides" else 12  # Hydra takes its time
    numbers = iter(range(inputs))
    outcome = fuzz_files.fuzz(ending, parser, seeds, inputs=numbers, draw=random.Random(name), folder=tmp_path)
    assert [what for _, what in outcome.failures] == []
    assert outcome.inputs == inputs
    assert outcome.read >= 1  # the seeds themselves, so that more than the first bytes is tried


def test_the_fuzzer_tells_what_it_found_and_keeps_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(path: Path) -> None:
        if path.read_bytes() != b"good":
            raise ZeroDivisionError("found")

    for module in (fuzz, fuzz_files):
        monkeypatch.setattr(module, "parsers", lambda: {"own": (".x", breaks, [b"good"])})
    assert fuzz.main(["--inputs", "5", "--failures", str(tmp_path / "kept")]) == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError: found" in out
    assert len(list((tmp_path / "kept").iterdir())) >= 1
    monkeypatch.setattr(fuzz_files, "parsers", lambda: {"own": (".x", lambda path: None, [b"good"])})
    assert fuzz.main(["--inputs", "5", "--failures", str(tmp_path / "none")]) == 0
    assert "5 inputs, 0 of them failed" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_inputs() -> None:
    made = [[fuzz_files.mutated([b"abc", b"xyz"], random.Random(seed)) for _ in range(5)] for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


def test_settings_are_accepted_or_refused_by_their_key(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["sampler/random", "normalise/default"]
    assert fuzz.main(["settings", "--inputs", "6", "--only", *options]) == 0, capsys.readouterr().out
    assert "at least 6 inputs for each key" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("sampler.batch_size is an integer, but is 'a'. Set sampler.batch_size=1", None),
        ("Error", "names no key: Error"),
        ("sampler.batch_size\n" * 9, "has 9 lines"),
        ("sampler.batch_size. Type: mtx 'sampler=random", "proposes a command that no shell parses"),
        ("sampler.batch_size. Type: mtx sampler.batch_size={", "proposes a command whose override is invalid"),
        ("sampler.batch_size. Type: mtx -m sampler.batch_size=1,2", None),
    ],
)
def test_a_refusal_is_judged_by_its_message(message: str, problem: str | None) -> None:
    found = fuzz_refusals.refusal_problem(message, ["sampler.batch_size"])
    assert found is None if problem is None else problem in found


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        ("sampler.batch_size cannot be read: invalid literal for int(). Set it", "quotes ValueError: "),
        ("sampler.batch_size cannot be read: Python reports ValueError. Set it", None),
    ],
)
def test_a_refusal_that_quotes_its_cause_fails(message: str, problem: str | None) -> None:
    error = MtxError(message)
    error.__cause__ = ValueError("invalid literal for int()")
    found = fuzz_refusals.quoted_sentence(error)
    assert found is None if problem is None else found is not None and found.startswith(problem)


def test_an_error_that_is_its_own_cause_fails() -> None:
    error = MtxError("sampler.batch_size")
    error.__cause__ = error
    assert fuzz_refusals.quoted_sentence(error) == "is among its own causes, MtxError: sampler.batch_size"


def test_a_proposed_command_that_does_not_compose_fails() -> None:
    tried: list[list[str]] = []

    def problem(words: list[str]) -> str | None:
        return tried.append(words) or "there is no task"

    told = fuzz_refusals.refusal_problem("seed. Type: mtx task=x 'a=[1]'", ["seed"], composition_problem=problem)
    assert told == "proposes a command that does not compose (there is no task): mtx task=x 'a=[1]'"
    assert tried == [["task=x", "a=[1]"]]


@pytest.mark.parametrize("place", ["call", "read_problem", "refusal_problem"])
def test_an_endless_input_fails_and_the_next_one_runs(place: str) -> None:
    def endless(*_: str) -> None:
        while True:
            pass

    def refused() -> None:
        raise MtxError("refused")

    outcome = fuzz_outcomes.Outcome()
    calls = {"call": refused if place == "refusal_problem" else (lambda: None), place: endless}
    fuzz_outcomes.run_input(outcome, "endless", **calls, seconds=0.05)
    fuzz_outcomes.run_input(outcome, "next", lambda: None, seconds=0.05)
    assert outcome.failures == [("endless", "TooSlowError: the input exceeded the time limit")]
    assert outcome.read == 1


def test_the_input_at_which_a_process_ends_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def outcomes(call: partial[Any], options: list[str], processes: int) -> Iterator[Any]:
        (call.keywords["folder"] / "engine-local").mkdir()
        (call.keywords["folder"] / "engine-local" / fuzz_settings.CURRENT).write_text("engine.num_tasks=7")
        yield options[0], fuzz_outcomes.Outcome(read=7)
        raise BrokenProcessPool

    monkeypatch.setattr(fuzz_settings, "_outcomes", outcomes)
    assert fuzz.main(["settings", "--only", "engine/local", "--processes", "2"]) == 1
    assert "a process ended at this input: mtx engine.num_tasks=7\n" in capsys.readouterr().out


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
MANIFEST = TranslationDataset(
    name="x", stage="raw", split="train", languages=("en", "de"), data=[{"src": "a", "tgt": "b"}]
).to_manifest()


@settings(max_examples=200, deadline=None)
@given(key=st.sampled_from(sorted(MANIFEST)), value=VALUES)
def test_a_manifest_with_any_value_anywhere_is_read_or_refused(key: str, value: Any) -> None:
    try:
        TranslationDataset.from_manifest({**MANIFEST, key: value})
    except StoreError as error:  # damaged, or of a newer version
        str(error).encode()


@settings(max_examples=100, deadline=None)
@given(value=VALUES)
def test_a_line_of_any_json_is_a_pair_or_refused(value: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_text('{"src": "a", "tgt": "b"}\n' + json.dumps(value) + "\n")
    try:
        list(LocalDownloader(path=path).batches("train", {}))
    except MtxError as error:
        str(error).encode()
