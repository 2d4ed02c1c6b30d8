"""Errors of exhausted memory, disks and files get one line, also as the cause of another error."""

import builtins
import errno
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mtx.exhausted_resources import PANIC_MODULE, exhausted_message, panics_as_errors, raise_if_exhausted
from mtx.infra.dal.arrow import open_arrow
from mtx.infra.dal.artifact import FolderArtifactLayer
from mtx.infra.dal.fal import FileAccessLayer
from mtx.infra.dal.json_file_object_layer import JSONFileObjectLayer
from mtx.infra.dal.oal import ObjectAccessLayer


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/some/file")


class PanicException(BaseException):
    """As pyo3 makes of a panic of a Rust library."""

    __module__ = PANIC_MODULE


THREAD, ALLOCATION = "no further thread starts", "an allocation fails"
MEMORY = [
    (pa.lib.ArrowException("Unknown error: Failed to launch worker thread: Resource temporarily unavailable"), THREAD),
    (PanicException("The global thread pool has not been initialized.: ... Resource temporarily unavailable"), THREAD),
    (MemoryError(), ALLOCATION),
    (
        MemoryError("Unable to allocate 8.00 TiB for an array with shape (1099511627777,)\nmore"),
        "an allocation of 8.00 TiB fails",
    ),
    (pa.ArrowMemoryError("malloc of size 2147483648 failed"), "an allocation of 2147483648 bytes fails"),
    (RuntimeError("can't start new thread"), THREAD),
    (RuntimeError("[enforce fail] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"), ALLOCATION),
    (RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"), "an allocation of 20.00 MiB fails"),
    (RuntimeError("std::bad_alloc"), ALLOCATION),
    (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "a library cannot be loaded"),
    (os_error(errno.ENOMEM), "Cannot allocate memory"),
    (os_error(errno.EAGAIN), "Resource temporarily unavailable"),
]


@pytest.mark.parametrize(("error", "expected"), MEMORY)
def test_too_little_memory_gets_one_line(error: BaseException, expected: str) -> None:
    told = exhausted_message(error)
    assert told is not None
    assert told.startswith(f"there is too little memory: {expected}. ")
    assert "ulimit -v" in told
    assert "\n" not in told


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO])
def test_a_disk_that_refuses_gets_one_line(number: int) -> None:
    told = exhausted_message(os_error(number))
    assert told is not None
    assert told.startswith("the disk refuses a write: ")
    assert os.strerror(number) in told
    assert "hydra.run.dir=FOLDER" in told


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_files_get_one_line(number: int) -> None:
    assert "ulimit -n" in str(exhausted_message(os_error(number)))


def test_the_cause_of_another_error_counts() -> None:
    error = ValueError("the job failed")
    error.__cause__ = MemoryError("no room")
    assert "an allocation fails" in str(exhausted_message(error))


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RuntimeError("a wrong shape"),
        KeyError("memory"),
        os_error(errno.ENOENT),
        os_error(errno.EACCES),
    ],
)
def test_other_errors_are_left(error: BaseException) -> None:
    assert exhausted_message(error) is None


def test_what_numpy_raises_is_known() -> None:
    with pytest.raises(MemoryError) as error:
        np.empty(1 << 50)
    assert "too little memory" in str(exhausted_message(error.value))


@pytest.mark.parametrize("error", [*(error for error, _ in MEMORY), os_error(errno.EMFILE)], ids=repr)
def test_what_could_not_be_read_for_lack_of_memory_is_whole(error: BaseException) -> None:
    with pytest.raises(type(error)):
        raise_if_exhausted(error)


@pytest.mark.parametrize(
    "error",
    [
        pa.ArrowMemoryError("malloc of size 9151314442816847872 failed"),  # a size that damaged data names
        pa.ArrowInvalid("File is too small: 3"),
        os_error(errno.EIO),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    ],
)
def test_damage_stays_damage(error: BaseException) -> None:
    raise_if_exhausted(error)


def test_a_panic_is_an_error_of_the_job() -> None:
    with pytest.raises(RuntimeError, match=r"^the library panics$"), panics_as_errors():
        raise PanicException("no threads")
    with pytest.raises(KeyboardInterrupt), panics_as_errors():
        raise KeyboardInterrupt


READERS = {
    "arrow": lambda folder: open_arrow(str(folder / "rows.arrow")),
    "jsonl": lambda folder: FileAccessLayer(location=folder).read("rows"),
    "artifact": lambda folder: FolderArtifactLayer(location=folder).open("rows"),
    "manifest file": lambda folder: JSONFileObjectLayer(location=folder).read("rows"),
    "manifests": lambda folder: ObjectAccessLayer(location=folder).read("rows"),
}


@pytest.mark.parametrize("reader", READERS)
def test_too_many_open_files_are_no_damage(reader: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = READERS[reader]
    raised: BaseException | None = None
    (tmp_path / "rows.jsonl").write_text('{"src": "a", "tgt": "b"}\n')
    JSONFileObjectLayer(location=tmp_path).create("rows", {"a": 1})
    ObjectAccessLayer(location=tmp_path).create("rows", {"a": 1})
    FolderArtifactLayer(location=tmp_path).get_or_build("rows", lambda path: path.joinpath("x").touch(), {})

    def refuse(*_: object, **__: object) -> None:
        raise os_error(errno.EMFILE)

    owners = (
        (pa, "memory_map"),
        (Path, "read_bytes"),
        (Path, "read_text"),
        (Path, "open"),
        (builtins, "open"),
        (os, "open"),
    )
    with monkeypatch.context() as patched:
        for owner, name in owners:
            patched.setattr(owner, name, refuse)
        try:
            read(tmp_path)
        except BaseException as error:
            raised = error
    assert isinstance(raised, OSError), repr(raised)
    assert raised.errno == errno.EMFILE
