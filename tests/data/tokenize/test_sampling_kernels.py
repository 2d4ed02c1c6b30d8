"""How the compiled kernels of subword sampling are loaded, and what happens without them."""

import builtins
import importlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mtx.data.tokenize import subword_sampling
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.tokenization import Tokenization
from mtx.data.tokenize.word_index import WordIndex


@pytest.fixture
def fresh() -> Iterator[None]:
    """`load` forgets what it found, before and after."""
    subword_sampling.compiled_sampling_kernels.cache_clear()
    yield
    subword_sampling.compiled_sampling_kernels.cache_clear()


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception, *, name: str = "numba") -> None:
    real, real_by_name = builtins.__import__, importlib.import_module

    def importing_by_name(module: str, package: str | None = None) -> Any:
        if module == name:
            raise error
        return real_by_name(module, package)

    def importing(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == name or (args and args[2] and name == f"{module}.{args[2][0]}"):
            raise error
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr(importlib, "import_module", importing_by_name)


def test_tests_run_both_ways() -> None:
    pytest.importorskip("numba")
    assert subword_sampling.compiled_sampling_kernels() is not None


@pytest.mark.usefixtures("fresh")
def test_without_numba_the_ids_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trained: dict[str, Tokenization],
    as_words: Callable[[Tokenizer, list[str]], WordIndex],
) -> None:
    tokenizer = trained["bpe"].tokenizer
    words = as_words(tokenizer, ["Katulo ren baelmi."] * 30)
    config = BPETokenization(dropout=0.3)
    compiled = config.sampler(tokenizer, words).sample(0, 30, 5)
    subword_sampling.compiled_sampling_kernels.cache_clear()
    refuse(monkeypatch, ModuleNotFoundError("No module named 'numba'"))
    assert subword_sampling.compiled_sampling_kernels() is None
    plain = config.sampler(tokenizer, words).sample(0, 30, 5)
    assert [part.tolist() for part in plain] == [part.tolist() for part in compiled]
    assert not caplog.records


@pytest.mark.usefixtures("fresh")
def test_a_numba_that_cannot_be_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, ImportError("Numba needs NumPy 2.3 or less"))
    assert subword_sampling.compiled_sampling_kernels() is None
    assert (
        "or less, because numba cannot be imported: ImportError: Numba needs NumPy 2.3 or less, beside numpy "
        in caplog.text
    )
    assert "numpy and Python sample the subwords, at a tenth of the speed of numba" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_nothing_can_be_cached_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba")
    refuse(monkeypatch, RuntimeError("no locator available"), name="mtx.data.tokenize.sampling_kernels")
    assert subword_sampling.compiled_sampling_kernels() is None
    assert "no locator available. Set the environment variable NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_numba_is_told_not_to_compile_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", 1)
    assert subword_sampling.compiled_sampling_kernels() is None


def test_a_lock_that_cannot_be_taken_delays_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    kernels: Any = SimpleNamespace(derived_key=SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path / "file")))
    with caplog.at_level(logging.WARNING), subword_sampling.compile_lock(kernels):
        done = True
    assert done
    assert "without waiting for other processes" in caplog.text


def test_a_kernel_draws_as_numpy_does() -> None:
    pytest.importorskip("numba")
    kernels = subword_sampling.compiled_sampling_kernels()
    assert kernels is not None
    from mtx.data.tokenize.counter_rng import derived_keys

    for key, number in ((0, 0), (2**64 - 1, 2**63), (1234567, 3)):
        expected = int(derived_keys(key, np.array([number]))[0])
        assert int(kernels.derived_key(np.uint64(key), np.uint64(number))) == expected


def test_importing_a_tokenizer_does_not_import_numba() -> None:
    code = "import sys, mtx.data.tokenize.bpe, mtx.data.tokenize.unigram; print('numba' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert printed.stdout.strip() == "False"
