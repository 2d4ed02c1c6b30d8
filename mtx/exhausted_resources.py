"""One line for errors that say that memory, disk space, files or threads are exhausted, from any library."""

import errno
import mmap
import re
from collections.abc import Iterator
from contextlib import contextmanager

from mtx.library_errors import library_reason, system_number

MEMORY_NUMBERS = (errno.ENOMEM, errno.EAGAIN)  # EAGAIN: no further process or thread
DISK_NUMBERS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
FILE_NUMBERS = (errno.EMFILE, errno.ENFILE)
# Words of RuntimeError, ImportError, SystemError and others, by which libraries say that memory is exhausted.
MEMORY_WORDS = (
    *(
        "can't start new thread",
        "can't allocate memory",
        "cannot allocate memory",
        "out of memory",
        "not enough memory",
    ),
    *(
        "bad_alloc",
        "failed to map segment",
        "unable to mmap",
        "memory allocation of",
        "resource temporarily unavailable",
        "failed to launch worker thread",
    ),
)
RESERVE = [mmap.mmap(-1, 8 << 20)]  # address space, freed before a message is made, since that needs memory itself
PANIC_MODULE = "pyo3_runtime"  # of the exception for a panic of tokenizers, which is a BaseException
ASKED_SIZE = re.compile(r"(?:size|allocate|allocation of) (\d+(?:\.\d+)?)(?: ([KMGTP]i?B))?")
LARGEST_ALLOCATION = 1 << 36  # bytes that a library may need to read whole data
MEMORY_ADVICE = (
    "Free memory, or raise the limit (`ulimit -v`, or that of the container). A smaller model, a smaller "
    "sampler.max_tokens, tokenizer.max_train_pairs or datamodule.num_workers=0 needs less"
)


def exhausted_message(error: BaseException) -> str | None:
    """Return the line for an error, or None if it and its causes say nothing about exhausted resources."""
    RESERVE.clear()
    for each in _with_causes(error):
        number = system_number(each)
        if isinstance(each, MemoryError) or number in MEMORY_NUMBERS or _names_memory(each):
            return f"there is too little memory: {_detail(each)}. {MEMORY_ADVICE}"
        if number in FILE_NUMBERS:
            return f"there are too many open files: {_detail(each)}. Raise the limit with `ulimit -n 4096`"
        if number in DISK_NUMBERS:
            return (
                f"the disk refuses a write: {_detail(each)}. Free disk space, or choose another folder with "
                "hydra.run.dir=FOLDER, and for the store with storage.root=FOLDER"
            )
    return None


def raise_if_exhausted(error: BaseException) -> None:
    """Raise an error again that says that memory or open files are exhausted: the data that it could not read is whole.

    An allocation of more than `LARGEST_ALLOCATION` bytes is left: a size that damaged data names.
    """
    for each in _with_causes(error):
        number = system_number(each)
        asked = re.search(r"(?:size|allocate) (\d+)", str(each))
        if asked and int(asked[1]) > LARGEST_ALLOCATION:
            continue
        if isinstance(each, MemoryError) or number in (*MEMORY_NUMBERS, *FILE_NUMBERS) or _names_memory(each):
            raise error


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Convert a panic of a Rust library in the body of the `with` statement, which is no Exception, to RuntimeError."""
    try:
        yield
    except BaseException as error:
        if type(error).__module__ != PANIC_MODULE:
            raise
        raise RuntimeError("the library panics") from error


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop(0)
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def _names_memory(error: BaseException) -> bool:
    is_native = type(error).__module__.partition(".")[0] in ("pyarrow", PANIC_MODULE)
    if not is_native and not isinstance(error, RuntimeError | ImportError | SystemError | OSError):
        return False
    told = str(error).lower()
    return any(words in told for words in MEMORY_WORDS)


def _detail(error: BaseException) -> str:
    """Return what could not be had, in words of mtx, with the size if the library names it."""
    if system_number(error) is not None:
        return library_reason(error)
    if asked := ASKED_SIZE.search(str(error)):
        return f"an allocation of {asked[1]} {asked[2] or 'bytes'} fails"
    if "thread" in str(error):
        return "no further thread starts"
    return "a library cannot be loaded" if isinstance(error, ImportError) else "an allocation fails"
