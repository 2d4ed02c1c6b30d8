"""How the compiled kernels of subword sampling are loaded, and what happens without them."""

import builtins
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

from mtx.data.tokenize import sampling
from mtx.data.tokenize.base import Tokenization
from mtx.data.tokenize.bpe import BPETokenization
from mtx.data.tokenize.words import Words


@pytest.fixture
def fresh() -> Iterator[None]:
    """`load` forgets what it found, before and after."""
    sampling.load.cache_clear()
    yield
    sampling.load.cache_clear()


def refuse(monkeypatch: pytest.MonkeyPatch, error: Exception, *, name: str = "numba") -> None:
    real = builtins.__import__

    def importing(module: str, *args: Any, **kwargs: Any) -> Any:
        if module == name or (args and args[2] and name == f"{module}.{args[2][0]}"):
            raise error
        return real(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", importing)


def test_tests_run_both_ways() -> None:
    pytest.importorskip("numba")
    assert sampling.load() is not None


@pytest.mark.usefixtures("fresh")
def test_without_numba_the_ids_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trained: dict[str, Tokenization],
    as_words: Callable[[Tokenizer, list[str]], Words],
) -> None:
    tokenizer = trained["bpe"].tokenizer
    words = as_words(tokenizer, ["Katulo ren baelmi."] * 30)
    config = BPETokenization(dropout=0.3)
    compiled = config.sampler(tokenizer, words).sample(0, 30, 5)
    sampling.load.cache_clear()
    refuse(monkeypatch, ModuleNotFoundError("No module named 'numba'"))
    assert sampling.load() is None
    plain = config.sampler(tokenizer, words).sample(0, 30, 5)
    assert [part.tolist() for part in plain] == [part.tolist() for part in compiled]
    assert not caplog.records


@pytest.mark.usefixtures("fresh")
def test_a_numba_that_cannot_be_imported_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    refuse(monkeypatch, ImportError("Numba needs NumPy 2.3 or less"))
    assert sampling.load() is None
    assert "a tenth of the rate or less, since numba cannot be imported: Numba needs NumPy 2.3 or less" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_nothing_can_be_cached_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("numba")
    refuse(monkeypatch, RuntimeError("no locator available"), name="mtx.data.tokenize.kernels")
    assert sampling.load() is None
    assert "no locator available. Set the environment variable NUMBA_CACHE_DIR" in caplog.text


@pytest.mark.usefixtures("fresh")
def test_where_numba_is_told_not_to_compile_nothing_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", 1)
    assert sampling.load() is None


def test_a_lock_that_cannot_be_taken_delays_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    kernels: Any = SimpleNamespace(keyed=SimpleNamespace(stats=SimpleNamespace(cache_path=tmp_path / "file")))
    with caplog.at_level(logging.WARNING), sampling.compiling(kernels):
        done = True
    assert done
    assert "without waiting for other processes" in caplog.text


def test_a_kernel_draws_as_numpy_does() -> None:
    pytest.importorskip("numba")
    kernels = sampling.load()
    assert kernels is not None
    from mtx.data.tokenize.draws import keyed

    for key, number in ((0, 0), (2**64 - 1, 2**63), (1234567, 3)):
        assert int(kernels.keyed(np.uint64(key), np.uint64(number))) == int(keyed(key, np.array([number]))[0])


def test_importing_a_tokenizer_does_not_import_numba() -> None:
    code = "import sys, mtx.data.tokenize.bpe, mtx.data.tokenize.unigram; print('numba' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    assert printed.stdout.strip() == "False"
