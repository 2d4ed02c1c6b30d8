"""Errors of exhausted memory, disks and files get one line, also as the cause of another error."""

import errno
import os

import numpy as np
import pyarrow as pa
import pytest

from mtx.exhausted_resources import exhausted_message


def os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/some/file")


MEMORY = [
    MemoryError(),
    MemoryError("Unable to allocate 8.00 TiB for an array with shape (1099511627777,)\nmore"),
    pa.ArrowMemoryError("malloc of size 2147483648 failed"),
    RuntimeError("can't start new thread"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"),
    RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("std::bad_alloc"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
    os_error(errno.ENOMEM),
    os_error(errno.EAGAIN),
]


@pytest.mark.parametrize("error", MEMORY)
def test_too_little_memory_gets_one_line(error: BaseException) -> None:
    told = exhausted_message(error)
    assert told is not None
    assert told.startswith(f"there is too little memory: {type(error).__name__}")
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
    assert "MemoryError: no room" in str(exhausted_message(error))


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
