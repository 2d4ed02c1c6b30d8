"""Start Python subprocesses quickly, by forking a server that has already imported the slow packages.

One server for each pytest process imports torch, Lightning and the command once, and forks for each subprocess. Tests
of a cold start (imports, environment variables that are read on import) must run `sys.executable` instead.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerContext, ForkServerProcess
from multiprocessing.forkserver import _forkserver  # type: ignore[attr-defined]
from pathlib import Path
from types import ModuleType

import pytest

PRELOADED = [
    *(
        "pytest",
        "pytorch_lightning",
        "mtx.app.command",
        "mtx.experiment.run_context",
        "mtx.experiment.fit",
        "mtx.page.render",
    ),
    *("mtx.training.datamodule", "mtx.training.reference.transformer", "mtx.sweep.terminal_summary"),
    *("pandas", "s3fs", "matplotlib.backends.backend_svg"),
    "warm_caches",  # last, since it leaves out of the garbage collection what is there
]


def server_cpu_s() -> float:
    """Return the CPU time of the server's finished subprocesses in seconds; 0 without a server or without /proc."""
    stat = Path(f"/proc/{getattr(_forkserver, '_forkserver_pid', None)}/stat")
    if not stat.exists():
        return 0.0
    ticks = stat.read_text().rpartition(")")[2].split()[13:15]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def server() -> ForkServerContext:
    """Start the server if it does not run yet, and return the context of `multiprocessing` whose processes it forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # to import `warm_caches`
        _forkserver.ensure_running()
    return context


class WarmProcess:
    """A subprocess `python COMMAND...`, forked from the server. Its output goes to files, readable while it runs.

    Args:
        command: `-m MODULE`, `-c CODE` or a file, and the arguments.
        folder: for the output files.
        cwd: the working folder.
        environment: the variables of the subprocess, instead of those of this process.
        terminal: the path of a terminal that becomes input, output and error stream; None: files get the output.
        undrawn: whether each plot of a page is empty, as with the fixture `undrawn`.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        folder: Path,
        cwd: Path,
        environment: Mapping[str, str],
        terminal: str | None = None,
        undrawn: bool = False,
    ) -> None:
        self.out_path, self.err_path = folder / "out", folder / "err"
        context = server()
        outputs = (self.out_path, self.err_path)
        self.process: ForkServerProcess = context.Process(
            target=_serve, args=(command, outputs, cwd, environment, terminal, undrawn)
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the negative signal number that ended the process; None while the process runs."""
        return self.process.exitcode

    def wait(self, timeout: float) -> subprocess.CompletedProcess[str]:
        """Wait until the process ends, and return its output. Raises TimeoutExpired after `timeout` seconds."""
        self.process.join(timeout)
        if self.returncode is None:
            raise self._late(timeout)
        return subprocess.CompletedProcess(["python"], self.returncode, *self._printed())

    def wait_for(self, text: str, timeout: float) -> None:
        """Wait until the process has printed `text`. Raises TimeoutExpired, also if the process ends before that."""
        deadline = time.monotonic() + timeout
        while text not in self._printed()[0]:
            if self.returncode is not None or time.monotonic() > deadline:
                raise self._late(timeout)
            time.sleep(0.01)

    def _printed(self) -> list[str]:
        return [path.read_text() if path.exists() else "" for path in (self.out_path, self.err_path)]

    def _late(self, timeout: float) -> subprocess.TimeoutExpired:
        return subprocess.TimeoutExpired(["python"], timeout, *self._printed())

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)


@contextmanager
def started(
    *command: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, undrawn: bool = False
) -> Iterator[WarmProcess]:
    """Start `python COMMAND...`, and kill it at the end of the block; a command is `-m MODULE`, `-c CODE` or a file."""
    with tempfile.TemporaryDirectory() as folder:
        words = tuple(map(str, command))
        environment = dict(os.environ if env is None else env)
        process = WarmProcess(words, Path(folder), cwd or Path.cwd(), environment, undrawn=undrawn)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)  # also kills the processes that the command started
            process.process.join()
            process.process.close()


def run(
    *command: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 110,
    undrawn: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Run `python COMMAND...` until it ends, and return its output. Raises TimeoutExpired after `timeout` seconds."""
    with started(*command, cwd=cwd, env=env, undrawn=undrawn) as process:
        return process.wait(timeout)


def leave_plots_empty(patch: pytest.MonkeyPatch) -> None:
    """Replace every plot by an empty one, because drawing takes longer than the rest of a small run."""
    from mtx.page.plots.matplotlib_svg import Figures, Plot

    patch.setattr(Figures, "draw", lambda *_, label, **__: Plot("", label))


def _serve(
    command: tuple[str, ...],
    outputs: tuple[Path, Path],
    cwd: Path,
    environment: Mapping[str, str],
    terminal: str | None,
    undrawn: bool,
) -> None:
    """Behave as `python COMMAND...` in a fork of the server."""
    os.setsid()
    if terminal is not None:
        opened = os.open(terminal, os.O_RDWR)  # the first terminal that a session leader opens controls the session
        for descriptor in range(3):
            os.dup2(opened, descriptor)
        # The streams of the server belong to a file or a pipe, which they may seek in.
        sys.stdin = sys.__stdin__ = open(0, closefd=False)  # type: ignore[misc]  # noqa: SIM115
        sys.stdout = sys.__stdout__ = open(1, "w", buffering=1, closefd=False)  # type: ignore[misc]  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, closefd=False)  # type: ignore[misc]  # noqa: SIM115
    else:
        for descriptor, path in enumerate(outputs, start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    multiprocessing.set_start_method(None, force=True)  # resets to the default; the fork has inherited `forkserver`
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    if undrawn:
        leave_plots_empty(pytest.MonkeyPatch())  # of this process alone
    option, *arguments = command
    code = 1
    try:
        if option == "-m":
            sys.argv = arguments
            sys.path.insert(0, str(cwd))
            runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
        elif option == "-c":
            sys.argv = ["-c", *arguments[1:]]
            sys.path.insert(0, "")
            main = sys.modules["__main__"] = ModuleType("__main__")
            exec(compile(arguments[0], "<string>", "exec"), main.__dict__)
        else:
            sys.argv = [option, *arguments]
            sys.path.insert(0, str(Path(option).parent))
            runpy.run_path(option, run_name="__main__")
        code = 0
    except SystemExit as stop:
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.exit(code)
