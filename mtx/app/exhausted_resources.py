"""One line for errors that say that memory, disk space, files or threads are exhausted, from any library."""

import errno
from collections.abc import Iterator

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
    ),
)
LONGEST_DETAIL = 160  # characters of the error that the line quotes
MEMORY_ADVICE = (
    "Free memory, or raise the limit (`ulimit -v`, or that of the container). A smaller model, a smaller "
    "sampler.max_tokens, tokenizer.max_train_pairs or datamodule.num_workers=0 needs less"
)


def exhausted_message(error: BaseException) -> str | None:
    """Return the line for an error, or None if it and its causes say nothing about exhausted resources."""
    for each in _with_causes(error):
        number = each.errno if isinstance(each, OSError) else None
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
    if not isinstance(error, RuntimeError | ImportError | SystemError | OSError):
        return False
    told = str(error).lower()
    return any(words in told for words in MEMORY_WORDS)


def _detail(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    told = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return told if len(told) <= LONGEST_DETAIL else f"{told[:LONGEST_DETAIL]}…"
