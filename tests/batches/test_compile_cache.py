"""Machine code in a file: made once, read by others, made anew where it is damaged, done without where it cannot be."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtx.batches import compile_cache

numba = pytest.importorskip("numba")
SOURCES = ("mtx.batches.kernel_argument_array",)


@pytest.fixture(scope="module")
def double() -> Any:
    """Compiled: doubles the int64 at an address."""
    from mtx.batches import kernel_memory

    read = kernel_memory.int_array

    @numba.njit(numba.void(numba.int64), no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def double(address: int) -> None:
        number = read(address, 1)
        number[0] = 2 * number[0]

    return double


class Maker:
    def __init__(self, **functions: Any) -> None:
        self.functions = functions
        self.num_calls = 0

    def __call__(self) -> dict[str, Any]:
        self.num_calls += 1
        return self.functions


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def code_in(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.o"))


def doubled(functions: dict[str, compile_cache.Function] | None, number: int) -> int:
    assert functions is not None
    at = np.array([number])
    assert functions["double"](at.ctypes.data) == 0
    return int(at[0])


def test_what_is_compiled_once_is_read_by_others(double: Any, folder: Path) -> None:
    maker = Maker(double=double)
    assert doubled(compile_cache.cached_functions("test", maker, sources=SOURCES), 21) == 42
    assert doubled(compile_cache.cached_functions("test", maker, sources=SOURCES), 4) == 8
    assert maker.num_calls == 1
    assert len(code_in(folder)) == 1


def test_a_damaged_file_is_made_anew(double: Any, folder: Path) -> None:
    maker = Maker(double=double)
    compile_cache.cached_functions("test", maker, sources=SOURCES)
    (file,) = code_in(folder)
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:10], b"", whole[:-1] + b"x"):
        file.write_bytes(damaged)
        assert doubled(compile_cache.cached_functions("test", maker, sources=SOURCES), 3) == 6
        assert file.read_bytes() == whole
    assert maker.num_calls == 5


def test_another_text_of_the_sources_is_other_code(double: Any, folder: Path) -> None:
    maker = Maker(double=double)
    compile_cache.cached_functions("test", maker, sources=SOURCES)
    compile_cache.cached_functions("test", maker, sources=(*SOURCES, "mtx.batches.compile_cache"))
    assert maker.num_calls == len(code_in(folder)) == 2


def test_a_function_that_needs_others_is_refused(caplog: pytest.LogCaptureFixture, folder: Path) -> None:
    @numba.njit(numba.void(numba.int64), no_cpython_wrapper=True, no_cfunc_wrapper=True)
    def speaks(number: int) -> None:
        print(number)

    assert compile_cache.cached_functions("test", Maker(speaks=speaks), sources=SOURCES) is None
    assert "the compiled function speaks calls external functions: " in caplog.text
    assert "compiled functions are not available, so batches are built by numpy, which is slower" in caplog.text
    assert code_in(folder) == []


def test_a_numba_that_cannot_be_imported_is_told(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> dict[str, Any]:
        raise ImportError("Numba needs NumPy 2.3 or less")

    assert compile_cache.cached_functions("test", make, sources=SOURCES) is None
    assert "Numba needs NumPy 2.3 or less" in caplog.text


def test_a_numba_that_is_not_installed_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> dict[str, Any]:
        raise ModuleNotFoundError("No module named 'numba'")

    assert compile_cache.cached_functions("test", make, sources=SOURCES) is None
    assert not caplog.records


def test_where_nothing_can_be_kept_nothing_is_compiled(
    double: Any, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    folder.write_text("a file, and no folder")
    maker = Maker(double=double)
    assert compile_cache.cached_functions("test", maker, sources=SOURCES) is None
    assert maker.num_calls == 0
    assert f"none of the folders {folder} is writable. Set" in caplog.text
    assert "Set the environment variable NUMBA_CACHE_DIR" in caplog.text


def test_without_a_folder_that_is_told_code_lies_beside_the_package_or_in_the_cache(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert list(compile_cache._cache_folders()) == [
        Path(compile_cache.__file__).parent / "__pycache__",
        tmp_path / "mtx",
    ]


def test_numba_can_be_told_not_to_compile(monkeypatch: pytest.MonkeyPatch, double: Any) -> None:
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")
    maker = Maker(double=double)
    assert compile_cache.cached_functions("test", maker, sources=SOURCES) is None
    assert maker.num_calls == 0


def test_a_lock_that_cannot_be_taken_delays_nothing(
    double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class NoLock(compile_cache.FileLock):
        def acquire(self, *args: Any, **options: Any) -> Any:
            raise OSError("no locks on this file system")

    monkeypatch.setattr(compile_cache, "FileLock", NoLock)
    with caplog.at_level(logging.WARNING):
        assert doubled(compile_cache.cached_functions("test", Maker(double=double), sources=SOURCES), 1) == 2
    assert "without waiting for other processes: OSError: no locks on this file system" in caplog.text


def test_a_write_that_fails_leaves_no_file(
    double: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, folder: Path
) -> None:
    def fsync(file: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    assert compile_cache.cached_functions("test", Maker(double=double), sources=SOURCES) is None
    assert "no space left on device" in caplog.text
    assert [path.name for path in folder.iterdir() if path.suffix != ".lock"] == []
