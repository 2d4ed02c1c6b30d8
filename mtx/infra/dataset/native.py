"""Machine code of functions that numba compiles: made once on a machine, kept in a file, and run without numba.

numba's own cache spares compiling, but each process that reads from it starts numba: half a second and 100 MB. Here a
process that finds the file needs llvmlite alone, to place the code into memory, and calls it by its address.
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

log = logging.getLogger(__name__)

LOCK_TIMEOUT_S = 120  # a compilation takes seconds; whoever has waited this long compiles by itself
OFF = "NUMBA_DISABLE_JIT"  # numba's own name for it, as is the next one
FOLDER = "NUMBA_CACHE_DIR"
DIGEST_BYTES = hashlib.sha256().digest_size
DECLARED = re.compile(r"^declare [^@]*@([^(]+)\(", re.MULTILINE)
UNUSED = re.compile(r"^define linkonce_odr void @NRT_decref\(.*?^}$", re.MULTILINE | re.DOTALL)  # numba adds it to all

Function = Callable[[int], int]


def load(name: str, compiled: Callable[[], Mapping[str, Any]], *, sources: Sequence[str]) -> dict[str, Function] | None:
    """Return functions as machine code, by their names, or None where they cannot be had; the log says why.

    Of processes that start together, one compiles and the others wait for it. Functions release the interpreter's lock.

    Args:
        name: of the file, to which is added what the machine code depends on.
        compiled: imports numba and returns functions that it has compiled, `void(int64)` without wrappers, that call
            nothing outside and cannot raise. Called only where there is no file.
        sources: modules whose text decides the machine code.
    """
    if os.environ.get(OFF, "0") not in ("", "0"):
        return None
    try:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        return _placed(binding, _kept(f"{name}-{_key(binding, sources)}.o", lambda: _object(binding, compiled())))
    except ModuleNotFoundError:  # numba is not installed, and that is no fault
        return None
    except (ImportError, OSError, RuntimeError) as error:  # as with a numpy that is newer than this numba
        log.warning("what could be compiled is done by numpy, at a fraction of the rate: %s", error)
        return None


def _key(binding: Any, sources: Sequence[str]) -> str:
    """Return what the machine code depends on, as one word."""
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


def _folders() -> Iterator[Path]:
    """Yield where compiled code may be kept, the best place first."""
    if told := os.environ.get(FOLDER):
        yield Path(told)
        return
    yield Path(__file__).parent / "__pycache__"
    yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mtx"


def _kept(name: str, make: Callable[[], bytes]) -> bytes:
    """Return what the file `name` holds, in any of the folders; where none has it, make and keep it.

    Raises RuntimeError where no folder can be written: each process would compile anew.
    """
    for folder in _folders():
        if (code := _read(folder / name)) is not None:
            return code
    for folder in _folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        with _alone(folder / f"{name}.lock"):
            if (code := _read(folder / name)) is None:
                code = make()
                _write(folder / name, code)
        return code
    raise RuntimeError(
        f"what is compiled cannot be kept: none of {', '.join(map(str, _folders()))} can be written. "
        f"Set the environment variable {FOLDER} to a folder that can"
    )


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Wait for whoever compiles. The lock saves time only, so where it cannot be had, all compile."""
    lock = FileLock(path, timeout=LOCK_TIMEOUT_S)
    try:
        lock.acquire()
    except OSError as error:  # a timeout is one too
        log.warning("compiling without waiting for other processes: %s", error)
    try:
        yield
    finally:
        lock.release()


def _read(path: Path) -> bytes | None:
    """Return the code in a file; None where it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    code = content[DIGEST_BYTES:]
    return code if hashlib.sha256(code).digest() == content[:DIGEST_BYTES] else None


def _write(path: Path, code: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(code).digest() + code)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # for other users of the same installation
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _object(binding: Any, functions: Mapping[str, Any]) -> bytes:
    """Return an object file of compiled functions, and their names. Raises RuntimeError where one needs others."""
    linked = binding.parse_assembly("")
    for name, function in functions.items():
        (signature,) = function.signatures
        text = UNUSED.sub("", function.inspect_llvm(signature))
        needed = [found for found in DECLARED.findall(text) if text.count(f"@{found}(") > 1]
        if others := [found for found in needed if not found.startswith("llvm.")]:
            raise RuntimeError(f"the compiled function {name} needs {', '.join(others)}")
        module = binding.parse_assembly(text)
        module.get_function(function.overloads[signature].fndesc.llvm_func_name).name = name
        linked.link_in(module)
    code: bytes = _machine(binding).emit_object(linked)
    return " ".join(functions).encode() + b"\n" + code


def _machine(binding: Any) -> Any:
    cpu, features = _processor(binding)
    target = binding.Target.from_triple(binding.get_process_triple())
    return target.create_target_machine(cpu=cpu, features=features, opt=3, codemodel="jitdefault", jit=True)


def _placed(binding: Any, kept: bytes) -> dict[str, Function]:
    """Place an object file into memory, for as long as the process lives, and return its functions."""
    names, _, code = kept.partition(b"\n")
    engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _machine(binding))
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    _engines.append(engine)
    # numba's own convention: places for a result and an exception, neither of which there is; returns 0.
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    found = names.decode().split()
    return {name: partial(kind(engine.get_function_address(name)), _nowhere, _nowhere) for name in found}


_engines: list[Any] = []  # memory goes with its engine
_nowhere = ctypes.create_string_buffer(64)
