"""Cache of machine code that numba compiled: compiled once per machine, stored in a file, and run without numba.

numba's own cache also avoids a compilation. But every process that reads from it has to start numba, which takes half a
second and 100 MB. Here, a process that finds the file only needs llvmlite, which loads the code into memory; functions
are called by address.
"""

import ctypes
import hashlib
import importlib.util
import logging
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from filelock import FileLock

from mtx.library_errors import library_reason

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 120  # a compilation takes seconds; a process that has waited this long compiles by itself
DISABLE_VARIABLE = "NUMBA_DISABLE_JIT"  # a variable of numba, like CACHE_FOLDER_VARIABLE
CACHE_FOLDER_VARIABLE = "NUMBA_CACHE_DIR"
DIGEST_BYTES = hashlib.sha256().digest_size
DECLARATION = re.compile(r"^declare [^@]*@([^(]+)\(", re.MULTILINE)
UNUSED_DEFINITION = re.compile(
    r"^define linkonce_odr void @NRT_decref\(.*?^}$", re.MULTILINE | re.DOTALL
)  # numba adds this function to every module

Function = Callable[[int], int]


def cached_functions(
    name: str, compiled: Callable[[], Mapping[str, Any]], *, sources: Sequence[str]
) -> dict[str, Function] | None:
    """Return functions as machine code, by name, or None if they are not available; the log then gives the reason.

    If several processes start together, one compiles and the others wait for it. The functions release the interpreter
    lock.

    Args:
        name: start of the file's name; a hash of everything that decides the machine code is added.
        compiled: imports numba and returns the compiled functions by name. Their signature is `void(int64)` without
            wrappers, they call no external function, and they cannot raise. Called only if no file is found.
        sources: names of the modules whose source text decides the machine code.
    """
    if os.environ.get(DISABLE_VARIABLE, "0") not in ("", "0"):
        return None
    try:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        return _loaded_functions(
            binding, _cached_code(f"{name}-{_cache_key(binding, sources)}.o", lambda: _object_file(binding, compiled()))
        )
    except ModuleNotFoundError:  # numba is optional
        return None
    except (ImportError, OSError, RuntimeError) as error:  # for example, numpy is newer than numba supports
        log.warning(
            "compiled functions are not available, so batches are built by numpy, which is slower: %s",
            library_reason(error),
        )
        return None


def _cache_key(binding: Any, sources: Sequence[str]) -> str:
    """Return a hash of what decides the machine code: versions of numba and llvmlite, processor, source modules."""
    digest = hashlib.sha256()
    for part in (version("numba"), version("llvmlite"), binding.get_process_triple(), *_processor(binding)):
        digest.update(part.encode() + b"\0")
    for source in sources:
        spec = importlib.util.find_spec(source)
        assert spec is not None and spec.origin is not None  # noqa: PT018  # modules of mtx itself
        digest.update(Path(spec.origin).read_bytes() + b"\0")
    return digest.hexdigest()[:20]


def _processor(binding: Any) -> tuple[str, str]:
    return binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def _cache_folders() -> Iterator[Path]:
    """Yield the folders in which compiled code may be stored, the preferred folder first."""
    if told := os.environ.get(CACHE_FOLDER_VARIABLE):
        yield Path(told)
        return
    yield Path(__file__).parent / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtx"


def _cached_code(name: str, make: Callable[[], bytes]) -> bytes:
    """Return the content of the file `name` in a cache folder. If no folder has it, call `make` and store the result.

    Raises:
        RuntimeError: no cache folder is writable, so every process would have to compile.
    """
    for folder in _cache_folders():
        if (code := _read_code(folder / name)) is not None:
            return code
    for folder in _cache_folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        with _compile_lock(folder / f"{name}.lock"):
            if (code := _read_code(folder / name)) is None:
                code = make()
                _write_code(folder / name, code)
        return code
    raise RuntimeError(
        f"compiled code cannot be stored: none of the folders {', '.join(map(str, _cache_folders()))} is writable. "
        f"Set the environment variable {CACHE_FOLDER_VARIABLE} to a writable folder"
    )


@contextmanager
def _compile_lock(path: Path) -> Iterator[None]:
    """Wait until no other process compiles the same file.

    If the lock is not available, continue without it: it only saves time.
    """
    lock = FileLock(path, timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except OSError as error:  # includes filelock's Timeout
        log.warning("compiling without waiting for other processes: %s", library_reason(error))
    try:
        yield
    finally:
        lock.release()


def _read_code(path: Path) -> bytes | None:
    """Return the machine code in a file, or None if the file is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == content[:DIGEST_BYTES] else None


def _write_code(path: Path, code: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # readable by other users of the same installation
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _object_file(binding: Any, functions: Mapping[str, Any]) -> bytes:
    """Return an object file of the compiled functions, preceded by a line with their names.

    Raises:
        RuntimeError: a function calls an external function.
    """
    linked = binding.parse_assembly("")
    for name, function in functions.items():
        (signature,) = function.signatures
        text = UNUSED_DEFINITION.sub("", function.inspect_llvm(signature))
        needed = [found for found in DECLARATION.findall(text) if text.count(f"@{found}(") > 1]
        if others := [found for found in needed if not found.startswith("llvm.")]:
            raise RuntimeError(f"the compiled function {name} calls external functions: {', '.join(others)}")
        module = binding.parse_assembly(text)
        module.get_function(function.overloads[signature].fndesc.llvm_func_name).name = name
        linked.link_in(module)
    code: bytes = _target_machine(binding).emit_object(linked)
    return " ".join(functions).encode() + b"\n" + code


def _target_machine(binding: Any) -> Any:
    cpu, features = _processor(binding)
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)


def _loaded_functions(binding: Any, kept: bytes) -> dict[str, Function]:
    """Load an object file into memory, where it stays until the process ends, and return its functions by name."""
    names, _, code = kept.partition(b"\n")
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _target_machine(binding))
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    # numba's calling convention: the first two arguments are addresses for a result and an exception. These functions
    # have neither; the return value is 0.
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    found = names.decode().split()
    return {name: partial(kind(engine.get_function_address(name)), _nowhere, _nowhere) for name in found}


_engines: list[Any] = []  # keeps each engine, since its machine code is freed with it
_nowhere = ctypes.create_string_buffer(64)
