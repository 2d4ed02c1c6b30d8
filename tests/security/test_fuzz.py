"""A short run of scripts/fuzz: whatever a file holds, it is read, or refused by an error of mtx's own."""

import importlib.util
import json
import random
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtx.data.dataset import TranslationDataset
from mtx.errors import MtxError, StoreError
from mtx.infra.dataset.sources.local import LocalDownloader

SCRIPT = Path(__file__).parents[2] / "scripts/fuzz.py"
INPUTS = 60


def loaded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


fuzz = loaded()
PARSERS = fuzz.parsers()


@pytest.mark.parametrize("name", PARSERS)
def test_broken_files_are_read_or_refused(name: str, tmp_path: Path) -> None:
    ending, parser, seeds = PARSERS[name]
    inputs = INPUTS if name != "overrides" else 12  # Hydra takes its time
    outcome = fuzz.fuzz(ending, parser, seeds, inputs=iter(range(inputs)), draw=random.Random(name), folder=tmp_path)
    assert [what for _, what in outcome.failures] == []
    assert outcome.inputs == inputs
    assert outcome.read >= 1  # the seeds themselves, so that more than the first bytes is tried


def test_the_fuzzer_tells_what_it_found_and_keeps_the_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def breaks(path: Path) -> None:
        if path.read_bytes() != b"good":
            raise ZeroDivisionError("found")

    monkeypatch.setattr(fuzz, "parsers", lambda: {"own": (".x", breaks, [b"good"])})
    assert fuzz.main(["--inputs", "5", "--failures", str(tmp_path / "kept")]) == 1
    out = capsys.readouterr().out
    assert "ZeroDivisionError: found" in out
    assert len(list((tmp_path / "kept").iterdir())) >= 1
    monkeypatch.setattr(fuzz, "parsers", lambda: {"own": (".x", lambda path: None, [b"good"])})
    assert fuzz.main(["--inputs", "5", "--failures", str(tmp_path / "none")]) == 0
    assert "5 inputs, 0 of them failed" in capsys.readouterr().out


def test_the_same_seed_gives_the_same_inputs() -> None:
    made = [[fuzz.mutated([b"abc", b"xyz"], random.Random(seed)) for _ in range(5)] for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]


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
